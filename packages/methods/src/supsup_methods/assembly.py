"""From a recipe's words to the objects it means: data, stream, network, method."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from supsup_core import FrozenNetwork
from supsup_core.unit_masks import unit_widths
from supsup_datasets import AnyDataset, ImageDataset, LabelSpace, Scenario, SplitStream, TaskStream
from torch import nn

from supsup_methods.backbone_assembly import backbone_shapes, build_backbone, refuse_other_shapes
from supsup_methods.continual_method import FEWEST_IMAGES, MethodKind, Opened, Problem, WholeGroups
from supsup_methods.data_assembly import build_stream
from supsup_methods.devices import memory_bytes
from supsup_methods.errors import UsageError
from supsup_methods.experiment import OwnModel, Recipe
from supsup_methods.registry import inference_of, kind_of
from supsup_methods.snapshots import Snapshots
from supsup_methods.task_guessing import EveryTask
from supsup_methods.training_length import steps_of_task

_CPU = torch.device("cpu")
_COPIES_OF_A_BATCH = 6  # pixels as bytes and indices, floats, activations and their gradients
_MOST_TASKS_AT_ONCE = 256  # a stop loses the tasks in flight, and more than this gain nothing
_OPERATIONS_WORTH_PROCESSES = 1.5e12  # of training: some 15 s, of which processes take 4 to start
_MOST_PROCESSES = 8  # the run's own process tests each task that they learn, and does not come after more
_PROCESS_BYTES = 2**30  # torch and the data


def build_problem(
    recipe: Recipe, dataset: AnyDataset, device: torch.device, snapshots: Snapshots | None = None
) -> Problem:
    """Return what the recipe's method is built for: backbone, labels, seed and device, and where tasks in training are kept."""
    labels = build_stream(recipe, dataset)[0].num_labels
    own = isinstance(recipe.backbone, OwnModel) and recipe.backbone.weights == "own"
    return Problem(lambda: build_backbone(recipe, dataset), labels, recipe.seed, device, own, snapshots or Snapshots())


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


def stored_bytes(recipe: Recipe, dataset: AnyDataset) -> int:
    """Return about what all tasks will take on disk, without making any weight."""
    return kind_of(recipe.method).stored_bytes(recipe.method, backbone_shapes(recipe, dataset), recipe.tasks)


def refuse_impossible(
    recipe: Recipe, dataset: AnyDataset, tasks_at_once: int = 1, devices: Sequence[torch.device] = (_CPU,)
) -> None:
    """Check what no single field can tell: whether the parts of a recipe go together, with this data, on this machine.

    Args:
        recipe: to be carried out.
        dataset: of its stream.
        tasks_at_once: that each process trains side by side.
        devices: one for each process that trains; alike.

    Raises:
        UsageError: they do not.
    """
    first = build_stream(recipe, dataset)[0]
    _refuse_outputs(recipe, first.num_labels)
    _refuse_scenario(recipe, first.label_space)
    shapes = backbone_shapes(recipe, dataset)
    refuse_other_shapes(shapes, recipe, dataset)
    _refuse_backbone(recipe, shapes)
    _refuse_small_batches(recipe, dataset, shapes)
    refuse_late_checkpoints(recipe)
    if tasks_at_once > 1 and not _side_by_side(recipe, dataset, shapes):
        raise UsageError(
            f"--tasks-at-once {tasks_at_once}: {recipe.method.kind} learns one task after the other here; choose 1"
        )
    if len(devices) > 1 and kind_of(recipe.method).apart_from(recipe.method) is None:
        raise UsageError(
            f"--device: {len(devices)} devices, and {recipe.method.kind} learns a task from what earlier ones left, with these "
            "settings, so that processes cannot share the tasks; name one device"
        )
    together = min(tasks_at_once * devices.count(devices[0]), recipe.tasks)
    needed = together * kind_of(recipe.method).working_bytes(shapes) + stored_bytes(recipe, dataset)
    available = memory_bytes(devices[0])
    if needed > available:
        where = "this machine" if devices[0].type == "cpu" else str(devices[0])
        raise UsageError(
            f"--backbone.hidden, --tasks, --tasks-at-once: training takes about {needed / 1e9:.1f} GB of memory and {where} "
            f"has {available / 1e9:.1f} GB; choose a narrower network, fewer tasks, or fewer at once"
        )


