"""HopSupSup: the masks of all tasks in a reservoir of fixed size, and one of them found again for test images (Appendix B).

Frozen W; task k learns a mask over the units of normalisation layers (Eq. 8), which is stored in a Hopfield network and
forgotten: what is kept is Ψ and μ for each layer (Eq. 6), as large for one task as for a hundred. For the test images of a task,
told nothing but that they belong together, Hopfield Recovery goes from μ to a stored mask: the entropy of the outputs leads at
first, the reservoir at last (Eq. 7). One pass over the images finds the mask, another answers with it.

Labels name their task in scenario GNu: a network with an output for each class of the data set needs no task number, so an answer
is a label alone.

Batch norm uses the statistics of the batch at hand, in training and in both passes. So both passes mix the images, which may lie
sorted by class, and a batch of a single image has none: the last one of an epoch is passed over, and the last one of a test set
joins the one before it.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

import torch
from jaxtyping import Float
from supsup_core import FrozenNetwork, InvalidArgument, Masks, NetworkMismatch, entropy
from supsup_core.hopfield import Reservoir, StorageRule, hebb, reservoir_values, storkey, strict_storkey
from supsup_core.hopfield_recovery import Recovery, RecoverySettings
from supsup_core.unit_masks import unit_masked, unit_widths
from supsup_datasets import Batch, Task, Unlabelled
from supsup_datasets.seeds import generator
from torch import Tensor

from supsup_methods.bounds import Bounds
from supsup_methods.continual_method import (
    FEWEST_IMAGES,
    MethodBytes,
    MethodKind,
    OnBatch,
    Opened,
    Problem,
    Recovered,
    WholeGroups,
    check_turn,
)
from supsup_methods.dense_training import FLOAT_BYTES
from supsup_methods.mask_training import train_threshold_mask
from supsup_methods.optimizers import SGD
from supsup_methods.state_files import TaskFiles, open_sequence, write_shared
from supsup_methods.training_length import EpochsATask

RuleName: TypeAlias = Literal["hebb", "storkey", "strict-storkey"]

RULES: Mapping[RuleName, StorageRule] = MappingProxyType(
    {"hebb": hebb, "storkey": storkey, "strict-storkey": strict_storkey}
)
"""How Ψ takes in a mask, by name."""


@dataclass(frozen=True)
class UnitMaskTraining(EpochsATask):
    """Training of one task's mask over units; the defaults are those of Appendix B."""

    batch_size: Annotated[int, Bounds(ge=2, le=1_000_000)] = 128
    """Images in a batch, whose statistics batch norm uses; the last of an epoch may be smaller."""
    learning_rate: Annotated[float, Bounds(gt=0, le=1e6)] = 0.1
    """Learning rate of gradient descent on the scores. As they start at 0 and only their signs count, any other finds the same
    masks, but for rounding."""


@dataclass(frozen=True)
class HopfieldRecovery:
    """How a mask is found again (Appendix B.2); all but the number of passes are the paper's."""

    passes: Annotated[int, Bounds(ge=1, le=1000)] = 1
    """Passes over the test images while the mask is sought. The paper makes one; two lose fewer masks."""
    batch_size: Annotated[int, Bounds(ge=2, le=1_000_000)] = 64
    """Test images that each step sees."""
    strength: Annotated[float, Bounds(gt=0, le=1e9)] = 1.5e-3
    """γ of Eq. 7, the weight of the energy in the last step; it goes with E = -½ zᵀΨz."""
    learning_rate: Annotated[float, Bounds(gt=0, le=1e9)] = 0.5e3
    """Learning rate of gradient descent on z."""
    momentum: Annotated[float, Bounds(ge=0, lt=1)] = 0.9
    """Momentum of gradient descent on z."""
    weight_decay: Annotated[float, Bounds(ge=0, le=1e6)] = 1e-4
    """Weight decay of gradient descent on z."""
    settle: bool = False
    """Whether units turn after the last step until none would lower the energy, which the paper does not do."""


@dataclass(frozen=True)
class HopSupSupSettings:
    """Masks over units in a Hopfield network of fixed size, recovered for test images."""

    kind: Literal["hopsupsup"] = "hopsupsup"
    """Which method."""
    training: UnitMaskTraining = field(default_factory=UnitMaskTraining)
    rule: RuleName = "storkey"
    """How the reservoir takes in a mask: hebb, storkey as in Eq. 6, or strict-storkey as Storkey has it."""
    couplings: Literal["within-layers", "across-layers"] = "within-layers"
    """Which units Ψ couples: those of one layer, as in the paper, or of all, so that layers cannot end at masks of different
    tasks. With two layers of equal width that takes twice the bytes."""
    recovery: HopfieldRecovery = field(default_factory=HopfieldRecovery)
    witness: bool = False
    """Keep the learned masks beside the reservoir, to score with: distance to the right mask, accuracy with it. Nothing else
    reads them, and they do not count in bytes."""


