"""Table 2 and Figure 2, right: accuracy and bytes of SupSup at six budgets, with and without Transfer, and of the baselines.

On CIFAR-100, and on Tiny-ImageNet-32 where that cannot be had: the paper's numbers then stand beside ours to show the order of
the rows, and nothing is said to be reproduced.
"""

from collections.abc import Iterator, Mapping

from supsup_methods.recipes.table2 import BUDGET_FACTORS
from supsup_methods.reproduction.bench import Bench
from supsup_methods.reproduction.findings import Findings
from supsup_methods.reproduction.paper_numbers import PaperNumber, paper_numbers
from supsup_methods.reproduction.vision_rows import VisionRow, measure_rows


def measure_table2(prefix: str, bench: Bench) -> Findings:
    """Measure the rows.

    Args:
        prefix: of the recipes: table2 for CIFAR-100, tiny for Tiny-ImageNet-32.
        bench: to work with.
    """
    return measure_rows(TABLE2, prefix, bench, comparable=prefix == "table2")


def expected_accuracies() -> Mapping[str, PaperNumber]:
    """Return the paper's numbers of Table 2, and the lower bound of Section 4.1, by what a record calls ours."""
    return {f"{row.label}: accuracy": row.paper for row in TABLE2 if row.paper is not None}


def _rows() -> Iterator[VisionRow]:
    printed = [number for number in paper_numbers() if number.table == "2"]
    by_method: Mapping[str, list[PaperNumber]] = {
        method: [number for number in printed if number.method == method]
        for method in {each.method for each in printed}
    }
    for method, transfer in (("SupSup", ""), ("SupSup Transfer", "-transfer")):
        for factor, number in zip(BUDGET_FACTORS, by_method[method], strict=True):
            yield VisionRow(f"{method}, c = {factor}", f"supsup-c{factor}{transfer}", number)
    for method, suffix in (
        ("BatchE", "batche"),
        ("BatchE - Rand W", "batche-random"),
        ("Separate Heads", "separate-heads"),
        ("Separate Heads - Rand W", "separate-heads-random"),
        ("Upper Bound", "upper-bound"),
    ):
        yield VisionRow(method, suffix, by_method[method][0])
    lower = next(number for number in paper_numbers() if number.table == "section 4.1")
    yield VisionRow("Lower Bound", "lower-bound", lower)


TABLE2 = tuple(_rows())
"""Its rows."""
