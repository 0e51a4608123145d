"""The ways that are compared: the plain forward pass, masked ones, task switches, and copies of W (Appendix D.4)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from supsup_core import FrozenNetwork, Masks, SparseForward, Weights
from torch import Tensor

from supsup_methods.masked_forward.drawn_tasks import Tasks, laid_out

PLAIN, SWITCH, COPY = "plain forward", "switch alone", "copy of W"
IN_PLACE, WITH_SWITCH = "masked, weights in place", "masked, with a switch"
FLOAT_MASK, BOOL_MASK = "masked, W × a float mask", "masked, W × a bool mask"
ONES_ALONE = "masked, ones alone"


@dataclass(frozen=True)
class Way:
    """A piece of work to be timed."""

    what: str
    work: Callable[[int], Any]
    """Takes the task; a forward pass returns the outputs."""
    kind: str = ""
    """Of the masks; empty without any."""
    bytes: int = 0
    """Read and written at the least; 0 for a forward pass."""


def plain_ways(net: FrozenNetwork, images: Tensor) -> list[Way]:
    """Return the forward pass of the module itself, and copies of W into memory in use and into fresh memory."""
    module, flat = net.module, net.flatten(net.frozen)
    used, moved = torch.empty_like(flat), 2 * flat.nbytes
    return [
        Way(PLAIN, lambda _: module(images)),
        Way(COPY, lambda _: used.copy_(flat), bytes=moved),
        Way(f"{COPY} to fresh memory", lambda _: flat.clone(), bytes=moved),
    ]


def switch_ways(tasks: Tasks, net: FrozenNetwork) -> list[Way]:
    """Return a task switch, into memory in use and into fresh memory: reads the bits and W, writes W ⊙ M."""
    moved = tasks.bank.row_bytes + 2 * net.num_bits * net.dtype.itemsize
    used = torch.empty_like(net.flatten(net.frozen))
    return [
        Way(SWITCH, partial(tasks.bank.weights, out=used), tasks.kind, moved),
        Way(f"{SWITCH}, to fresh memory", tasks.bank.weights, tasks.kind, moved),
    ]


def masked_ways(net: FrozenNetwork, tasks: Tasks, images: Tensor, layout: torch.memory_format) -> list[Way]:
    """Return the masked forward passes: weights in place, with a switch, and W multiplied in each call, as the paper does.

    Of masks that are sparse, on a CPU, the one over their ones alone as well.
    """
    bank, frozen = tasks.bank, net.frozen
    placed: list[Weights] = [bank.weights(task) for task in range(len(bank))]
    used = torch.empty_like(net.flatten(frozen))
    floats = [{name: mask.to(net.dtype) for name, mask in masks.items()} for masks in tasks.masks]

    def multiply_with(masks: Sequence[Masks], task: int) -> Tensor:
        weights = {name: weight * masks[task][name] for name, weight in frozen.items()}
        return net(images, weights | tasks.statistics[task])

    ways = [
        Way(IN_PLACE, lambda task: net(images, placed[task]), tasks.kind),
        Way(WITH_SWITCH, lambda task: net(images, bank.weights(task, out=used)), tasks.kind),
        Way(FLOAT_MASK, partial(multiply_with, floats), tasks.kind),
        Way(BOOL_MASK, partial(multiply_with, tasks.masks), tasks.kind),
    ]
    if tasks.kind == "sparse" and net.device.type == "cpu":  # elsewhere it is a pass with weights in place
        by_ones = [SparseForward(net, weights) for weights in placed]
        ways.append(Way(ONES_ALONE, lambda task: by_ones[task](images), tasks.kind))
    if layout is torch.channels_last:  # a bank's weights lie as they are numbered, and kernels turn them at each call
        turned = [laid_out(weights, layout) for weights in placed]
        ways.insert(1, Way("masked, channels last", lambda task: net(images, turned[task]), tasks.kind))
    return ways
