"""From a recipe's words to the objects it means: data, stream, network, method."""

import os
from pathlib import Path
from typing import assert_never

import torch
from supsup_core import FrozenNetwork, MaskBank, keep_weights
from supsup_core.packed_bits import row_bytes
from supsup_datasets import ImageDataset, PermutedStream, TaskStream, embedded_mnist, mnist
from torch import nn

from supsup_methods.backbones import fully_connected
from supsup_methods.errors import UsageError
from supsup_methods.experiment import PermutedMnist, Recipe
from supsup_methods.supsup import SupSup

# Frozen weights, their copy in the module, scores, two optimiser tensors, effective weights, gradients twice.
_FLOATS_PER_WEIGHT = 8
_COPIES_OF_A_BATCH = 6  # pixels as bytes and indices, floats, activations and their gradients
_MOST_TASKS_AT_ONCE = 256  # a stop loses the tasks in flight, and more than this gain nothing


def load_dataset(data_root: Path | None) -> ImageDataset:
    """Return full MNIST from `data_root` (downloaded there if absent), or the embedded digits if none is named."""
    return embedded_mnist() if data_root is None else mnist(data_root, download=True)


def build_stream(recipe: Recipe, dataset: ImageDataset) -> TaskStream:
    """Return the recipe's stream of tasks over a data set."""
    match recipe.stream:
        case PermutedMnist():
            return PermutedStream(dataset, recipe.tasks, recipe.seed)
        case _:
            assert_never(recipe.stream)


def build_network(recipe: Recipe, dataset: ImageDataset, device: torch.device) -> FrozenNetwork:
    """Return the recipe's frozen network; its weights depend on the seed and the layers alone."""
    with device:
        return FrozenNetwork(_backbone(recipe, dataset), recipe.seed)


def mask_bits(recipe: Recipe, dataset: ImageDataset) -> int:
    """Return the bits of one task's mask, without making any weight."""
    with torch.device("meta"):
        return FrozenNetwork(_backbone(recipe, dataset), recipe.seed, init=keep_weights).num_bits


def refuse_impossible(recipe: Recipe, dataset: ImageDataset, tasks_at_once: int = 1) -> None:
    """Check what no single field can tell: whether the parts of a recipe go together, with this data, on this machine.

    Raises:
        UsageError: they do not.
    """
    labels, outputs = dataset.train.num_labels, recipe.backbone.outputs
    if recipe.method.inference.objective == "G" and outputs <= labels:
        raise UsageError(
            f"--method.inference.objective G: with {outputs} outputs and {labels} labels no neuron is superfluous, so G has no "
            "gradient; ask for more --backbone.outputs, or for objective H"
        )
    late = [number for number in recipe.evaluation.checkpoints if number > recipe.tasks]
    if late:
        raise UsageError(
            f"--evaluation.checkpoints {late[0]}: the run ends after --tasks {recipe.tasks}; leave it out, or learn more"
        )
    together = min(tasks_at_once, recipe.tasks)
    needed = together * mask_bits(recipe, dataset) * 4 * _FLOATS_PER_WEIGHT
    needed += recipe.tasks * row_bytes(mask_bits(recipe, dataset))
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > available:
        raise UsageError(
            f"--backbone.hidden, --tasks, --tasks-at-once: training takes about {needed / 1e9:.1f} GB of memory and this machine "
            f"has {available / 1e9:.1f} GB; choose a narrower network, fewer tasks, or fewer at once"
        )


def default_tasks_at_once(recipe: Recipe, dataset: ImageDataset, device: torch.device) -> int:
    """Return how many tasks are best trained side by side: on a GPU as many as fit, on a CPU one, as more save nothing."""
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    batch_floats = recipe.method.training.batch_size * (
        dataset.train.images[0].numel() + sum(recipe.backbone.hidden) + recipe.backbone.outputs
    )
    needed = 4 * (_FLOATS_PER_WEIGHT * mask_bits(recipe, dataset) + _COPIES_OF_A_BATCH * batch_floats)
    return max(1, min(recipe.tasks, _MOST_TASKS_AT_ONCE, int(0.8 * free) // needed))


def build_method(recipe: Recipe, net: FrozenNetwork, bank: MaskBank, dataset: ImageDataset) -> SupSup:
    """Return the recipe's method over a network and the masks learned so far."""
    return SupSup(net, bank, recipe.method, dataset.train.num_labels, recipe.seed)


def _backbone(recipe: Recipe, dataset: ImageDataset) -> nn.Module:
    return fully_connected(dataset.train.images[0].numel(), recipe.backbone.hidden, recipe.backbone.outputs)
