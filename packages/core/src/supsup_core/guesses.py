"""What a search over tasks answers, and how sure it is."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from supsup_core.calibration import answer_confidences


@dataclass(frozen=True)
class Guess:
    """The answer of a search over tasks.

    Attributes:
        task: the task inferred.
        beliefs: α before each round; the first are uniform. A descent adds those after its last step.
        slopes: dO/dα of each round; of the tasks left, those of steepest descent stay.
    """

    task: int
    beliefs: tuple[Float[Tensor, " tasks"], ...]
    slopes: tuple[Float[Tensor, " tasks"], ...]


@dataclass(frozen=True)
class Guesses:
    """The answers of a search for each image, or group of images.

    Attributes:
        tasks: the task inferred for each.
        beliefs: α before each round. A descent adds those after its last step.
        slopes: dO/dα of each round.
        descended: where a descent's beliefs ended, as -log α but for a constant; None of a search by rounds.
    """

    tasks: Int64[Tensor, " guesses"]
    beliefs: tuple[Float[Tensor, "guesses tasks"], ...]
    slopes: tuple[Float[Tensor, "guesses tasks"], ...]
    descended: Float[Tensor, "guesses tasks"] | None = None

    @property
    def values(self) -> Float[Tensor, "guesses tasks"]:
        """Return what the answers are the lowest of: the lower, the likelier.

        Of a search by rounds the slopes of the last one, infinite for the tasks that were out by then; of a descent -log α at
        its end, but for a constant.
        """
        if self.descended is not None:
            return self.descended
        return self.slopes[-1].masked_fill(self.beliefs[-1] == 0, torch.inf)

    @property
    def confidences(self) -> Float[Tensor, " guesses"]:
        """Return the share of each answer in softmax(-values).

        That is ν = softmax(-dO/dα) over the tasks that were left in the last round (Section 3.4), or a descent's last belief.
        """
        return answer_confidences(self.values, self.tasks)
