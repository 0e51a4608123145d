"""Why some rows deviate from the paper, or what was ruled out: as much as was measured."""

from collections.abc import Mapping

EXPLANATIONS: Mapping[tuple[str, str], str] = {
    ("table6", "SupSup, GNu, H, Binary, full batch"): (
        "55 of the run's 2,844 test batches are given to another task, all but one of them to one turned by 10 or 20 degrees "
        "more or less; GNu counts all images of such a batch as wrong. Twelve tasks have no such batch; they reach 96.25 %."
    ),
    ("table7", "BatchE full batch, GNu"): (
        "Nearly all batches are given to task 0, which the weights were trained on. Neither blending r and s apart nor G mends "
        "it; Binary finds 60 % of six tasks, and trying every task all of them."
    ),
    ("table7", "BatchE, GNu"): "As with the full batch.",
    ("table8", "SupSup, GNu, H, s = 25"): (
        "Which image of a test batch is asked decides more: the same masks asked by another of the first 16 reach 91.6 to 93.2 % "
        "after 250 tasks (asked-images)."
    ),
    ("table8", "Lower Bound, GG"): (
        "The paper does not say how its trunk starts, nor what its head is. After 10 and 50 tasks a head for each gives 81.8 "
        "and 55.3 % (supsup-train table8-lower-bound --tasks 50 --method.heads own), a shared one of 100 outputs 70.9 and 34.4 % "
        "(--backbone.outputs 100); MNIST, one seed."
    ),
}
"""By target and label of the row."""
