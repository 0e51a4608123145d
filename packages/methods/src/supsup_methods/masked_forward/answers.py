"""Whether masked forward passes compute f(x, W ⊙ M): held to a module whose weights were multiplied by hand."""

import copy
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from supsup_core import FrozenNetwork
from torch import Tensor

from supsup_methods.masked_forward.drawn_tasks import Tasks
from supsup_methods.masked_forward.ways import IN_PLACE, WITH_SWITCH, Way

# Weights and like ways are compared to the bit; this only tells a mask that was not used from kernels that round otherwise: by
# some 1e-6 in float32, by a few 1e-3 where a GPU's convolutions take TF32, by a few 1e-2 in bfloat16.
TOLERANCE: Mapping[str, float] = MappingProxyType({"float32": 1e-2, "bfloat16": 1e-1})
"""By precision, as a share of the largest output."""


class WrongAnswerError(Exception):
    """A masked way does not compute f(x, W ⊙ M), so that its time means nothing."""


def check_weights(net: FrozenNetwork, tasks: Tasks) -> None:
    """Stop unless a bank gives W ⊙ M of the masks that were drawn, to the bit.

    Raises:
        WrongAnswerError: it does not.
    """
    for task, masks in enumerate(tasks.masks):
        weights = tasks.bank.weights(task)
        for name, frozen in net.frozen.items():
            if not torch.equal(weights[name], frozen * masks[name]):
                raise WrongAnswerError(f"{tasks.kind}, task {task}: the bank's {name!r} is not W times the mask")


def multiplied_by_hand(net: FrozenNetwork, tasks: Tasks, task: int) -> torch.nn.Module:
    """Return a copy of the module with a task's mask multiplied into its weights, and the task's running statistics."""
    module = copy.deepcopy(net.module)
    parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
    for name, mask in tasks.masks[task].items():
        parameters[name].mul_(mask)
    for name, value in tasks.statistics[task].items():
        buffers[name].copy_(value)
    return module


def check_answers(ways: Sequence[Way], by_hand: Mapping[tuple[str, int], Tensor], tolerance: float) -> float:
    """Return the largest difference of a masked way to the modules made by hand, as a share of the largest output.

    Args:
        ways: those without a kind of mask, or that are no forward pass, are passed over.
        by_hand: outputs of the module made by hand, (images, outputs), by kind of mask and task.
        tolerance: the share from which on two outputs are no longer the same but for rounding.

    Raises:
        WrongAnswerError: a way differs by more; or a switch before the call changes a bit of the answer; or the modules
            made by hand answer with nothing but zeros, or with no numbers, to which nothing can be compared.
    """
    largest, forwards = 0.0, {(way.what, way.kind): way for way in ways if way.kind and not way.bytes}
    for (kind, task), expected in by_hand.items():
        scale = float(expected.float().abs().max())
        if not 0.0 < scale < float("inf"):
            raise WrongAnswerError(f"{kind}, task {task}: the largest output is {scale}; nothing can be compared to it")
        answers = {what: way.work(task) for (what, of), way in forwards.items() if of == kind}
        if not torch.equal(answers[IN_PLACE], answers[WITH_SWITCH]):
            raise WrongAnswerError(f"{kind}, task {task}: a switch before the call changed the answer")
        for what, answer in answers.items():
            difference = float((answer.float() - expected.float()).abs().max()) / scale
            if not difference <= tolerance:  # so that NaN is refused
                raise WrongAnswerError(f"{what}, {kind}, task {task}: {difference:.1e} of the largest output off")
            largest = max(largest, difference)
    return largest
