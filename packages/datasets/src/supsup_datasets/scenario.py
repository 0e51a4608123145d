"""Continual-learning scenarios (Table 1, Figure 9): what a learner is told, and what counts as right."""

from enum import Enum


class Scenario(Enum):
    """Named by three letters' worth of answers: task given in training, given at test, labels shared or unshared.

    The fourth combination of "not given, not given" with unshared labels, NNu, is no scenario: labels that are new give
    the task away.
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
    def wrong_task_is_wrong(self) -> bool:
        """Whether a label under a wrongly guessed task is wrong whatever it says, as labels are unshared (GNu)."""
        return self is Scenario.GNu
