"""The axis glossary. Every shape in this package is spelled with these names.

| axis | meaning |
|---|---|
| `tasks` | learned tasks, the k of the paper; index i |
| `images` | inputs shown at once |
| `groups`, `shown` | guesses made at once, and the images that each is made from |
| `objectives` | objectives of the same outputs, asked for at once |
| `outputs` | neurons of the last layer, the s of the paper, superfluous neurons included |
| `bits` | all maskable weights of a network, flattened and joined in the order of `FrozenNetwork.maskable` |
| `bytes` | `bits` packed eight to a byte and padded to whole 64-bit words: one row of a `MaskBank` |
| `values` | all running statistics of a task, flattened and joined in the order of `FrozenNetwork.task_buffers` |
| `vectors` | gradients, flattened like `bits`, that all rows are multiplied by |
| `new`, `some` | rows that are added, and rows of one block |
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from jaxtyping import Bool, Float
from torch import Tensor

Weights: TypeAlias = Mapping[str, Tensor]
"""Effective parameters (and buffers) by name, as `torch.func.functional_call` takes them."""

Masks: TypeAlias = Mapping[str, Bool[Tensor, "..."]]
"""One supermask M: a boolean tensor for each maskable parameter, by name."""

Logits: TypeAlias = Float[Tensor, "images *positions outputs"]
PerImage: TypeAlias = Float[Tensor, "images *positions"]
Objective: TypeAlias = Callable[[Logits], PerImage]
"""Logits to one scalar per image, to be minimised over beliefs; where an image has several outputs, their mean counts."""

OuterProducts: TypeAlias = tuple[Float[Tensor, "images in"], Float[Tensor, "images out"]]
"""The gradients of a weight of shape (out, in) for images one by one: a and g, of the outer products g aᵀ."""

RankOneFactors: TypeAlias = tuple[Float[Tensor, "some in"], Float[Tensor, "some out"]]
"""What some tasks multiply a frozen weight of shape (out, in) by: r over its inputs and s over its outputs, one row a task."""