def refuse_late_checkpoints(recipe: Recipe) -> None:
    """Check that a recipe learns as many tasks as its checkpoints ask for.

    Raises:
        UsageError: it does not.
    """
    late = [number for number in recipe.evaluation.checkpoints if number > recipe.tasks]
    if late:
        raise UsageError(
            f"--evaluation.checkpoints {late[0]}: the run ends after --tasks {recipe.tasks}; leave it out, or learn more"
        )


def default_tasks_at_once(recipe: Recipe, dataset: AnyDataset, devices: Sequence[torch.device]) -> int:
    """Return how many tasks each process best trains side by side: on a GPU as many as fit, on a CPU one, as more save nothing.

    Args:
        recipe: of the run.
        dataset: of its stream.
        devices: one for each process; alike.
    """
    shapes = backbone_shapes(recipe, dataset)
    if devices[0].type != "cuda" or not _side_by_side(recipe, dataset, shapes):
        return 1
    free = min(torch.cuda.mem_get_info(device)[0] // devices.count(device) for device in devices)
    floats_an_image = math.prod(dataset.image_shape) + sum(entry.shape[0] for entry in shapes.maskable)
    batch_floats = recipe.method.training.batch_size * floats_an_image
    needed = kind_of(recipe.method).working_bytes(shapes) + 4 * _COPIES_OF_A_BATCH * batch_floats
    share = math.ceil(recipe.tasks / len(devices))
    return max(1, min(share, _MOST_TASKS_AT_ONCE, int(0.8 * free) // needed))


def default_processes(recipe: Recipe, dataset: AnyDataset) -> int:
    """Return how many processes best share a run's tasks on a CPU: steps of small networks keep one thread busy, not several.

    One where a task is learned from what earlier ones left, or where all are learned before processes have started.

    Args:
        recipe: of the run.
        dataset: of its stream.
    """
    kind, length = kind_of(recipe.method), recipe.method.training
    first_shared = kind.apart_from(recipe.method)
    if first_shared is None:
        return 1
    shapes, images = backbone_shapes(recipe, dataset), len(build_stream(recipe, dataset)[0].train)
    steps = sum(steps_of_task(length, task, images) for task in range(first_shared, recipe.tasks))
    if 6 * shapes.num_bits * length.batch_size * steps < _OPERATIONS_WORTH_PROCESSES:
        return 1
    fit = memory_bytes(_CPU) // 2 // (_PROCESS_BYTES + kind.working_bytes(shapes))
    return max(1, min(torch.get_num_threads(), recipe.tasks - first_shared, _MOST_PROCESSES, fit))


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


def _side_by_side(recipe: Recipe, dataset: AnyDataset, shapes: FrozenNetwork) -> bool:
    """Tell whether several tasks can be learned in each step: of images in memory, and as many of them for each task."""
    if not isinstance(dataset, ImageDataset) or not kind_of(recipe.method).side_by_side(recipe.method, shapes):
        return False
    stream = build_stream(recipe, dataset)
    return not isinstance(stream, SplitStream) or len({len(stream[task].train) for task in range(recipe.tasks)}) == 1


def _refuse_backbone(recipe: Recipe, shapes: FrozenNetwork) -> None:
    method, backbone, kind = recipe.method.kind, recipe.backbone.kind, kind_of(recipe.method)
    if kind.masks_units and not unit_widths(shapes.module):
        raise UsageError(
            f"--backbone.kind {backbone}: {method} masks the units of normalisation layers, and this network has none; choose "
            "normalised-fully-connected or small-convolutional, with at least one hidden layer"
        )
    for layer in shapes.module.modules():
        normalises = isinstance(layer, nn.modules.batchnorm._BatchNorm) and not kind.masks_units
        if normalises and (layer.running_mean is None or layer.momentum is None):
            raise UsageError(
                f"--backbone.kind {backbone}: its batch norm keeps no running statistics, or averages over all batches, so "
                "that tasks would not be apart; let it track them, with a momentum"
            )
    problem = kind.unsuited(recipe.method, shapes)
    if problem is not None:
        raise UsageError(f"--backbone.kind {backbone}: {method} {problem}")


def _refuse_small_batches(recipe: Recipe, dataset: AnyDataset, shapes: FrozenNetwork) -> None:
    """Make sure that batch norm, which takes its statistics over a batch, is never shown too little for them."""
    kind, evaluation = kind_of(recipe.method), recipe.evaluation
    if kind.masks_units and evaluation.batch_size < FEWEST_IMAGES:
        raise UsageError(
            f"--evaluation.batch-size {evaluation.batch_size}: batch norm takes its statistics over a batch, of at least "
            "two images; choose a larger one"
        )
    if not shapes.task_buffers:
        return
    if recipe.method.training.batch_size < FEWEST_IMAGES:
        raise UsageError(
            f"--method.training.batch-size {recipe.method.training.batch_size}: batch norm takes its statistics over a batch, of "
            "at least two images; choose a larger one"
        )
    inference = inference_of(recipe.method)
    # Trying every task shows each network its own statistics; all other searches look at a superposition, which has none.
    blends = inference is not None and not isinstance(inference, EveryTask)
    if not blends or Scenario(evaluation.scenario).task_given_at_test or _takes_one_image(shapes, dataset.image_shape):
        return
    for field, images in (
        ("evaluation.batch-size", evaluation.batch_size),
        ("method.inference.images-per-guess", getattr(inference, "images_per_guess", FEWEST_IMAGES)),
    ):
        if images < FEWEST_IMAGES:
            raise UsageError(
                f"--{field} {images}: under a superposition batch norm takes its statistics over the images that infer the task, "
                "of which it needs two here; choose 2 or more"
            )
    _refuse_single_images(recipe, build_stream(recipe, dataset))


def _takes_one_image(shapes: FrozenNetwork, image_shape: tuple[int, ...]) -> bool:
    """Tell whether one image has values enough in each channel for a mean and a variance."""
    try:
        with torch.no_grad():
            shapes.on_batch_statistics(torch.zeros((1, *image_shape), device=shapes.device), {})
    except ValueError:
        return False
    return True


def _refuse_single_images(recipe: Recipe, stream: TaskStream) -> None:
    """Check that no task's test images leave a last batch of one, where that is too few to infer the task.

    Raises:
        UsageError: those of a task do.
    """
    size = recipe.evaluation.batch_size
    for index in range(recipe.tasks):
        images = len(stream[index].test)
        if images % size == 1:
            other = next((more for more in range(size + 1, images + 1) if images % more != 1), None)
            raise UsageError(
                f"--evaluation.batch-size {size}: of task {index}'s {images} test images the last is a batch of its own, too few "
                "for the mean and variance that batch norm takes under a superposition; "
                + (
                    f"choose another, {other} for example"
                    if other
                    else "give it more, or choose --evaluation.scenario GG"
                )
            )


def _refuse_outputs(recipe: Recipe, labels: int) -> None:
    outputs, inference = recipe.backbone.outputs, inference_of(recipe.method)
    if outputs < labels:
        raise UsageError(
            f"--backbone.outputs {outputs}: a task has {labels} labels, and each needs an output; ask for {labels} or more"
        )
    if getattr(inference, "objective", None) == "G" and outputs == labels:
        raise UsageError(
            f"--method.inference.objective G: with {outputs} outputs and {labels} labels no neuron is superfluous, so G has no "
            "gradient; ask for more --backbone.outputs, or for objective H"
        )
