"""Figure 11, right: later tasks trained for 50 epochs with Transfer, and for 100 without. The paper draws it, without numbers."""

from collections.abc import Iterator

from supsup_methods.recipes.table2 import BUDGET_FACTORS
from supsup_methods.reproduction.bench import Bench
from supsup_methods.reproduction.findings import Findings
from supsup_methods.reproduction.vision_rows import VisionRow, measure_rows


def measure_figure11_right(prefix: str, bench: Bench) -> Findings:
    """Measure accuracy and bytes at the six budgets of Table 2, with and without Transfer.

    Args:
        prefix: of the recipes: figure11-right for CIFAR-100, tiny-figure11-right for Tiny-ImageNet-32.
        bench: to work with.
    """
    return measure_rows(FIGURE11_RIGHT, prefix, bench, comparable=False)


def _rows() -> Iterator[VisionRow]:
    for label, suffix in (("SupSup", ""), ("SupSup Transfer, half of the epochs", "-transfer")):
        for factor in BUDGET_FACTORS:
            yield VisionRow(f"{label}, c = {factor}", f"c{factor}{suffix}")


FIGURE11_RIGHT = tuple(_rows())
"""Its rows."""
