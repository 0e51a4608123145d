"""A function of one group of images, of many groups at once."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


def over_groups(function: Callable[..., Any], *arguments: Tensor | Mapping[str, Tensor], shared: int = 0) -> Any:
    """Return what a function makes of each group: its tensor, or its tensors by name, with an axis of groups in front.

    All groups go at once where the forward pass can be batched. Where it cannot, as with recurrent layers, or values that
    decide what is done, they go one by one.

    Args:
        function: of one group.
        arguments: of all groups, tensors or tensors by name, with an axis of groups in front.
        shared: how many of the arguments, from the first on, have no such axis: they are the same for all groups.
    """
    dims = tuple(None if place < shared else 0 for place in range(len(arguments)))
    try:
        with _batched_attention():
            return torch.func.vmap(function, in_dims=dims)(*arguments)
    except RuntimeError:  # if it is not for the batching, the first group raises it again
        pass
    each = [
        function(*(value if dim is None else _group(value, group) for value, dim in zip(arguments, dims, strict=True)))
        for group in range(len(next(iter(_tensors(arguments[-1])))))
    ]
    if isinstance(each[0], Mapping):
        return {name: torch.stack([values[name] for values in each]) for name in each[0]}
    return torch.stack(each)


class _Attention:
    """Who of this process's threads needs the one kernel of attention that has a batching rule."""

    lock = threading.Lock()
    users = 0
    before = ExitStack()
    """Puts the kernels back that were chosen before the first of them came."""


@contextmanager
def _batched_attention() -> Iterator[None]:
    """Have torch take that kernel. The choice is the process's: the last thread to leave undoes what the first one set."""
    with _Attention.lock:
        if _Attention.users == 0:
            _Attention.before.enter_context(sdpa_kernel(SDPBackend.MATH))
        _Attention.users += 1
    try:
        yield
    finally:
        with _Attention.lock:
            _Attention.users -= 1
            if _Attention.users == 0:
                _Attention.before.close()


def _group(value: Tensor | Mapping[str, Tensor], group: int) -> Tensor | dict[str, Tensor]:
    return value[group] if isinstance(value, Tensor) else {name: tensor[group] for name, tensor in value.items()}


def _tensors(value: Tensor | Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    return (value,) if isinstance(value, Tensor) else tuple(value.values())
