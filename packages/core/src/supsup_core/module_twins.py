"""Copies of a module to be called in its place, one by each thread at a time."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from supsup_core.inference_mode import outside_inference_mode

NORMALISATION = nn.modules.batchnorm._NormBase
"""Layers that have running statistics, or may have."""


class ModuleTwins:
    """Copies of a module that share its parameters and buffers, as many as there were calls at once.

    `functional_call` puts weights into a module while it lasts. It is given a twin, so that whoever looks at the module, or
    copies it, meets its own weights, and calls from several threads do not meet each other.

    Args:
        module: what they are copies of.
        prepare: is applied to each of them once.
    """

    def __init__(self, module: nn.Module, prepare: Callable[[nn.Module], object]) -> None:
        self._module = module
        self._prepare = prepare
        self._idle: list[nn.Module] = []

    @contextmanager
    def one(self) -> Iterator[nn.Module]:
        """Lend a twin that nobody else has until it comes back."""
        try:
            twin = self._idle.pop()
        except IndexError:
            twin = self._made()
        try:
            yield twin
        finally:
            self._idle.append(twin)

    @outside_inference_mode
    def _made(self) -> nn.Module:
        shared = {id(tensor): tensor for tensor in (*self._module.parameters(), *self._module.buffers())}
        twin = copy.deepcopy(self._module, shared)
        self._prepare(twin)
        return twin


def forget_statistics(module: nn.Module) -> None:
    """Have the normalisation layers of a module take the statistics of each batch, for they have none of their own any more."""
    for layer in module.modules():
        if isinstance(layer, NORMALISATION):
            layer.track_running_stats = False
            for name, _ in tuple(layer.named_buffers(recurse=False)):
                setattr(layer, name, None)
