"""From a recipe's backbone to a module for the images at hand, and to its shapes."""

from typing import assert_never

import torch
from supsup_core import FrozenNetwork, keep_weights
from supsup_datasets import AnyDataset
from torch import nn

from supsup_methods.backbones import fully_connected, normalised_fully_connected, small_convolutional
from supsup_methods.errors import UsageError
from supsup_methods.experiment import (
    CifarResNet18,
    FullyConnected,
    NormalisedFullyConnected,
    OwnModel,
    Recipe,
    SmallConvolutional,
    TorchvisionModel,
)
from supsup_methods.vision_backbones import cifar_resnet18, own_model, torchvision_model


def build_backbone(recipe: Recipe, dataset: AnyDataset) -> nn.Module:
    """Return the module; what it draws at random, for weights that stay as they are made, it draws from the recipe's seed.

    Raises:
        UsageError: a network that is asked for by name is not there.
    """
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(recipe.seed)
        return _module(recipe, dataset)


def backbone_shapes(recipe: Recipe, dataset: AnyDataset) -> FrozenNetwork:
    """Return the network without any numbers in it; one of the user's own with them, as its function may need them."""
    with torch.device("cpu" if isinstance(recipe.backbone, OwnModel) else "meta"):
        return FrozenNetwork(build_backbone(recipe, dataset), recipe.seed, init=keep_weights)


def refuse_other_shapes(net: FrozenNetwork, recipe: Recipe, dataset: AnyDataset) -> None:
    """Make sure that a network takes the images at hand and has the outputs that the recipe says.

    Raises:
        UsageError: it does not.
    """
    shape, kind = dataset.image_shape, recipe.backbone.kind
    channels, height, width = shape
    images = f"images of {height} × {width} pixels and {channels} channel{'s' if channels > 1 else ''}"
    try:
        with torch.no_grad():
            answer = net.module(torch.zeros((2, *shape), device=net.device))
    except Exception as error:  # somebody else's module may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"--backbone.kind {kind}: it does not take {images} ({reason}); choose another backbone or stream"
        ) from None
    if not isinstance(answer, torch.Tensor):
        raise UsageError(
            f"--backbone.kind {kind}: it answers with a {type(answer).__name__}; a network returns one tensor of outputs"
        )
    found = tuple(answer.shape)
    if found != (2, recipe.backbone.outputs):
        raise UsageError(
            f"--backbone.kind {kind}: for two {images} it answers in shape {found}, not (2, {recipe.backbone.outputs}); "
            "choose another backbone, stream or --backbone.outputs"
        )


def describe_backbone(recipe: Recipe) -> str:
    """Return the network as a headline shows it: "300-100-500"."""
    match recipe.backbone:
        case FullyConnected() | NormalisedFullyConnected() | SmallConvolutional():
            return "-".join(str(width) for width in recipe.backbone.widths)
        case CifarResNet18(channels=channels, outputs=outputs):
            return f"a ResNet-18 of {channels} channels and {outputs} outputs"
        case TorchvisionModel(model=name, outputs=outputs) | OwnModel(factory=name, outputs=outputs):
            return f"{name} of {outputs} outputs"
        case _:
            assert_never(recipe.backbone)


def _module(recipe: Recipe, dataset: AnyDataset) -> nn.Module:
    shape = dataset.image_shape
    channels, height, width = shape
    match recipe.backbone:
        case FullyConnected(hidden=hidden, outputs=outputs):
            return fully_connected(channels * height * width, hidden, outputs)
        case NormalisedFullyConnected(hidden=hidden, outputs=outputs):
            return normalised_fully_connected(channels * height * width, hidden, outputs)
        case SmallConvolutional(channels=layers, outputs=outputs):
            return small_convolutional(shape, layers, outputs)
        case CifarResNet18(channels=base, outputs=outputs):
            return cifar_resnet18(channels, base, outputs)
        case TorchvisionModel(model=name, outputs=outputs):
            return torchvision_model(name, outputs)
        case OwnModel(factory=factory, outputs=outputs):
            return own_model(factory, outputs)
        case _:
            assert_never(recipe.backbone)
