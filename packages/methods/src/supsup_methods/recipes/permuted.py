"""What Tables 3, 4, 7, 8 and 9 and Figure 10 share: 250 tasks of PermutedMNIST, tested at six checkpoints."""

from typing import Literal

from supsup_methods.experiment import Evaluation, FullyConnected, Recipe
from supsup_methods.lower_bound import LowerBoundSettings
from supsup_methods.registry import MethodSettings
from supsup_methods.supsup import SupSupSettings
from supsup_methods.task_guessing import OneShot
from supsup_methods.upper_bound import UpperBoundSettings

LENET = (300, 100)
FC = (1024, 1024)


def given(name: str, hidden: tuple[int, ...], method: MethodSettings) -> Recipe:
    """Return a row of scenario GG: ten outputs, as every task has a head or context that is told."""
    return Recipe(
        name, 250, backbone=FullyConnected(hidden=hidden, outputs=10), method=method, evaluation=_tested("GG")
    )


def inferred(name: str, hidden: tuple[int, ...], outputs: int, method: MethodSettings) -> Recipe:
    """Return a row of scenario GNu, with superfluous neurons."""
    backbone = FullyConnected(hidden=hidden, outputs=outputs)
    return Recipe(name, 250, backbone=backbone, method=method, evaluation=_tested("GNu"))


def supsup(name: str, hidden: tuple[int, ...], outputs: int, objective: Literal["H", "G"]) -> Recipe:
    """Return a row of SupSup with One-Shot from a single image."""
    return inferred(name, hidden, outputs, SupSupSettings(inference=OneShot(objective=objective)))


def output_sizes(table: str, hidden: tuple[int, ...]) -> tuple[Recipe, ...]:
    """Return the rows of Table 8 or 9: SupSup with 200, 100 and 25 outputs, by H and by G, between the bounds."""
    kinds: tuple[tuple[Literal["H", "G"], str], ...] = (("H", "h"), ("G", "g"))
    rows = [
        supsup(f"{table}-supsup-s{size}-{name}", hidden, size, kind) for size in (200, 100, 25) for kind, name in kinds
    ]
    lower = given(f"{table}-lower-bound", hidden, LowerBoundSettings(heads="shared"))
    return (*rows, lower, given(f"{table}-upper-bound", hidden, UpperBoundSettings()))


def _tested(scenario: Literal["GG", "GNu"]) -> Evaluation:
    return Evaluation(scenario=scenario, checkpoints=(10, 50, 100, 150, 200))
