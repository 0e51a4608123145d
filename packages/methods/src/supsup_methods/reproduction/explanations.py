"""Why some rows deviate from the paper, or what was ruled out: as much as was measured."""

from collections.abc import Mapping

EXPLANATIONS: Mapping[tuple[str, str], str] = {
    ("table6", "SupSup, GNu, H, Binary, full batch"): (
        "55 of the run's 2,844 test batches are given to another task, all but one of them to one turned by 10 or 20 degrees "
        "more or less; GNu counts all images of such a batch as wrong. Twelve tasks have no such batch; they reach 96.25 %."
    ),
    ("table8", "SupSup, GNu, H, s = 25"): (
        "Measured while every task's batches were asked by the same 79 images; over other images the same masks reach 91.6 to "
        "93.2 % after 250 tasks, 92.5 on average (asked-images). Tasks are now tested in an order each of its own."
    ),
    ("table8", "Lower Bound, GG"): (
        "The paper does not say how its trunk starts, nor what its head is. After 10 and 50 tasks a head for each gives 81.8 "
        "and 55.3 % (supsup-train table8-lower-bound --tasks 50 --method.heads own), a shared one of 100 outputs 70.9 and 34.4 % "
        "(--backbone.outputs 100); MNIST, one seed."
    ),
}
"""By target and label of the row."""
