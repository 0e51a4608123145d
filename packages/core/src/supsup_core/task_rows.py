"""What stores of contexts share: rows of numbers that grow by tasks, and the running statistics of each task."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from supsup_core.errors import InvalidArgument
from supsup_core.frozen_network import FrozenNetwork


class TaskRows:
    """A matrix with one row a task. Adding a row costs that row, in the mean; a row keeps its values until it is set."""

    def __init__(self, width: int, dtype: torch.dtype, device: torch.device) -> None:
        self._store = torch.empty((0, width), dtype=dtype, device=device)
        self._tasks = 0

    @property
    def rows(self) -> Shaped[Tensor, "tasks width"]:
        """All rows; a view."""
        return self._store[: self._tasks]

    def append(self, rows: Shaped[Tensor, "new width"]) -> None:
        """Add rows behind the last, in the matrix's dtype and device."""
        end = self._tasks + len(rows)
        if end > len(self._store):
            grown = self._store.new_empty((max(end, 2 * len(self._store)), self._store.shape[1]))
            grown[: self._tasks] = self.rows
            self._store = grown
        self._store[self._tasks : end] = rows
        self._tasks = end

    def remove(self, task: int) -> None:
        """Drop a row; those behind it move up."""
        self._store[task : self._tasks - 1] = self._store[task + 1 : self._tasks].clone()
        self._tasks -= 1


class TaskStatistics:
    """The running statistics of each task (`FrozenNetwork.task_buffers`), rounded to a dtype as they come in."""

    def __init__(self, net: FrozenNetwork, dtype: torch.dtype) -> None:
        self._entries = net.task_buffers
        self._net_dtype = net.dtype
        self.table = TaskRows(sum(entry.size for entry in self._entries), dtype, net.device)

    def flatten(self, buffers: Mapping[str, Tensor]) -> Float[Tensor, " values"]:
        """Return one task's statistics as a row, rounded.

        Raises:
            InvalidArgument: a statistic is missing or has another shape, or a name is unknown.
        """
        unknown = set(buffers) - {entry.name for entry in self._entries}
        if unknown:
            raise InvalidArgument(f"buffers: {sorted(unknown)} are no running statistics of this network")
        for entry in self._entries:
            value = buffers.get(entry.name)
            if value is None:
                raise InvalidArgument(f"buffers: none for {entry.name!r}; each task has its own running statistics")
            if tuple(value.shape) != entry.shape:
                raise InvalidArgument(f"buffers[{entry.name!r}]: shape {tuple(value.shape)}; pass one of {entry.shape}")
        flat = [buffers[entry.name].detach().flatten() for entry in self._entries]
        return (torch.cat(flat) if flat else torch.empty(0)).to(self.table.rows)

    def checked(self, buffers: Tensor | None, tasks: int) -> Float[Tensor, "new values"]:
        """Return statistics that come as rows, rounded; None for a network without any.

        Raises:
            InvalidArgument: the shape is not (tasks, values).
        """
        expected = (tasks, self.table.rows.shape[1])
        rows = torch.empty(tasks, 0) if buffers is None else buffers
        if tuple(rows.shape) != expected:
            raise InvalidArgument(
                f"buffers: shape {tuple(rows.shape)}; {tasks} tasks of this network have shape {expected}"
            )
        return rows.to(self.table.rows)

    def named(self, task: int) -> dict[str, Tensor]:
        """Return one task's statistics by name, in the network's dtype."""
        parts = self.table.rows[task].to(self._net_dtype).split([entry.size for entry in self._entries])
        return {entry.name: part.view(entry.shape) for entry, part in zip(self._entries, parts, strict=True)}
