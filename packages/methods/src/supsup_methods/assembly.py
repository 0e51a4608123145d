"""From a recipe's words to the objects it means: data, stream, network, method."""

import os
from pathlib import Path
from typing import Any, assert_never

import torch
from supsup_core import FrozenNetwork, keep_weights
from supsup_core.unit_masks import unit_widths
from supsup_datasets import (
    ImageDataset,
    LabelSpace,
    PermutedStream,
    RecurringStream,
    RotatedStream,
    Scenario,
    SplitStream,
    TaskStream,
    embedded_mnist,
    mnist,
    split_mnist,
)
from torch import nn

from supsup_methods.backbones import fully_connected, normalised_fully_connected, small_convolutional
from supsup_methods.continual_method import FEWEST_IMAGES, MethodKind, Opened, Problem, WholeGroups
from supsup_methods.errors import UsageError
from supsup_methods.experiment import (
    FullyConnected,
    NormalisedFullyConnected,
    PermutedMnist,
    Recipe,
    RecurringPermutedMnist,
    RotatedMnist,
    SmallConvolutional,
    SplitMnist,
)
from supsup_methods.registry import inference_of, kind_of

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
        case RotatedMnist():
            return RotatedStream(dataset, recipe.tasks, degrees_per_task=10.0)
        case RecurringPermutedMnist(distinct=distinct):
            return RecurringStream(PermutedStream(dataset, distinct, recipe.seed), recipe.tasks, recipe.seed)
        case SplitMnist():
            whole = split_mnist(dataset)
            return SplitStream(dataset, whole.partition[: recipe.tasks], whole.label_space)
        case _:
            assert_never(recipe.stream)


def build_problem(recipe: Recipe, dataset: ImageDataset, device: torch.device) -> Problem:
    """Return what the recipe's method is built for: backbone, labels, seed and device."""
    labels = build_stream(recipe, dataset)[0].num_labels
    return Problem(lambda: _backbone(recipe, dataset), labels, recipe.seed, device)


def open_method(recipe: Recipe, problem: Problem, folder: Path, whole_groups: WholeGroups | None) -> Opened:
    """Return the recipe's method over what a folder holds of it, or a fresh one.

    Args:
        recipe: of the run.
        problem: what the method is built for.
        folder: where `save` wrote; may be missing.
        whole_groups: how many of some tasks were trained in groups that end among them: damaged files are mended. None to
            read and change nothing.

    Raises:
        CorruptBank: a file is damaged, and nothing may be changed.
    """
    return kind_of(recipe.method).open(folder, recipe.method, problem, whole_groups)


def stored_bytes(recipe: Recipe, dataset: ImageDataset) -> int:
    """Return about what all tasks will take on disk, without making any weight."""
    return kind_of(recipe.method).stored_bytes(recipe.method, _shapes(recipe, dataset), recipe.tasks)


def refuse_impossible(recipe: Recipe, dataset: ImageDataset, tasks_at_once: int = 1) -> None:
    """Check what no single field can tell: whether the parts of a recipe go together, with this data, on this machine.

    Raises:
        UsageError: they do not.
    """
    _refuse_too_many_tasks(recipe)
    first = build_stream(recipe, dataset)[0]
    _refuse_outputs(recipe, first.num_labels)
    _refuse_scenario(recipe, first.label_space)
    _refuse_backbone(recipe, dataset)
    late = [number for number in recipe.evaluation.checkpoints if number > recipe.tasks]
    if late:
        raise UsageError(
            f"--evaluation.checkpoints {late[0]}: the run ends after --tasks {recipe.tasks}; leave it out, or learn more"
        )
    if tasks_at_once > 1 and not kind_of(recipe.method).side_by_side:
        raise UsageError(
            f"--tasks-at-once {tasks_at_once}: {recipe.method.kind} learns one task after the other; choose 1"
        )
    together = min(tasks_at_once, recipe.tasks)
    training = together * kind_of(recipe.method).working_bytes(_shapes(recipe, dataset))
    needed = training + stored_bytes(recipe, dataset)
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > available:
        raise UsageError(
            f"--backbone.hidden, --tasks, --tasks-at-once: training takes about {needed / 1e9:.1f} GB of memory and this machine "
            f"has {available / 1e9:.1f} GB; choose a narrower network, fewer tasks, or fewer at once"
        )


