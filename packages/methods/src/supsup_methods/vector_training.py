"""Learning rank-one vectors r and s over weights W, and W with them where it is not frozen (Appendix C).

Two forward passes that say the same: f(x, W ⊙ (s rᵀ)) for any network (Eq. 10), and for chains of linear layers
((X ⊙ R) W) ⊙ S (Eq. 12), which forms neither effective weights nor a gradient of frozen ones.
"""

from collections.abc import Mapping
from typing import TypeAlias

import torch
from jaxtyping import Float
from supsup_core import FrozenNetwork, Weights
from supsup_core.linear_chain import LinearChain
from supsup_core.random_streams import normal, signs, stream_key
from supsup_core.weight_init import kaiming_std
from torch import Tensor, nn
from torch.nn.functional import linear

from supsup_methods.gradients import Forward

TaskTensors: TypeAlias = Mapping[str, Tensor]
"""What a task has of its own, in memory as in its file: `r.NAME`, `s.NAME`, `head.NAME` and `buffers.NAME` by a parameter's or
running statistic's NAME."""


def of_kind(tensors: TaskTensors, kind: str) -> dict[str, Tensor]:
    """Return the tensors of a kind, by the names of their parameters."""
    return {name.removeprefix(f"{kind}."): value for name, value in tensors.items() if name.startswith(f"{kind}.")}


def as_kind(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo `of_kind`."""
    return {f"{kind}.{name}": value for name, value in tensors.items()}


def fresh_vectors(net: FrozenNetwork, seed: int, task: int) -> dict[str, Tensor]:
    """Return a task's r and s before training: fair signs for each maskable weight, as `r.NAME` and `s.NAME`."""
    vectors = {}
    for entry in net.maskable:
        for letter, size in (("r", entry.shape[1]), ("s", entry.shape[0])):
            key = stream_key(seed, f"batch-ensemble {letter}", task, entry.name)
            vectors[f"{letter}.{entry.name}"] = signs(key, (size,), net.device).to(net.dtype)
    return vectors


def fresh_head(net: FrozenNetwork, seed: int, task: int) -> dict[str, Tensor]:
    """Return Kaiming-normal weights for the last layer, of the task's own, as `head.NAME`."""
    entry = net.maskable[-1]
    drawn = normal(stream_key(seed, "head", task, entry.name), entry.shape, kaiming_std(entry.fan_in), net.device)
    return {f"head.{entry.name}": drawn.to(net.dtype)}


def training_forward(net: FrozenNetwork, buffers: Weights) -> Forward:
    """Return the forward pass to train by: vectorised (Eq. 12) where the network is a chain of linear layers.

    In what it trains, `trunk.NAME`, where it is there, stands in place of a frozen weight.

    Args:
        net: the network with the weights W.
        buffers: a task's running statistics, which the passes update in place.
    """
    chain = LinearChain.of(net, training=True)
    if chain is not None:
        return lambda images, values: vectorised_logits(chain, net, values, images)
    return lambda images, values: net.in_training(images, {**effective_weights(net, values), **buffers})


def vectorised_logits(
    chain: LinearChain, net: FrozenNetwork, values: TaskTensors, images: Float[Tensor, "images *input"]
) -> Float[Tensor, "images outputs"]:
    """Return f(X, W_i), each layer as ((X ⊙ R) W) ⊙ S with r and s in all rows of R and S (Eq. 12): no W_i is formed."""
    weights = {**net.frozen, **of_kind(values, "trunk"), **of_kind(values, "head")}
    r, s, x = of_kind(values, "r"), of_kind(values, "s"), images
    for prefix, layer in chain.layers:
        name = f"{prefix}.weight"
        if not isinstance(layer, nn.Linear):
            x = layer(x)
        elif name in r:
            x = linear(x * r[name], weights[name]) * s[name]
            x = x if layer.bias is None else x + layer.bias
        else:
            x = linear(x, weights.get(name, layer.weight), layer.bias)
    return x


def effective_weights(net: FrozenNetwork, values: TaskTensors) -> dict[str, Tensor]:
    """Return W ⊙ (s rᵀ) of each layer (Eq. 10), the positions of a kernel sharing a factor, and the head as it is."""
    weights = {**net.frozen, **of_kind(values, "trunk")}
    r, s = of_kind(values, "r"), of_kind(values, "s")
    products = {name: torch.outer(s[name], r[name]) for name in r}
    spread = {name: weights[name].shape[:2] + (1,) * (weights[name].ndim - 2) for name in r}
    return {name: weights[name] * products[name].view(spread[name]) for name in r} | of_kind(values, "head")
