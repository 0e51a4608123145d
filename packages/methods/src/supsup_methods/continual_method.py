"""What every method of continual learning offers to training and evaluation."""

from collections.abc import Callable, Sequence
from typing import Protocol

from jaxtyping import Float
from supsup_core import Guess
from supsup_datasets import Task
from torch import Tensor


class ContinualMethod(Protocol):
    """A method that learns tasks in turn and can be asked about any of them."""

    @property
    def tasks_learned(self) -> int:
        """Number of tasks learned so far."""

    def learn(self, tasks: Sequence[Task], on_batch: Callable[[], None]) -> None:
        """Learn the next tasks; `on_batch` is called after each training batch of each task."""

    def infer(self, images: Float[Tensor, "images *input"]) -> Guess:
        """Tell from images alone which task they belong to: labels and the true task are not arguments."""

    def infer_each(self, batches: Sequence[Float[Tensor, "images *input"]]) -> list[int]:
        """Return the tasks that `infer` tells of several batches, each from its own images alone."""

    def logits(self, images: Float[Tensor, "images *input"], task: int) -> Float[Tensor, "images outputs"]:
        """Return the outputs of the network as `task` left it."""
