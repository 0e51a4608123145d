"""What all training has in common: batches in turn, the share of the learning rate, and a way back after a stop."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from supsup_core import FrozenNetwork
from supsup_core.random_streams import stream_key
from supsup_datasets import Batch
from torch import Tensor

from supsup_methods.continual_method import FEWEST_IMAGES, OnBatch
from supsup_methods.snapshots import Snapshots
from supsup_methods.training_length import TaskTraining


@dataclass(frozen=True)
class TrainingLoop:
    """The steps of one task, or of several at once.

    Attributes:
        net: the network that is trained.
        tasks: indexes of the tasks.
        training: how long, and at which share of the rate.
        images: training images of a task.
        on_batch: called after each step, once for each task.
        snapshots: where the state is kept now and then.
    """

    net: FrozenNetwork
    tasks: tuple[int, ...]
    training: TaskTraining
    images: int
    on_batch: OnBatch
    snapshots: Snapshots = field(default_factory=Snapshots)

    @property
    def steps(self) -> int:
        """How many there are."""
        return self.training.steps(self.images)

    def run(
        self,
        batches: Callable[[int], Iterable[Batch]],
        step: Callable[[Batch, float], None],
        state: Mapping[str, Tensor],
    ) -> None:
        """Take the steps that are left.

        Whatever layers draw at random, dropout for example, they draw from (seed, task, step). A batch of one image has no
        statistics, so where a network looks at a whole batch it is passed over.

        Args:
            batches: from a number of batches to pass over to those that follow.
            step: takes a batch and the share of the learning rate.
            state: all tensors that steps change, so that the next one depends on them and nothing else.
        """
        done = self.snapshots.restore(self.tasks, state)
        for _ in range(done):
            self._tell()
        fewest = FEWEST_IMAGES if self.net.task_buffers else 1
        with _own_random_numbers(self.net.device) as generator:
            for number, batch in enumerate(batches(done), start=done):
                generator.manual_seed(stream_key(self.net.seed, "layers", self.tasks[0], number))
                if len(batch) >= fewest:
                    step(batch, self.training.schedule.share(number, self.steps))
                self._tell()
                self.snapshots.offer(self.tasks, number + 1, state)

    def _tell(self) -> None:
        for _ in self.tasks:
            self.on_batch()


@contextmanager
def _own_random_numbers(device: torch.device) -> Iterator[torch.Generator]:
    """Lend the generator that layers draw from on a device, and leave it as it was."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        yield torch.cuda.default_generators[device.index or 0] if on_gpu else torch.default_generator
