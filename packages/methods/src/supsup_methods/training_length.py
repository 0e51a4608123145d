"""How long a task is trained: so many batches whatever its size, or so many passes over its images."""

from dataclasses import dataclass
from typing import Annotated

from supsup_methods.bounds import Bounds


@dataclass(frozen=True)
class BatchesATask:
    """As long for every task; the defaults are the paper's for MNIST (Section 4.2)."""

    batches: Annotated[int, Bounds(ge=1, le=10_000_000)] = 1000
    """Training batches for each task (Section 4.2)."""
    batch_size: Annotated[int, Bounds(ge=1, le=1_000_000)] = 128
    """Images in a batch (Section 4.2; Appendix D.1)."""

    def steps(self, images: int) -> int:
        """Return how many batches a task of so many training images takes."""
        return self.batches


@dataclass(frozen=True)
class EpochsATask:
    """Passes over all of a task's images."""

    epochs: Annotated[int, Bounds(ge=1, le=1_000_000)] = 1
    """Passes over the training images of each task."""
    batch_size: Annotated[int, Bounds(ge=1, le=1_000_000)] = 128
    """Images in a batch; the last of an epoch may be smaller."""

    def steps(self, images: int) -> int:
        """Return how many batches a task of so many training images takes."""
        return self.epochs * -(-images // self.batch_size)