def default_tasks_at_once(recipe: Recipe, dataset: ImageDataset, device: torch.device) -> int:
    """Return how many tasks are best trained side by side: on a GPU as many as fit, on a CPU one, as more save nothing."""
    if device.type != "cuda" or not kind_of(recipe.method).side_by_side:
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    batch_floats = recipe.method.training.batch_size * (dataset.train.images[0].numel() + sum(recipe.backbone.widths))
    needed = kind_of(recipe.method).working_bytes(_shapes(recipe, dataset)) + 4 * _COPIES_OF_A_BATCH * batch_floats
    return max(1, min(recipe.tasks, _MOST_TASKS_AT_ONCE, int(0.8 * free) // needed))


def _refuse_too_many_tasks(recipe: Recipe) -> None:
    if isinstance(recipe.stream, RotatedMnist) and recipe.tasks > 36:
        raise UsageError(
            f"--tasks {recipe.tasks}: rotated-mnist turns by ten degrees a task, so 36 come full circle; ask for fewer"
        )
    if isinstance(recipe.stream, SplitMnist) and recipe.tasks > 5:
        raise UsageError(f"--tasks {recipe.tasks}: split-mnist has five pairs of digits; ask for 5 or fewer")


def _refuse_scenario(recipe: Recipe, labels: LabelSpace) -> None:
    scenario, kind = Scenario(recipe.evaluation.scenario), kind_of(recipe.method)
    allowed = kind.scenarios(recipe.method)
    if scenario not in allowed:
        why = _why_not(kind, scenario)
        raise UsageError(
            f"--evaluation.scenario {scenario.value}: {recipe.method.kind} {why}; choose "
            f"{' or '.join(each.value for each in allowed)}"
        )
    if scenario is Scenario.NNs and labels is LabelSpace.GLOBAL:
        raise UsageError(
            f"--evaluation.scenario NNs: the labels of {recipe.stream.kind} name their task, which is not hidden then; choose a "
            "stream whose tasks share labels"
        )
    if kind.masks_units and scenario is Scenario.GNu and labels is LabelSpace.LOCAL:
        raise UsageError(
            f"--evaluation.scenario GNu: {recipe.method.kind} answers with a label and no task, and {recipe.stream.kind} has the "
            "same labels in all tasks; choose GNs, or a stream whose labels name their task (split-mnist)"
        )


def _why_not(kind: MethodKind[Any], scenario: Scenario) -> str:
    if not kind.told_in_training:
        return "is never told the task"
    if scenario is Scenario.NNs:
        return "is told the task in training"
    return "keeps no mask by task" if kind.masks_units else "must be given the task of test images"


def _refuse_backbone(recipe: Recipe, dataset: ImageDataset) -> None:
    method, backbone = recipe.method.kind, recipe.backbone.kind
    normalised = bool(unit_widths(_shapes(recipe, dataset).module))
    if kind_of(recipe.method).masks_units and not normalised:
        raise UsageError(
            f"--backbone.kind {backbone}: {method} masks the units of normalisation layers, and this network has none; choose "
            "normalised-fully-connected or small-convolutional, with at least one hidden layer"
        )
    if kind_of(recipe.method).masks_units and recipe.evaluation.batch_size < FEWEST_IMAGES:
        raise UsageError(
            f"--evaluation.batch-size {recipe.evaluation.batch_size}: batch norm takes its statistics over a batch, of at least "
            "two images; choose a larger one"
        )
    if normalised and not kind_of(recipe.method).masks_units:
        raise UsageError(
            f"--backbone.kind {backbone}: {method} trains no network with batch norm yet; choose fully-connected"
        )


def _refuse_outputs(recipe: Recipe, labels: int) -> None:
    outputs, inference = recipe.backbone.outputs, inference_of(recipe.method)
    if outputs < labels:
        raise UsageError(
            f"--backbone.outputs {outputs}: a task has {labels} labels, and each needs an output; ask for {labels} or more"
        )
    if inference is not None and inference.objective == "G" and outputs == labels:
        raise UsageError(
            f"--method.inference.objective G: with {outputs} outputs and {labels} labels no neuron is superfluous, so G has no "
            "gradient; ask for more --backbone.outputs, or for objective H"
        )


def _shapes(recipe: Recipe, dataset: ImageDataset) -> FrozenNetwork:
    """Return the network without any numbers in it."""
    with torch.device("meta"):
        return FrozenNetwork(_backbone(recipe, dataset), recipe.seed, init=keep_weights)


def _backbone(recipe: Recipe, dataset: ImageDataset) -> nn.Module:
    image = dataset.train.images[0]
    match recipe.backbone:
        case FullyConnected(hidden=hidden, outputs=outputs):
            return fully_connected(image.numel(), hidden, outputs)
        case NormalisedFullyConnected(hidden=hidden, outputs=outputs):
            return normalised_fully_connected(image.numel(), hidden, outputs)
        case SmallConvolutional(channels=channels, outputs=outputs):
            return small_convolutional((len(image), *image.shape[1:]), channels, outputs)
        case _:
            assert_never(recipe.backbone)
