"""A method as a package of somebody else's would have it: the mean image of each class, and the nearest of them answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from supsup_methods.continual_method import MethodBytes, MethodKind, Opened, TaskGuess
from supsup_methods.state_files import TaskFiles, open_tasks
from supsup_methods.training_length import EpochsATask


@dataclass(frozen=True)
class OfAllMeans:
    """The task whose means are nearest."""

    images_per_guess: int = 1
    """Images of a test batch that infer the task of the whole batch."""


@dataclass(frozen=True)
class NearestMeanSettings:
    """The mean image of each class."""

    kind: Literal["nearest-mean"] = "nearest-mean"
    """Which method."""
    training: EpochsATask = field(default_factory=EpochsATask)
    inference: OfAllMeans = field(default_factory=OfAllMeans)


class NearestMean:
    """Answers by the nearest mean; which task images are from, by the nearest mean of all."""

    def __init__(self, problem, settings, means, files):
        self.net = problem.network()
        self._problem, self._settings, self._means, self._files = problem, settings, list(means), files

    @property
    def tasks_learned(self):
        return len(self._means)

    @property
    def bytes(self):
        return MethodBytes(sum(mean.nbytes for mean in self._means), 0, 0)

    def learn(self, tasks, on_batch):
        for task in tasks:
            (own,) = self.learn_apart([task], on_batch)
            self.adopt(task, own)

    def learn_apart(self, tasks, on_batch):
        return [{"means": self._mean_images(task, on_batch)} for task in tasks]

    def adopt(self, task, own):
        self._means.append(own["means"])

    def _mean_images(self, task, on_batch):
        sums, counts = 0.0, 0.0
        for batch in task.train.in_order(self._settings.training.batch_size):
            ones = torch.nn.functional.one_hot(batch.labels, self._problem.num_labels).float()
            sums, counts = sums + ones.T @ batch.images.flatten(1), counts + ones.sum(0)[:, None]
            on_batch()
        return sums / counts

    @property
    def infer_each(self):
        return self._infer_each

    def _infer_each(self, batches: Sequence[torch.Tensor]) -> list[TaskGuess]:
        return [self._infer(images[: self._settings.inference.images_per_guess]) for images in batches]

    def _infer(self, images):
        nearest = torch.stack([self.logits(images, task).amax(1).sum() for task in range(self.tasks_learned)])
        beliefs = nearest.softmax(0)
        return TaskGuess(int(beliefs.argmax()), float(beliefs.max()))

    def logits(self, images, task):
        return -(torch.cdist(images.flatten(1), self._means[task]) ** 2)

    def save(self, folder: Path) -> None:
        self._files.write_new(folder, [{"means": mean} for mean in self._means])

    def first(self, tasks):
        return NearestMean(self._problem, self._settings, self._means[:tasks], TaskFiles())


def _open(folder, settings, problem, whole_groups):
    state, notes = open_tasks(folder, problem.device, mend=whole_groups is not None)
    means = [own["means"] for own in state.tasks]
    return Opened(NearestMean(problem, settings, means, TaskFiles(folder, len(means))), notes)


def _stored_bytes(settings, net, tasks):
    return 4 * 10 * 784 * tasks


KIND = MethodKind(
    NearestMeanSettings,
    _open,
    _stored_bytes,
    inference=lambda settings: settings.inference,
    apart_from=lambda settings: 0,
)
