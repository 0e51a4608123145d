"""Every target by its name, with what it reproduces."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from supsup_methods.reproduction.asked_images import asked_images
from supsup_methods.reproduction.bench import Bench
from supsup_methods.reproduction.figure11_right import FIGURE11_RIGHT, measure_figure11_right
from supsup_methods.reproduction.figures_7_and_8 import figure7, figure8
from supsup_methods.reproduction.findings import Findings
from supsup_methods.reproduction.forward_cost import forward_cost
from supsup_methods.reproduction.reservoir_capacity import reservoir_capacity
from supsup_methods.reproduction.searches import FIGURE10, figure10, figure11_left
from supsup_methods.reproduction.table2 import TABLE2, measure_table2
from supsup_methods.reproduction.tables import ROWS, measure_table
from supsup_methods.reproduction.unknown_tasks_studies import epsilon, recurring


@dataclass(frozen=True)
class Target:
    """A table or figure that can be reproduced."""

    about: str
    """In a line."""
    measure: Callable[[Bench], Findings]
    seeds: int
    """As many as the paper has, where that is known."""
    many_seeds: bool = True
    """Whether it can be measured with several."""
    learns: bool = True
    """Whether it learns from data."""
    rows: tuple[str, ...] = ()
    """The names of its rows, where each can be measured alone."""
    counts_tasks: bool = True
    """Whether its runs can learn fewer tasks."""
    counts_epochs: bool = False
    """Whether its runs count epochs, of which there can be fewer, and can multiply in bfloat16."""


_TABLE2_ROWS = tuple(row.label for row in TABLE2)
_FIGURE11_ROWS = tuple(row.label for row in FIGURE11_RIGHT)

TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "figure7": Target("HopSupSup: distance to the right mask during recovery", figure7, 20, counts_tasks=False),
        "figure8": Target("HopSupSup: accuracy with the recovered and the right mask", figure8, 20, counts_tasks=False),
        "table2": Target(
            "SplitCIFAR100, ResNet-18: accuracy and bytes",
            partial(measure_table2, "table2"),
            5,
            rows=_TABLE2_ROWS,
            counts_epochs=True,
        ),
        "tiny-table2": Target(
            "Table 2 on Tiny-ImageNet-32, which is not the paper's data: accuracy and bytes",
            partial(measure_table2, "tiny"),
            1,
            rows=_TABLE2_ROWS,
            counts_epochs=True,
        ),
        **{
            f"table{number}": Target(
                about, partial(measure_table, number), seeds, rows=tuple(row.label for row in ROWS[number])
            )
            for number, about, seeds in (
                ("3", "PermutedMNIST, LeNet 300-100, up to 250 tasks", 1),
                ("4", "PermutedMNIST, FC 1024-1024, up to 250 tasks", 1),
                ("5", "PermutedMNIST, LeNet 300-100, up to 2500 tasks, GNu and NNs", 1),
                ("6", "RotatedMNIST, FC 1024-1024, 36 tasks", 1),
                ("7", "PermutedMNIST, BatchE with task inference", 3),
                ("8", "how many outputs SupSup needs, LeNet 300-100", 1),
                ("9", "how many outputs SupSup needs, FC 1024-1024", 1),
            )
        },
        "figure10": Target(
            "ABatchE: accuracy by images a guess and objective",
            figure10,
            1,
            rows=tuple(panel.label for panel in FIGURE10),
        ),
        "figure11-left": Target("RotatedMNIST: accuracy between One-Shot and Binary", figure11_left, 1),
        "figure11-right": Target(
            "SplitCIFAR100: half of the epochs with Transfer",
            partial(measure_figure11_right, "figure11-right"),
            1,
            rows=_FIGURE11_ROWS,
            counts_epochs=True,
        ),
        "tiny-figure11-right": Target(
            "Figure 11 right on Tiny-ImageNet-32, which is not the paper's data",
            partial(measure_figure11_right, "tiny-figure11-right"),
            1,
            rows=_FIGURE11_ROWS,
            counts_epochs=True,
        ),
        "forward-cost": Target(
            "what a mask costs beside a forward pass of ResNet-50",
            forward_cost,
            1,
            many_seeds=False,
            learns=False,
            counts_tasks=False,
        ),
        "asked-images": Target("beyond the paper: which image of a test batch is asked for its task", asked_images, 1),
        "nns-recurring": Target(
            "beyond the paper: NNs, tasks that come back in random order", recurring, 1, counts_tasks=False
        ),
        "nns-epsilon": Target("beyond the paper: NNs, masks and accuracy against ε", epsilon, 1, counts_tasks=False),
        "reservoir-capacity": Target(
            "beyond the paper: how many masks a reservoir holds",
            reservoir_capacity,
            1,
            many_seeds=False,
            counts_tasks=False,
        ),
    }
)
"""By name."""


@dataclass(frozen=True)
class PaperFigure:
    """A figure that the paper draws from its tables: their numbers are measured and recorded once, and drawn here.

    Attributes:
        about: in a line.
        panels: the target of each, by its name.
        unmeasured: panels whose numbers no target measures, and why.
    """

    about: str
    panels: Mapping[str, str]
    unmeasured: Mapping[str, str] = field(default_factory=dict)


FIGURES: Mapping[str, PaperFigure] = MappingProxyType(
    {
        "figure2": PaperFigure(
            "SplitCIFAR100: accuracy against bytes, from Table 2 (right)",
            {"right": "table2"},
            {
                "left": "SplitImageNet is measured by no target; supsup-train splitimagenet-supsup-c4, -c8 or -c16 trains a row"
            },
        ),
        "figure3": PaperFigure(
            "PermutedMNIST, up to 250 tasks: LeNet 300-100 from Table 3 (left), FC 1024-1024 from Table 4 (right)",
            {"left": "table3", "right": "table4"},
        ),
        "figure4": PaperFigure("PermutedMNIST, up to 2500 tasks, from Table 5", {"curves": "table5"}),
        "figure5": PaperFigure(
            "RotatedMNIST from Table 6 (left), BatchE with task inference from Table 7 (right)",
            {"left": "table6", "right": "table7"},
        ),
        "figure6": PaperFigure(
            "how many outputs SupSup needs: LeNet 300-100 from Table 8 (left), FC 1024-1024 from Table 9 (right)",
            {"left": "table8", "right": "table9"},
        ),
    }
)
"""By name: each is a target, and stands for those of its panels."""


def names_where(fits: Callable[[Target], bool]) -> list[str]:
    """Return the names of the targets that fit, and of the figures all of whose panels do."""
    fitting = [name for name, target in TARGETS.items() if fits(target)]
    return [*fitting, *(name for name, figure in FIGURES.items() if {*figure.panels.values()} <= {*fitting})]
