"""What task inference asks about learned tasks, and nothing else: any store that answers can be searched."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from supsup_core.shapes import OuterProducts, Weights


@runtime_checkable
class ContextStore(Protocol):
    """The three questions that task inference asks about k learned tasks.

    With W_i the effective parameters of task i, and beliefs α on the simplex:
    """

    def __len__(self) -> int:
        """Return k."""

    def weights(self, task: int) -> Weights:
        """Return W_i."""

    def blend(self, beliefs: Float[Tensor, " tasks"]) -> Weights:
        """Return W(α) = sum_i α_i W_i."""

    def slopes(self, gradients: Mapping[str, Tensor]) -> Float[Tensor, "*rows tasks"]:
        """Return dO/dα_i = <dO/dW(α), W_i>, one for each task; leading axes of the gradients stay in front."""


@runtime_checkable
class OuterProductStore(ContextStore, Protocol):
    """A store that answers for gradients that are outer products without forming them, layer by layer."""

    def outer_slopes(self, gradients: Mapping[str, OuterProducts]) -> Float[Tensor, "images tasks"]:
        """Return what `slopes` returns of g aᵀ, for every image."""
