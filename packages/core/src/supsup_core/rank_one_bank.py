"""BatchE's contexts behind the same three questions as masks: W_i = W ⊙ (s_i r_iᵀ) (Appendix C, Eq. 10)."""

from collections.abc import Mapping
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from supsup_core.errors import InvalidArgument
from supsup_core.frozen_network import FrozenNetwork
from supsup_core.shapes import OuterProducts, RankOneFactors, Weights
from supsup_core.task_rows import TaskRows, TaskStatistics, known_task, refuse_other_beliefs

_PRODUCT_FLOATS = 2**22  # of several tasks and images in memory at once


class RankOneBank:
    """A pair of vectors for each layer and task: r over the inputs, s over the outputs of a frozen weight.

    Element (o, i) of a weight of shape (out, in, ...) is multiplied by s_o r_i; the positions of a kernel share it.

    Args:
        net: the network that the factors belong to.
        buffer_dtype: how running statistics are kept (see `MaskBank`).

    Raises:
        InvalidArgument: a maskable parameter has fewer than two axes.
    """

    def __init__(self, net: FrozenNetwork, buffer_dtype: torch.dtype = torch.float32) -> None:
        for entry in net.maskable:
            if len(entry.shape) < 2:
                raise InvalidArgument(
                    f"{entry.name!r}: shape {entry.shape} has no inputs and outputs; leave it out by select="
                )
        self._net = net
        self._frozen = net.frozen
        self._inputs = {entry.name: TaskRows(entry.shape[1], net.dtype, net.device) for entry in net.maskable}
        self._outputs = {entry.name: TaskRows(entry.shape[0], net.dtype, net.device) for entry in net.maskable}
        self._statistics = TaskStatistics(net, buffer_dtype)

    def __len__(self) -> int:
        """Return the number of tasks stored."""
        return len(self._statistics.table)

    @property
    def context_bytes(self) -> int:
        """Bytes of all tasks' vectors."""
        tables = (*self._inputs.values(), *self._outputs.values())
        return sum(table.bytes for table in tables)

    @property
    def buffer_bytes(self) -> int:
        """Bytes of all tasks' running statistics."""
        return self._statistics.table.bytes

    def append(self, factors: Mapping[str, tuple[Tensor, Tensor]], buffers: Mapping[str, Tensor] | None = None) -> int:
        """Store a new task and return its index.

        Args:
            factors: (r, s) for each maskable parameter, of shapes (in,) and (out,).
            buffers: the running statistics of a network that has them, by name.

        Raises:
            InvalidArgument: a parameter has no factors, or some of another shape, or not finite, or a name is unknown; the same
                for buffers.
        """
        unknown = set(factors) - set(self._frozen)
        if unknown:
            raise InvalidArgument(f"factors: {sorted(unknown)} are not maskable; known: {', '.join(self._frozen)}")
        for entry in self._net.maskable:
            if entry.name not in factors:
                raise InvalidArgument(
                    f"factors: none for {entry.name!r}; a task needs a pair for every maskable parameter"
                )
            shapes, expected = (
                tuple(tuple(part.shape) for part in factors[entry.name]),
                ((entry.shape[1],), (entry.shape[0],)),
            )
            if shapes != expected:
                raise InvalidArgument(
                    f"factors[{entry.name!r}]: shapes {shapes}; r and s of this weight are {expected}"
                )
        rows = {name: tuple(self._row(name, part) for part in pair) for name, pair in factors.items()}
        statistics = self._statistics.flatten(buffers or {})
        for name, (r, s) in rows.items():
            for table, row in ((self._inputs[name], r), (self._outputs[name], s)):
                table.keep(len(self))  # without what an append that was interrupted left
                table.append(row)
        self._statistics.table.append(statistics.unsqueeze(0))  # last: these are counted
        return len(self) - 1

    def _row(self, name: str, part: Tensor) -> Float[Tensor, "1 values"]:
        """Return a vector as the bank keeps it."""
        row = torch.as_tensor(part).detach().to(self._net.device, self._net.dtype)
        if not bool(torch.isfinite(row).all()):
            raise InvalidArgument(
                f"factors[{name!r}]: some are not finite in {self._net.dtype}; lower the learning rate"
            )
        return row.unsqueeze(0)

    def factors(self, task: SupportsIndex) -> dict[str, tuple[Tensor, Tensor]]:
        """Return a copy of (r, s) of each maskable parameter.

        Raises:
            InvalidArgument: there is no such task.
        """
        task = known_task(task, len(self))
        return {name: (self._inputs[name][task].clone(), self._outputs[name][task].clone()) for name in self._frozen}

    def factors_between(self, first: int, last: int) -> dict[str, RankOneFactors]:
        """Return (r, s) of tasks `first` to `last` - 1 for each maskable parameter, of shapes (some, in) and (some, out).

        Raises:
            InvalidArgument: there are no such tasks.
        """
        if not 0 <= first < last <= len(self):
            raise InvalidArgument(
                f"first={first}, last={last}: the bank holds tasks 0 to {len(self) - 1}; ask for at least one of them"
            )
        return {
            name: (self._inputs[name].between(first, last), self._outputs[name].between(first, last))
            for name in self._frozen
        }

    def weights(self, task: SupportsIndex) -> Weights:
        """Return W ⊙ (s rᵀ) of a task, and its running statistics.

        Raises:
            InvalidArgument: there is no such task.
        """
        task = known_task(task, len(self))
        products = {name: torch.outer(s, r) for name, (r, s) in self.factors(task).items()}
        return self._scaled(products) | self._statistics.named(task)

    def blend(self, beliefs: Float[Tensor, "*rows tasks"]) -> Weights:
        """Return W ⊙ sum_i α_i s_i r_iᵀ; leading axes, one α a row, stay in front.

        Raises:
            InvalidArgument: there is not one belief for each task, or no task.
        """
        refuse_other_beliefs(beliefs, len(self))
        alpha = beliefs.to(self._net.dtype).unsqueeze(-2)
        return self._scaled(
            {name: (alpha * self._outputs[name].rows.T) @ self._inputs[name].rows for name in self._frozen}
        )

    def slopes(self, gradients: Mapping[str, Tensor]) -> Float[Tensor, "*rows tasks"]:
        """Return dO/dα_i = sum over layers of s_iᵀ (dO/dW(α) ⊙ W) r_i, for every task; leading axes stay in front."""
        slopes = []
        for entry in self._net.maskable:
            matrix = gradients[entry.name] * self._frozen[entry.name]
            if len(entry.shape) > 2:  # the positions of a kernel share their factors
                matrix = matrix.flatten(-len(entry.shape) + 2).sum(dim=-1)
            inputs, outputs = self._inputs[entry.name].rows, self._outputs[entry.name].rows
            slopes.append((outputs @ matrix).mul_(inputs).sum(dim=-1))  # in place: as large as all tasks' vectors
        return torch.stack(slopes).sum(dim=0)

    def outer_slopes(self, gradients: Mapping[str, OuterProducts]) -> Float[Tensor, "images tasks"]:
        """Return the slopes of gradients g aᵀ, one for each image, as sum_l (g ⊙ s_i)ᵀ W (a ⊙ r_i): no gradient is formed.

        Args:
            gradients: a and g of each maskable parameter, of shape (out, in), by name.
        """
        slopes = []
        for name, weight in self._frozen.items():
            inputs, outputs = gradients[name]
            r, s = self._inputs[name].rows, self._outputs[name].rows
            at_once = max(1, _PRODUCT_FLOATS // max(1, len(inputs) * sum(weight.shape)))
            parts = []
            for r_i, s_i in zip(r.unsqueeze(1).split(at_once), s.unsqueeze(1).split(at_once), strict=True):
                products = (inputs * r_i) @ weight.mT
                parts.append((products * (outputs * s_i)).sum(dim=-1).T)
            slopes.append(torch.cat(parts, dim=1))
        return torch.stack(slopes).sum(dim=0)

    def _scaled(self, factors: Mapping[str, Float[Tensor, "*rows out in"]]) -> dict[str, Tensor]:
        """Return W ⊙ factor, the factor spread over the positions of a kernel."""
        return {
            name: weight * factors[name].unflatten(-1, (-1, *[1] * (weight.ndim - 2)))
            for name, weight in self._frozen.items()
        }
