"""From a recipe's words to the objects it means: data, stream, network, method."""

from pathlib import Path

import torch
from supsup_core import FrozenNetwork, MaskBank, keep_weights
from supsup_datasets import ImageDataset, PermutedStream, TaskStream, embedded_mnist, mnist
from torch import nn

from supsup_methods.backbones import fully_connected
from supsup_methods.experiment import Recipe
from supsup_methods.supsup import SupSup


def load_dataset(data_root: Path | None) -> ImageDataset:
    """Return full MNIST from `data_root` (downloaded there if absent), or the embedded digits if none is named."""
    return embedded_mnist() if data_root is None else mnist(data_root, download=True)


def build_stream(recipe: Recipe, dataset: ImageDataset) -> TaskStream:
    """Return the recipe's stream of tasks over a data set."""
    return PermutedStream(dataset, recipe.tasks, recipe.seed)


def build_network(recipe: Recipe, dataset: ImageDataset, device: torch.device) -> FrozenNetwork:
    """Return the recipe's frozen network; its weights depend on the seed and the layers alone."""
    with device:
        return FrozenNetwork(_backbone(recipe, dataset), recipe.seed)


def mask_bits(recipe: Recipe, dataset: ImageDataset) -> int:
    """Return the bits of one task's mask, without making any weight."""
    with torch.device("meta"):
        return FrozenNetwork(_backbone(recipe, dataset), recipe.seed, init=keep_weights).num_bits


def build_method(recipe: Recipe, net: FrozenNetwork, bank: MaskBank, dataset: ImageDataset) -> SupSup:
    """Return the recipe's method over a network and the masks learned so far."""
    return SupSup(net, bank, recipe.method, dataset.train.num_labels, recipe.seed)


def _backbone(recipe: Recipe, dataset: ImageDataset) -> nn.Module:
    return fully_connected(dataset.train.images[0].numel(), recipe.backbone.hidden, recipe.backbone.outputs)
