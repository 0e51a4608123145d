"""Gradients of the mean cross-entropy over all outputs, by the names of weights: what every training step begins with.

Autograd builds a graph at every step, which for small networks takes as long as their matrix products. For chains of linear
layers and ReLU the products are enough: nothing is built, and each gradient is written where it is wanted. Autograd is the
oracle, and takes all other networks.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

import torch
from jaxtyping import Float
from supsup_core import FrozenNetwork, Weights
from supsup_core.linear_chain import LinearChain
from supsup_datasets import Batch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from supsup_methods.precision import Precision, matrix_products

Forward: TypeAlias = Callable[[Float[Tensor, "images *input"], Weights], Float[Tensor, "images outputs"]]
"""Images and the weights in training to logits."""

Loss: TypeAlias = Callable[[Weights, Batch], Tensor]
"""Weights in training and a batch to what is minimised."""


class Gradients(Protocol):
    """Gradients of a loss."""

    def write(self, weights: Weights, batch: Batch, out: Mapping[str, Tensor]) -> None:
        """Write dL/dw of each weight in training.

        Args:
            weights: those in training, by name.
            batch: what the loss is of.
            out: by the same names, of the same shapes; what is in them is lost.
        """


class ByAutograd:
    """Gradients of any loss.

    Args:
        loss: of the weights in training.
    """

    def __init__(self, loss: Loss) -> None:
        self._loss = loss

    def write(self, weights: Weights, batch: Batch, out: Mapping[str, Tensor]) -> None:
        """Write dL/dw of each weight in training, as `Gradients` says."""
        leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        with torch.enable_grad():
            found = torch.autograd.grad(self._loss(leaves, batch), list(leaves.values()))
        for name, gradient in zip(leaves, found, strict=True):
            out[name].copy_(gradient)


class ChainGradients:
    """Gradients for linear layers with ReLU between some of them.

    Args:
        layers: the linear layers in order, each with the name of its weight, and whether a ReLU follows.
        fixed: weights that are not in training, by name; of layers that have none here nor in training, their own.
    """

    def __init__(self, layers: tuple[tuple[str, nn.Linear, bool], ...], fixed: Weights) -> None:
        self._layers = layers
        self._weights = {name: layer.weight for name, layer, _ in layers} | dict(fixed)

    @classmethod
    def of(cls, net: FrozenNetwork, fixed: Weights) -> "ChainGradients | None":
        """Return them for a network that flattens, and then has linear layers with nothing but ReLU between; None for others."""
        chain = LinearChain.of(net, training=True)
        kinds = () if chain is None else tuple(type(layer) for _, layer in chain.layers)
        if chain is None or kinds[:2] != (nn.Flatten, nn.Linear) or kinds[-1] is not nn.Linear:
            return None
        if any(kind not in (nn.Linear, nn.ReLU) for kind in kinds[1:]) or chain.layers[0][1].end_dim != -1:
            return None
        layers = tuple(
            (f"{prefix}.weight", layer, kinds[place + 1 : place + 2] == (nn.ReLU,))
            for place, (prefix, layer) in enumerate(chain.layers)
            if isinstance(layer, nn.Linear)
        )
        return cls(layers, fixed)

    @torch.no_grad()
    def write(self, weights: Weights, batch: Batch, out: Mapping[str, Tensor]) -> None:
        """Write dL/dw of each weight in training, as `Gradients` says."""
        by_name, inputs, values = {**self._weights, **weights}, [], batch.images.flatten(1)
        for name, layer, rectified in self._layers:
            inputs.append(values)
            values = linear(values, by_name[name], layer.bias)
            if rectified:
                values.relu_()
        slopes = torch.softmax(values, dim=1)
        slopes.scatter_add_(1, batch.labels.unsqueeze(1), slopes.new_full((1, 1), -1.0).expand(len(slopes), 1))
        slopes.div_(len(slopes))
        lowest = min(place for place, (name, _, _) in enumerate(self._layers) if name in out)
        for place in range(len(self._layers) - 1, lowest - 1, -1):
            name = self._layers[place][0]
            if name in out:
                torch.mm(slopes.t(), inputs[place], out=out[name])
            if place > lowest:
                slopes = slopes.mm(by_name[name])
                if self._layers[place - 1][2]:
                    # By torch's own operator: choosing or filling takes 20 times as long.
                    slopes = torch.ops.aten.threshold_backward(slopes, inputs[place], 0)


def cross_entropy_loss(net: FrozenNetwork, precision: Precision, forward: Forward) -> Loss:
    """Return the mean cross-entropy over all outputs of a forward pass.

    Args:
        net: the network.
        precision: of matrix products; the loss itself has the network's.
        forward: of the images and the weights in training.
    """

    def loss(weights: Weights, batch: Batch) -> Tensor:
        with matrix_products(net, precision):
            logits = forward(batch.images, weights)
        return cross_entropy(logits.to(net.dtype), batch.labels)

    return loss


def forward_gradients(net: FrozenNetwork, precision: Precision, forward: Forward) -> Gradients:
    """Return gradients through any forward pass, as `cross_entropy_loss` has it."""
    return ByAutograd(cross_entropy_loss(net, precision, forward))


def chain_gradients(net: FrozenNetwork, precision: Precision, fixed: Weights) -> Gradients | None:
    """Return gradients by matrix products alone, or None where they are left to autograd; as `network_gradients`."""
    return ChainGradients.of(net, fixed) if precision == "float32" else None


def network_gradients(net: FrozenNetwork, precision: Precision, fixed: Weights) -> Gradients:
    """Return gradients through f(x, W) in training mode.

    Args:
        net: the network.
        precision: of matrix products.
        fixed: beside what is trained: weights, and running statistics, which every pass updates.
    """
    return chain_gradients(net, precision, fixed) or forward_gradients(
        net, precision, lambda images, trained: net.in_training(images, {**fixed, **trained})
    )
