"""A stream small enough to learn in a blink, and the dense methods on it: noise around class means, 4 × 5 pixels, permuted."""

from pathlib import Path

import torch
from supsup_datasets import ImageDataset, LabelledImages, Normalization, PermutedStream, Task
from supsup_methods import lower_bound, psp, separate_heads, upper_bound
from supsup_methods.backbones import fully_connected
from supsup_methods.continual_method import MethodKind, Opened, Problem
from supsup_methods.dense_training import DenseTraining
from supsup_methods.separate_heads import HeadTraining
from torch import Tensor

LABELS = 3
WEIGHTS, HEAD = 20 * 32 + 32 * 16 + 16 * 3, 16 * 3
TRAINING = DenseTraining(batches=80, batch_size=20, learning_rate=0.003)

PSP = psp.KIND, psp.PspSettings(training=TRAINING)
UPPER = upper_bound.KIND, upper_bound.UpperBoundSettings(training=TRAINING)
CARRIED = upper_bound.KIND, upper_bound.UpperBoundSettings(training=TRAINING, carry_on=True)
LOWER = lower_bound.KIND, lower_bound.LowerBoundSettings(training=TRAINING)
SHARED = lower_bound.KIND, lower_bound.LowerBoundSettings(training=TRAINING, heads="shared")
HEADS = separate_heads.KIND, separate_heads.SeparateHeadsSettings(training=HeadTraining(batches=80, batch_size=20))
RANDOM = (
    separate_heads.KIND,
    separate_heads.SeparateHeadsSettings(training=HeadTraining(batches=80, batch_size=20), trunk="random"),
)
ALL = {
    "psp": PSP,
    "upper": UPPER,
    "carried": CARRIED,
    "lower": LOWER,
    "shared": SHARED,
    "heads": HEADS,
    "random": RANDOM,
}
FORGETFUL = ("psp", "lower", "shared")

NOWHERE = Path("/nowhere")


def labelled(count: int, seed: int) -> LabelledImages:
    means = torch.randint(40, 216, (LABELS, 1, 4, 5), generator=torch.Generator().manual_seed(99))
    labels = torch.arange(count) % LABELS
    noise = torch.randint(-40, 40, (count, 1, 4, 5), generator=torch.Generator().manual_seed(seed))
    return LabelledImages((means[labels] + noise).to(torch.uint8), labels, LABELS)


def stream(tasks: int = 8) -> PermutedStream:
    return PermutedStream(
        ImageDataset("blobs", labelled(120, 0), labelled(63, 1), Normalization((0.5,), (0.25,))), tasks, 0
    )


def problem(seed: int = 0, backbone=lambda: fully_connected(20, (32, 16), LABELS)) -> Problem:
    return Problem(backbone, LABELS, seed, torch.device("cpu"))


def opened(method: tuple[MethodKind, object], folder: Path = NOWHERE, seed: int = 0, mend: bool = True) -> Opened:
    kind, settings = method
    return kind.open(folder, settings, problem(seed), (lambda tasks: tasks) if mend else None)


def learn(method, *tasks: Task) -> None:
    method.learn(tasks, lambda: None)


def taught(method: tuple[MethodKind, object], tasks: int, seed: int = 0):
    learner = opened(method, seed=seed).method
    learn(learner, *(stream()[index] for index in range(tasks)))
    return learner


def images(task: int) -> Tensor:
    (batch,) = stream()[task].test.in_order(63)
    return batch.images


def accuracy(method, task: int) -> float:
    (batch,) = stream()[task].test.in_order(63)
    return float((method.logits(batch.images, task).argmax(dim=-1) == batch.labels).double().mean())