class HopSupSup:
    """The method; see the module.

    Args:
        net: masks of units over frozen weights (`supsup_core.unit_masks`).
        settings: of training, storage and recovery.
        seed: decides the order of training images, with the task's index.
        reservoir: as earlier tasks left it.
        right_masks: of those tasks, where they are kept for scoring.
        files: where these lie already.
    """

    def __init__(
        self,
        net: FrozenNetwork,
        settings: HopSupSupSettings,
        seed: int,
        reservoir: Reservoir | None = None,
        right_masks: Sequence[Masks] = (),
        files: TaskFiles | None = None,
    ) -> None:
        self.net = net
        self.reservoir = reservoir or Reservoir.empty(_coupled(net, settings), net.dtype, net.device)
        self._settings = settings
        self._seed = seed
        self._right_masks = list(right_masks)
        self._files = files or TaskFiles()

    @property
    def tasks_learned(self) -> int:
        """Number of masks that the reservoir holds."""
        return self.reservoir.stored

    @property
    def bytes(self) -> MethodBytes:
        """Ψ, of which half is kept as it is symmetric, and μ; nothing for each task."""
        values = reservoir_values(_coupled(self.net, self._settings)) if self.tasks_learned else 0
        return MethodBytes(contexts=0, shared=FLOAT_BYTES * values, buffers=0)

    @property
    def right_masks(self) -> Sequence[Masks] | None:
        """The masks as they were learned, for scoring; None unless `witness` asked for them."""
        return tuple(self._right_masks) if self._settings.witness else None

    def learn(self, tasks: Sequence[Task], on_batch: OnBatch) -> None:
        """Train each task's mask from scores 0, and store it.

        Raises:
            InvalidArgument: a task is not the next one or has a single image, or the learning rate is too high.
        """
        training = self._settings.training
        for task in tasks:
            check_turn(task, self.tasks_learned)
            if len(task.train) < FEWEST_IMAGES:
                raise InvalidArgument(
                    f"task {task.index}: it has {len(task.train)} training images, and batch norm needs two; leave it out"
                )
            steps, order = training.steps(len(task.train)), generator(self._seed, "training order", task.index)
            batches = _trainable(task.train.shuffled(training.batch_size, steps, order), on_batch)
            scores = torch.zeros(self.net.num_bits, device=self.net.device, dtype=self.net.dtype)
            masks = train_threshold_mask(self.net, scores, batches, training.learning_rate, on_batch, optimizer=SGD)
            self.reservoir = self.reservoir.store(self._strings(masks), RULES[self._settings.rule])
            if self._settings.witness:
                self._right_masks.append(masks)

    def recover(self, images: Unlabelled) -> Recovered:
        """Return the mask that Hopfield Recovery ends at for these images, and its way there (Eq. 7).

        Raises:
            InvalidArgument: nothing is learned yet, or there are fewer than two images.
        """
        asked = self._settings.recovery
        if len(images) < FEWEST_IMAGES:
            raise InvalidArgument(
                f"images: {len(images)}; batch norm takes its statistics over at least two, so show more"
            )
        steps = asked.passes * _batches(len(images), asked.batch_size)
        constants = RecoverySettings(asked.strength, asked.learning_rate, asked.momentum, asked.weight_decay)
        recovery = Recovery(self.reservoir, steps, constants)
        orders = (generator(self._seed, "recovery order", number) for number in range(asked.passes))
        shown = (images.mixed(asked.batch_size, order, FEWEST_IMAGES) for order in orders)
        taken = [recovery.step(self._uncertainty(batch)) for batch in itertools.chain.from_iterable(shown)]
        if asked.settle:
            taken[-1] = replace(taken[-1], masks=self.reservoir.settled(recovery.masks))
        way = tuple(replace(step, masks=self._masks(step.masks)) for step in taken)
        return Recovered(way[-1].masks, way)

    def logits_under(self, images: Float[Tensor, "images *input"], masks: Masks) -> Float[Tensor, "images outputs"]:
        """Return f(x, m, W) of Eq. 8 before its softmax, by the statistics of this batch."""
        with torch.no_grad():
            return self.net(images, {name: mask.to(self.net.dtype) for name, mask in masks.items()})

    def save(self, folder: Path) -> None:
        """Replace the reservoir, having added the masks that are kept for scoring: until then, the folder is as it was."""
        if not self.tasks_learned:
            return
        if self._settings.witness:
            self._files.write_new(folder, self._right_masks)
        write_shared(folder, self.tasks_learned, self.reservoir.tensors())

    def first(self, tasks: int) -> "HopSupSup | None":
        """Return the method itself for all of its tasks, and None for fewer: a reservoir gives back no earlier one."""
        return self if tasks == self.tasks_learned else None

    def _uncertainty(self, images: Tensor) -> Callable[[Mapping[str, Tensor]], Tensor]:
        """Return the mean entropy of the outputs for these images as a function of the masks, floats of 0 and 1."""
        return lambda strings: entropy(self.net(images, self._masks(strings))).mean()

    def _strings(self, masks: Masks) -> dict[str, Tensor]:
        """Return masks as the reservoir couples their units: by layer, or all in one string."""
        flat = self.net.flatten(masks)
        return dict(
            zip(self.reservoir.mean, flat.split([len(part) for part in self.reservoir.mean.values()]), strict=True)
        )

    def _masks(self, strings: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Undo `_strings`: masks in the shapes of the scales that they multiply, which are 1."""
        return self.net.unflatten(torch.cat([strings[name] for name in self.reservoir.mean]))


def _coupled(net: FrozenNetwork, settings: HopSupSupSettings) -> dict[str, int]:
    """Return how many units are coupled to each other, in the order of `FrozenNetwork.maskable`."""
    return _groups({entry.name: entry.size for entry in net.maskable}, settings)


def _groups(widths: Mapping[str, int], settings: HopSupSupSettings) -> dict[str, int]:
    return dict(widths) if settings.couplings == "within-layers" else {"all layers": sum(widths.values())}


def _batches(images: int, batch_size: int) -> int:
    """Return how many batches `Unlabelled.mixed` makes of so many images, where a single last one joins others."""
    whole, left = divmod(images, batch_size)
    return whole + (left >= FEWEST_IMAGES or whole == 0)


def _trainable(batches: Iterable[Batch], on_batch: OnBatch) -> Iterator[Batch]:
    """Yield the batches that have statistics; one that is passed over counts as done."""
    for batch in batches:
        if len(batch) < FEWEST_IMAGES:
            on_batch()
        else:
            yield batch


def _open(folder: Path, settings: HopSupSupSettings, problem: Problem, whole_groups: WholeGroups | None) -> Opened:
    net = problem.network(make=unit_masked)
    mend = whole_groups is not None
    state, notes = open_sequence(folder, problem.device, task_files=settings.witness, mend=mend)
    reservoir = (
        None if state.shared is None else _reservoir(folder, state.shared, state.shared_after, _coupled(net, settings))
    )
    files = TaskFiles(folder, len(state.tasks))
    return Opened(HopSupSup(net, settings, problem.seed, reservoir, state.tasks, files), notes)


def _reservoir(folder: Path, tensors: Mapping[str, Tensor], stored: int, units: Mapping[str, int]) -> Reservoir:
    expected = {name: tuple(part.shape) for name, part in Reservoir.empty(units).tensors().items()}
    found = {name: tuple(part.shape) for name, part in tensors.items()}
    if found != expected:
        raise NetworkMismatch(
            f"{folder}: it holds {found} where a reservoir of this network has {expected}; open it with the settings it was "
            "saved with"
        )
    # A file has its tensors in an order of its own; masks are cut into strings in that of the layers.
    return Reservoir.from_tensors({name: tensors[name] for name in expected}, stored)


def _stored_bytes(settings: HopSupSupSettings, net: FrozenNetwork, tasks: int) -> int:
    reservoir = reservoir_values(_groups(unit_widths(net.module), settings))
    return FLOAT_BYTES * reservoir if tasks else 0


def _working_bytes(net: FrozenNetwork) -> int:
    """Weights, their copy in the module, and Ψ over all layers with the four temporaries of storing."""
    return FLOAT_BYTES * (2 * net.num_bits + 6 * sum(unit_widths(net.module).values()) ** 2)


KIND = MethodKind(HopSupSupSettings, _open, _stored_bytes, _working_bytes, masks_units=True)
"""As recipes and runs know the method."""
