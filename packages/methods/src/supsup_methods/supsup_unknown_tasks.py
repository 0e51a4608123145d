"""SupSup where nobody says when a task begins (scenario NNs; Sections 3.4 and 4.3).

Training is a stream of batches. Every so many of them (100 in the paper) One-Shot decides from the images of one batch whether
they belong to a known mask, which is then trained on, or to none, and a new mask is allocated. The rule is `supsup_core.novelty`:
the fresh mask that would be allocated is always blended in, so that it works from no mask on.

- While decisions name the same mask, its training goes on as if there had been none.
- A task may end between two decisions; its mask would then learn the next one too. So the mask is asked as it was at the decision
  before, and goes back to that if it knows neither the batch at hand nor the one trained last. A mask that is new has no such
  state yet: a task that ends before the second decision on it spoils it.
- A mask found again later, or the nearest one where the budget is used up, is trained on from its bits (`scores_of_mask`).

What the method is shown of training is images and labels, of test images nothing but them; a stretch of the stream ends where its
files are written, which decides nothing. Masks are no tasks: an answer is a label, under the mask that One-Shot finds.

Files: each stretch has one, with the decisions in it and the masks that it changed; replayed in turn they give the bank, after
any number of stretches. The file that is replaced holds the mask in training, its scores and their moments.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from supsup_core import FrozenNetwork, MaskBank, entropy, recognise_each
from supsup_core.novelty import Recognitions
from supsup_core.packed_bits import row_bytes, unpack
from supsup_datasets import Batch, Task
from torch import Tensor

from supsup_methods.bounds import Bounds
from supsup_methods.continual_method import (
    Decision,
    InferEach,
    MethodBytes,
    MethodKind,
    OnBatch,
    Opened,
    Problem,
    WholeGroups,
    check_turn,
)
from supsup_methods.dense_training import FLOAT_BYTES, training_batches
from supsup_methods.mask_rules import fresh_scores, scores_of_mask
from supsup_methods.mask_training import MaskSteps, check_finite, fresh_mask, task_gradients
from supsup_methods.optimizers import RMSprop
from supsup_methods.state_files import TaskFiles, open_sequence, write_shared
from supsup_methods.task_guessing import OneShot, TaskInference, infer_by
from supsup_methods.training_length import StreamTraining


@dataclass(frozen=True)
class Allocation:
    """When a stream goes on under which mask, or under a new one."""

    every: Annotated[int, Bounds(ge=1, le=10_000_000)] = 100
    """Training batches from one decision to the next."""
    epsilon: Annotated[float, Bounds(ge=0, le=1e6)] = 0.125
    """ε: how far above uniform the largest ν must be to recognise a mask, as a share."""
    budget: Annotated[int, Bounds(ge=1, le=1_000_000)] = 2500
    """Masks at most; then the nearest is trained on."""


@dataclass(frozen=True)
class UnknownTasksSettings:
    """Masks that are allocated along a stream in which nobody says when a task begins."""

    kind: Literal["supsup-unknown-tasks"] = "supsup-unknown-tasks"
    """Which method."""
    training: StreamTraining = field(default_factory=StreamTraining)
    allocation: Allocation = field(default_factory=Allocation)
    inference: TaskInference = field(default_factory=OneShot)


@dataclass
class _InTraining:
    """The mask that is trained now."""

    mask: int
    scores: Tensor
    optimizer: RMSprop
    steps: MaskSteps
    before: Tensor | None = None
    """Its bits at the last decision; None if it was fresh then, and knew nothing."""
    knew_last: bool = True
    """Whether those bits knew the last batch before the decision that is due."""


class SupSupUnknownTasks:
    """The method; see the module.

    Args:
        net: the frozen network.
        settings: of training, allocation and search.
        num_labels: labels of the stream; outputs from there on are superfluous neurons.
        seed: decides initial scores, with the mask's index.
        stretches: what was written of earlier ones.
        state: as the last of them left it; None where there was none, or to answer alone.
        files: where those lie already.
    """

    def __init__(
        self,
        net: FrozenNetwork,
        settings: UnknownTasksSettings,
        num_labels: int,
        seed: int,
        stretches: Sequence[Mapping[str, Tensor]] = (),
        state: Mapping[str, Tensor] | None = None,
        files: TaskFiles | None = None,
    ) -> None:
        self.net = net
        self.bank = MaskBank(net)
        self._settings = settings
        self._num_labels = num_labels
        self._seed = seed
        self._stretches: list[Mapping[str, Tensor]] = []
        self._decisions: list[Decision] = []
        self._files = files or TaskFiles()
        for stretch in stretches:
            self._replay(stretch)
        self._batches_seen = 0 if state is None else int(state["batches seen"])
        self._now = None if state is None else self._go_on(state)

    @property
    def tasks_learned(self) -> int:
        """Number of stretches of the stream that were learned from."""
        return len(self._stretches)

    @property
    def bytes(self) -> MethodBytes:
        """Packed masks; and to go on with, scores and moments of the one in training."""
        training = 0 if self._now is None else 2 * FLOAT_BYTES * self.net.num_bits
        return MethodBytes(contexts=self.bank.context_bytes, shared=training, buffers=0)

    @property
    def infer_each(self) -> InferEach:
        """The search that the settings name, over all masks: which of them, not which task."""
        return infer_by(self._settings.inference, self.net, self.bank, self._num_labels)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What was decided along the stream, in turn."""
        return tuple(self._decisions)

    def learn(self, tasks: Sequence[Task], on_batch: OnBatch) -> None:
        """Learn from the next stretches of the stream: images and labels of their batches, and nothing else.

        Raises:
            InvalidArgument: a stretch is not the next one, or the learning rate is too high.
        """
        training = self._settings.training
        for task in tasks:
            check_turn(task, self.tasks_learned)
            before = {} if self._now is None else {self._now.mask: self.bank.rows[self._now.mask].clone()}
            decided: list[tuple[int, int, bool, float]] = []
            for batch in training_batches(self._seed, task, training):
                if self._batches_seen % self._settings.allocation.every == 0 or self._now is None:
                    decided.append((self._batches_seen, *self._decide(batch, before)))
                self._train(batch)
                on_batch()
            self._show()
            changed = [mask for mask, row in before.items() if not torch.equal(self.bank.rows[mask], row)]
            self._remember(self._stretch(sorted(changed), decided))

    def recognise(self, images: Float[Tensor, "images *input"], images_per_guess: int = 1) -> Recognitions:
        """Return which mask suits each group of images, beside a fresh one: for answering "unknown" (see `novelty`).

        Args:
            images: whole groups.
            images_per_guess: size of a group.
        """
        fresh = fresh_mask(self.net, self._seed, len(self.bank))
        return recognise_each(entropy, self.net, self.bank, fresh, images, images_per_guess)

    def logits(self, images: Float[Tensor, "images *input"], task: int) -> Float[Tensor, "images outputs"]:
        """Return f(x, W ⊙ M) for a mask by its index."""
        with torch.no_grad():
            return self.net(images, self.bank.weights(task))

    def save(self, folder: Path) -> None:
        """Write the stretches that the folder lacks, and then replace the state: until that is done, the folder is as it was."""
        if self._now is None:
            return
        self._files.write_new(folder, self._stretches)
        state = {
            "batches seen": torch.tensor(self._batches_seen),
            "mask": torch.tensor(self._now.mask),
            "scores": self._now.scores,
            "mean square": self._now.optimizer.mean_square,
            "knew last": torch.tensor(self._now.knew_last),
        }
        if self._now.before is not None:
            state["before"] = self._now.before
        write_shared(folder, self.tasks_learned, state)

    def first(self, tasks: int) -> "SupSupUnknownTasks":
        """Return the method as it was after so many stretches, to answer with."""
        return SupSupUnknownTasks(self.net, self._settings, self._num_labels, self._seed, self._stretches[:tasks])

    def _decide(self, batch: Batch, before: dict[int, Tensor]) -> tuple[int, bool, float]:
        """Choose the mask to train on, from the images of a batch; return it, whether it is new, and (k + 1) max ν.

        Args:
            batch: of which images alone count.
            before: rows of masks as the stretch found them; that of the chosen one is added.
        """
        chosen, ratio = self._recognised(batch) if len(self.bank) > 0 else (None, 1.0)
        now = self._now
        if now is not None and (chosen == now.mask or now.knew_last or now.before is None):
            self._show()  # else the mask stays as it was at the last decision
        new = chosen is None
        mask = len(self.bank) if chosen is None else chosen
        if new:
            scores = fresh_scores(self.net, self._seed, mask)
            self.bank.append(self.net.unflatten(scores >= 0))
            self._now = self._begin(mask, scores)
            before[mask] = torch.empty(0, dtype=torch.uint8, device=self.net.device)  # there was none
        else:
            if self._now is None or self._now.mask != mask:
                scores = scores_of_mask(self.net, self.net.flatten(self.bank.masks(mask)), self._seed, mask)
                self._now = self._begin(mask, scores)
            self._now.before = self.bank.rows[mask].clone()
            before.setdefault(mask, self._now.before)
        return mask, new, ratio

    def _recognised(self, batch: Batch) -> tuple[int | None, float]:
        """Return the known mask that a batch belongs to, or None, and (k + 1) max ν; the mask in training as it was before."""
        if self._now is not None and self._now.before is not None:
            self._put(self._now.mask, self._now.before)
        else:
            self._show()  # it was fresh at the last decision, so it is asked as it is
        found = self.recognise(batch.images, len(batch))
        (chosen,), ratio = found.tasks(self._settings.allocation.epsilon), float(found.ratios)
        if chosen is None and len(self.bank) >= self._settings.allocation.budget:
            chosen = int(found.nearest)
        return chosen, ratio

    def _begin(self, mask: int, scores: Tensor, mean_square: Tensor | None = None) -> _InTraining:
        training = self._settings.training
        optimizer = RMSprop(scores, training.learning_rate, mean_square, steps=training.batches)
        gradients = task_gradients(self.net, training.precision)
        steps = MaskSteps(self.net, scores, optimizer, gradients)
        return _InTraining(mask, scores, optimizer, steps)

    def _train(self, batch: Batch) -> None:
        if self._now is None:
            raise AssertionError("unreachable: the first batch allocates a mask")
        self._now.steps.take(batch)
        self._batches_seen += 1
        if self._batches_seen % self._settings.allocation.every == 0 and self._now.before is not None:
            self._now.knew_last = self._recognised(batch)[0] == self._now.mask

    def _show(self) -> None:
        """Bring the bank's bits of the mask in training up to date."""
        if self._now is not None:
            check_finite(self._now.scores, self._settings.training.learning_rate)
            self.bank.replace(self._now.mask, self.net.unflatten(self._now.scores >= 0))

    def _put(self, mask: int, row: Tensor) -> None:
        self.bank.replace(mask, self.net.unflatten(unpack(row, self.net.num_bits)))

    def _go_on(self, state: Mapping[str, Tensor]) -> _InTraining:
        now = self._begin(int(state["mask"]), state["scores"], state["mean square"])
        now.before, now.knew_last = state.get("before"), bool(state["knew last"])
        return now

    def _stretch(self, changed: list[int], decided: list[tuple[int, int, bool, float]]) -> dict[str, Tensor]:
        batches, masks, new, ratios = zip(*decided, strict=True) if decided else ((), (), (), ())
        return {
            "changed": torch.tensor(changed, dtype=torch.int64),
            "rows": self.bank.rows[changed].clone(),
            "batch": torch.tensor(batches, dtype=torch.int64),
            "mask": torch.tensor(masks, dtype=torch.int64),
            "new": torch.tensor(new, dtype=torch.bool),
            "ratio": torch.tensor(ratios, dtype=torch.float64),
        }

    def _replay(self, stretch: Mapping[str, Tensor]) -> None:
        """Bring the bank from before a stretch to after it."""
        for mask, row in zip(stretch["changed"].tolist(), stretch["rows"], strict=True):
            if mask == len(self.bank):
                self.bank.append_rows(row.unsqueeze(0))
            else:
                self._put(mask, row)
        self._remember(stretch)

    def _remember(self, stretch: Mapping[str, Tensor]) -> None:
        columns = (stretch[name].tolist() for name in ("batch", "mask", "new", "ratio"))
        number = len(self._stretches)
        self._decisions += [Decision(batch, number, *rest) for batch, *rest in zip(*columns, strict=True)]
        self._stretches.append(stretch)


def _open(folder: Path, settings: UnknownTasksSettings, problem: Problem, whole_groups: WholeGroups | None) -> Opened:
    net = problem.network()
    state, notes = open_sequence(folder, problem.device, task_files=True, mend=whole_groups is not None)
    files = TaskFiles(folder, len(state.tasks))
    method = SupSupUnknownTasks(net, settings, problem.num_labels, problem.seed, state.tasks, state.shared, files)
    return Opened(method, notes)


def _stored_bytes(settings: UnknownTasksSettings, net: FrozenNetwork, tasks: int) -> int:
    """A mask for each stretch, found again or not: its file holds the bits that changed."""
    return tasks * row_bytes(net.num_bits) + (2 * FLOAT_BYTES * net.num_bits if tasks else 0)


def _unsuited(settings: UnknownTasksSettings, net: FrozenNetwork) -> str | None:
    why = "keeps no running statistics by mask, which batch norm needs; choose fully-connected, or another method"
    return why if net.task_buffers else None


_search = attrgetter("inference")
KIND = MethodKind(
    UnknownTasksSettings, _open, _stored_bytes, inference=_search, unsuited=_unsuited, told_in_training=False
)
"""As recipes and runs know the method."""
