"""Chains of linear layers, where the gradient of a weight is an outer product for each image, and need not be formed.

For y = W a and an objective O, dO/dW = (dO/dy) aᵀ. One forward and one backward pass over many images at once gives both
factors of all of them, and dO/dα_i = sum over layers of (dO/dy)ᵀ (W_i a): what the context of task i does to the input, seen
from the gradient of the output. The images must not see each other on their way, so only layers that are known to act on each
image alone are taken; for all other networks the gradients are formed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import linear

from supsup_core.frozen_network import FrozenNetwork
from supsup_core.shapes import Objective, OuterProducts, RankOneFactors, Weights

_ALONE = (
    *(nn.Flatten, nn.Identity, nn.LayerNorm),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus),
    *(nn.Sigmoid, nn.Tanh, nn.Hardsigmoid, nn.Hardtanh, nn.Hardswish, nn.LogSigmoid, nn.Softsign),
)
"""Layers that act on each image alone, whatever they hold. Their exact types: a subclass may do something else."""
_DROPOUT = (nn.Dropout, nn.AlphaDropout)
"""Layers that do nothing but in training."""


@dataclass(frozen=True)
class LinearChain:
    """The layers of nested `nn.Sequential`, in order, with the names of their parameters' prefixes."""

    layers: tuple[tuple[str, nn.Module], ...]

    @classmethod
    def of(cls, net: FrozenNetwork, *, training: bool = False) -> "LinearChain | None":
        """Return the chain that a network is, or None if it is none, or masks cover more than its linear weights.

        Args:
            net: the network.
            training: whether it must be one in training too, where there is dropout.
        """
        if type(net.module) is not nn.Sequential:
            return None
        layers = tuple(_layers(net.module, ""))
        weights = {f"{name}.weight" for name, layer in layers if type(layer) is nn.Linear}
        known = (nn.Linear, *_ALONE, *(() if training else _DROPOUT))
        alone = all(type(layer) in known and not layer.training for _, layer in layers)
        flattens = all(layer.start_dim == 1 for _, layer in layers if isinstance(layer, nn.Flatten))
        own = [id(parameter) for _, layer in layers for parameter in layer.parameters()]
        once = len({id(layer) for _, layer in layers}) == len(layers) and len(set(own)) == len(own)
        maskable = {entry.name for entry in net.maskable}
        plain = not any(_has_hooks(layer) or "forward" in vars(layer) for layer in net.module.modules())
        return cls(layers) if alone and flattens and once and plain and maskable <= weights else None

    def outer_products(
        self, objective: Objective, weights: Weights, x: Shaped[Tensor, "images *input"]
    ) -> dict[str, OuterProducts] | None:
        """Return for each linear weight the factors of every image's own gradient of its objective, a and dO/dy.

        None where a linear layer is applied at several positions of an image.
        """
        inputs: dict[str, Tensor] = {}
        outputs: dict[str, Tensor] = {}
        with torch.enable_grad():
            for name, layer in self.layers:
                if type(layer) is not nn.Linear:
                    x = _applied(layer, x)
                    continue
                if x.ndim != 2:
                    return None
                weight, bias = weights.get(f"{name}.weight", layer.weight), weights.get(f"{name}.bias", layer.bias)
                inputs[name] = x.detach().to(weight.dtype)  # autocast has another
                # A leaf in the first layer, where nothing else asks for a gradient.
                x = linear(x, weight.detach(), None if bias is None else bias.detach())
                x = x if x.requires_grad else x.requires_grad_()
                outputs[name] = x
            # The sum: each image's objective depends on its own outputs only.
            gradients = torch.autograd.grad(objective(x).sum(), list(outputs.values()))
        return {
            f"{name}.weight": (inputs[name], gradient.to(inputs[name].dtype))
            for name, gradient in zip(outputs, gradients, strict=True)
        }

    def rank_one_outputs(
        self, factors: Mapping[str, RankOneFactors], x: Shaped[Tensor, "images *input"]
    ) -> Float[Tensor, "tasks images outputs"]:
        """Return f(X, W ⊙ (s_i r_iᵀ)) of all images under several tasks at once, without a gradient (Appendix C, Eq. 14).

        The images are repeated for each task, X̃ (Eq. 13); every linear layer is ((X̃ ⊙ R̃) Wᵀ) ⊙ S̃ plus its bias, with W
        as torch holds it, (out, in): one matrix product, and no W ⊙ (s_i r_iᵀ) is formed.

        Args:
            factors: r and s of each maskable weight, one row a task, by name.
            x: the images.
        """
        tasks = len(next(iter(factors.values()))[0])
        with torch.no_grad():
            x = x.expand(tasks, *x.shape).flatten(0, 1)
            for name, layer in self.layers:
                if type(layer) is not nn.Linear or f"{name}.weight" not in factors:
                    x = _applied(layer, x)
                    continue
                r, s = factors[f"{name}.weight"]
                x = _by_task(linear(_by_task(x, r), layer.weight), s)
                x = x if layer.bias is None else x + layer.bias
        return x.unflatten(0, (tasks, -1))

    @property
    def floats_an_image(self) -> int:
        """How many numbers a pass keeps of each image, about."""
        return sum(layer.in_features + 2 * layer.out_features for _, layer in self.layers if type(layer) is nn.Linear)


def _applied(layer: nn.Module, x: Tensor) -> Tensor:
    """Return what a layer makes of its input, which stays as it is even if the layer works in place."""
    output: Tensor = layer(x.clone() if getattr(layer, "inplace", False) else x)
    return output


def _has_hooks(layer: nn.Module) -> bool:
    """Tell whether a layer does more than its class says."""
    return any(
        (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    )  # torch has no other way to ask


def _by_task(rows: Shaped[Tensor, "rows *features"], factors: Float[Tensor, "some last"]) -> Tensor:
    """Multiply the last axis of the rows, which are the same number for each task in turn, by the factors of their task."""
    by_task = rows.unflatten(0, (len(factors), -1))
    return (by_task * factors.view(len(factors), *[1] * (rows.ndim - 1), -1)).flatten(0, 1)


def _layers(module: nn.Sequential, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers in the order in which they are applied, each as often as it is."""
    names = {id(layer): name for name, layer in module.named_children()}  # a layer that comes twice has one entry
    for layer in module:
        name = f"{prefix}{names[id(layer)]}"
        if type(layer) is nn.Sequential:
            yield from _layers(layer, f"{name}.")
        else:
            yield name, layer
