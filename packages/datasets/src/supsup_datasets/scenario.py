"""Continual-learning scenarios (Table 1, Figure 9): what a learner is told, and what counts as right.

`python -m supsup_datasets` prints the tree.
"""

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from supsup_datasets.errors import DatasetError


class Revealed(Enum):
    """What a learner may be shown of a batch."""

    IMAGES = "images"
    LABELS = "labels"
    TASK = "task"


class Scenario(Enum):
    """Named by answers: task given (G) or not (N) in training, at test; labels shared (s) or unshared (u) between tasks.

    In GG the task is known throughout, so that it makes no difference whether labels are shared.
    """

    GG = "GG"
    GNs = "GNs"
    GNu = "GNu"
    NNs = "NNs"

    @property
    def task_given_in_training(self) -> bool:
        """Whether the learner knows which task it trains on."""
        return self is not Scenario.NNs

    @property
    def task_given_at_test(self) -> bool:
        """Whether the learner is told the task of test images; else it infers the task."""
        return self is Scenario.GG

    @property
    def labels_shared(self) -> bool | None:
        """Whether a label means the same in all tasks; None where that makes no difference (GG)."""
        match self:
            case Scenario.GG:
                return None
            case Scenario.GNs | Scenario.NNs:
                return True
            case Scenario.GNu:
                return False

    @property
    def wrong_task_is_wrong(self) -> bool:
        """Whether a label under a wrongly guessed task is wrong whatever it says, as labels are unshared (GNu)."""
        return self is Scenario.GNu

    @property
    def revealed_in_training(self) -> frozenset[Revealed]:
        """What the learner is shown of a training batch."""
        shown = {Revealed.IMAGES, Revealed.LABELS}
        return frozenset(shown | {Revealed.TASK} if self.task_given_in_training else shown)

    @property
    def revealed_at_test(self) -> frozenset[Revealed]:
        """What the learner is shown of a test batch before it answers; labels and the true task only score it."""
        shown = {Revealed.IMAGES}
        return frozenset(shown | {Revealed.TASK} if self.task_given_at_test else shown)

    def right(self, predicted: Tensor, labels: Tensor, *, answered_task: int | Tensor | None, true_task: int) -> Tensor:
        """Return for each image whether its prediction counts as right.

        The predicted label must be the image's. Where labels are unshared (GNu) the answered task must be the true one too.

        Args:
            predicted: int64 of shape (images,).
            labels: int64 of shape (images,).
            answered_task: the task that the method took them for, one for all or one for each; in GG the given one. None
                where the method answers with labels alone: in NNs, whose masks are no tasks, and where labels are global
                (`LabelSpace.GLOBAL`), so that a label names its task (HopSupSup).
            true_task: the task they come from.

        Returns:
            bool of shape (images,).

        Raises:
            DatasetError: the shapes differ, or in GG another task was answered than the given one.
        """
        if predicted.shape != labels.shape:
            raise DatasetError(
                f"predicted, labels: of shapes {tuple(predicted.shape)} and {tuple(labels.shape)}; pass one of each an image"
            )
        right = predicted == labels
        if answered_task is None:
            return right
        answered = torch.as_tensor(answered_task, device=right.device)
        if answered.shape not in ((), labels.shape):
            raise DatasetError(
                f"answered_task: of shape {tuple(answered.shape)} for {len(labels)} images; pass one task, or one for each"
            )
        same_task = answered == true_task
        match self:
            case Scenario.GG:
                if not bool(same_task.all()):
                    raise DatasetError(
                        f"answered_task={answered_task}: in GG task {true_task} is given; answer under that one"
                    )
                return right
            case Scenario.GNs | Scenario.NNs:
                return right
            case Scenario.GNu:
                return right & same_task


@dataclass(frozen=True)
class Invalid:
    """A combination of answers that is no scenario."""

    name: str
    reason: str


@dataclass(frozen=True)
class Question:
    """A fork of the tree: what is asked, and where each answer leads."""

    text: str
    yes: "Question | Scenario | Invalid"
    no: "Question | Scenario | Invalid"


TASK_IN_TRAINING = "Is the task given in training?"
TASK_AT_TEST = "Is the task given at test?"
LABELS_SHARED = "Do tasks share labels?"

NNU = Invalid("NNu", "labels that are new betray that the task is new, so that the task is not hidden in training")
NG = Invalid("NG", "a task that had no name in training cannot be given by its name at test")

TREE = Question(
    TASK_IN_TRAINING,
    yes=Question(
        TASK_AT_TEST,
        yes=Scenario.GG,
        no=Question(LABELS_SHARED, yes=Scenario.GNs, no=Scenario.GNu),
    ),
    no=Question(
        TASK_AT_TEST,
        yes=NG,
        no=Question(LABELS_SHARED, yes=Scenario.NNs, no=NNU),
    ),
)  # fmt: skip
"""Figure 9. In the paper the right half asks for labels alone, as nobody gives at test what had no name in training."""


def scenario_for(*, task_given_in_training: bool, task_given_at_test: bool, labels_shared: bool) -> Scenario:
    """Return the scenario at the end of a path through the tree.

    Raises:
        DatasetError: the path ends at a combination that is none; the message gives the reason.
    """
    answers = {
        TASK_IN_TRAINING: task_given_in_training,
        TASK_AT_TEST: task_given_at_test,
        LABELS_SHARED: labels_shared,
    }
    place: Question | Scenario | Invalid = TREE
    while isinstance(place, Question):
        place = place.yes if answers[place.text] else place.no
    if isinstance(place, Invalid):
        raise DatasetError(f"{place.name}: {place.reason}; choose among {', '.join(name.value for name in Scenario)}")
    return place


def draw_tree() -> str:
    """Return the tree as text."""
    return "\n".join(_lines(TREE))


def _lines(place: Question | Scenario | Invalid) -> list[str]:
    match place:
        case Question(text, yes, no):
            first, second = _lines(yes), _lines(no)
            return [
                text,
                *_branch("├─ yes: ", "│       ", first),
                *_branch("└─ no:  ", "        ", second),
            ]
        case Scenario():
            return [f"{place.value}: {_DESCRIPTIONS[place]}"]
        case Invalid(name, reason):
            return [f"({name}, no scenario: {reason})"]


def _branch(head: str, rest: str, lines: list[str]) -> list[str]:
    return [head + lines[0], *(rest + line for line in lines[1:])]


_DESCRIPTIONS = {
    Scenario.GG: "the label must be right under the given task",
    Scenario.GNs: "the task is inferred; only the label must be right",
    Scenario.GNu: "the task is inferred; label and task must be right",
    Scenario.NNs: "tasks are found and inferred; only the label must be right",
}
