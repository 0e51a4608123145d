"""Linear heads whose masks are really trained, on synthetic tasks over fixed features."""

import functools
import math

import torch
from supsup_core import FrozenNetwork, MaskBank, belief_slopes, superfluous_logsumexp
from supsup_datasets import Batch
from supsup_methods.mask_rules import fresh_scores
from supsup_methods.mask_training import train_threshold_mask
from torch import Tensor, nn

FEATURES, OUTPUTS, LABELS, TASKS = 50, 30, 3, 5
SEEDS = 12
STUDENT_99 = 2.718  # the 99 % quantile of Student's t with 11 degrees of freedom, one-sided
G = superfluous_logsumexp(LABELS)


class FeatureTask:
    """One task: features around a mean of its own, labelled by a random linear teacher.

    kind: "mean" draws φ = mean + noise, zero-mean over tasks; "symmetric" gives φ and -φ equal chances; "relu" keeps the
    positive part of the noise, the same in all tasks but for the teacher.
    """

    def __init__(self, kind: str, seed: int, task: int) -> None:
        self.kind = kind
        self.generator = torch.Generator().manual_seed(1000 * seed + task)
        self.mean = torch.randn(FEATURES, generator=self.generator)
        self.teacher = torch.randn(LABELS, FEATURES, generator=self.generator)

    def batch(self, images: int) -> Batch:
        noise = torch.randn(images, FEATURES, generator=self.generator)
        if self.kind == "mean":
            features = self.mean + noise
        elif self.kind == "symmetric":
            flips = torch.randint(0, 2, (images, 1), generator=self.generator) * 2.0 - 1.0
            features = flips * (self.mean + noise)
        else:
            features = noise.clamp(min=0.0)
        centred = features - features.mean(dim=0)
        return Batch(features, (centred @ self.teacher.T).argmax(dim=1))


def trained_slopes(kind: str, seed: int, steps: int = 150) -> Tensor:
    """Train a mask for each task; return -dG/dα at α = 1/k, averaged over fresh data of each task: row j, data of task j."""
    net = FrozenNetwork(nn.Linear(FEATURES, OUTPUTS, bias=False), seed)
    tasks = [FeatureTask(kind, seed, task) for task in range(TASKS)]
    bank = MaskBank(net)
    for index, task in enumerate(tasks):
        batches = (task.batch(64) for _ in range(steps))
        bank.append(train_threshold_mask(net, fresh_scores(net, seed, index), batches, learning_rate=0.003))
    uniform = torch.full((TASKS,), 1 / TASKS)
    return torch.stack([-belief_slopes(G, net, bank, task.batch(256).images, uniform) for task in tasks])


@functools.cache
def right_and_wrong(kind: str) -> tuple[Tensor, Tensor]:
    """Return, one a seed: the mean slope of the right task, and the mean slope of the wrong ones."""
    slopes = torch.stack([trained_slopes(kind, seed) for seed in range(SEEDS)])
    right = slopes.diagonal(dim1=1, dim2=2).mean(dim=1)
    wrong = (slopes.sum(dim=(1, 2)) - slopes.diagonal(dim1=1, dim2=2).sum(dim=1)) / (TASKS * (TASKS - 1))
    return right, wrong


def t_statistic(values: Tensor) -> float:
    """Return the mean in units of its standard error."""
    return float(values.mean() / (values.std() / math.sqrt(len(values))))
