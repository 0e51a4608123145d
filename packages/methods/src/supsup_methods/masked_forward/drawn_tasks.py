"""Networks of torchvision and tasks with masks drawn at random: what the cost of a mask is measured on (Appendix D.4)."""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from supsup_core import FrozenNetwork, MaskBank, Masks, erdos_renyi_budget, top_k_mask
from torch import Tensor

NETWORKS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
BUDGET_FACTOR = 8.0
"""c of the Erdős-Rényi budget: the middle one of the paper's three for ResNet-50."""
TASKS = 2
"""Enough to change task at each call."""


def _half(scores: Tensor, budget: int, task: int) -> Tensor:
    return scores < 0.5


MASKS: Mapping[str, Callable[[Tensor, int, int], Tensor]] = MappingProxyType({"half": _half, "sparse": top_k_mask})
"""Kinds of masks: from scores in [0, 1), the layer's Erdős-Rényi budget and the task."""


@dataclass(frozen=True)
class Setting:
    """What the cost of a mask is measured at.

    Attributes:
        network: of NETWORKS.
        image_side: pixels; images are 3 × side × side.
        batch_size: images of a forward pass.
        device: of network, images and bank.
        precision: float32, or bfloat16 by autocast.
        channels_last: whether the axis of channels lies innermost, in images and in the module's convolutions.
    """

    network: str
    image_side: int
    batch_size: int
    device: torch.device
    precision: str = "float32"
    channels_last: bool = True

    @property
    def layout(self) -> torch.memory_format:
        """How images and convolutions' weights lie in memory."""
        return torch.channels_last if self.channels_last else torch.contiguous_format


@dataclass(frozen=True)
class Tasks:
    """Some tasks with one kind of mask: as drawn, and in a bank."""

    kind: str
    masks: list[Masks]
    statistics: list[dict[str, Tensor]]
    """Running means and variances of each task."""
    bank: MaskBank


@dataclass(frozen=True)
class Reopened:
    """A bank that went through entropy-coded files."""

    tasks: Tasks
    file_bytes: int
    open_seconds: float


def frozen_network(setting: Setting) -> FrozenNetwork:
    """Return torchvision's network with its weights frozen at ± constant, on the device and in the layout of a setting.

    Its batch norm is torchvision's, with scale 1 and bias 0: the paper's non-affine one.
    """
    import torchvision  # here: importing it takes seconds, and naming the networks needs none of it

    module = getattr(torchvision.models, setting.network)(weights=None)
    return FrozenNetwork(module.to(memory_format=setting.layout), seed=0).to(setting.device)


def random_images(setting: Setting) -> Tensor:
    """Return the images of a forward pass, (batch, 3, side, side), standard normal."""
    shape = (setting.batch_size, 3, setting.image_side, setting.image_side)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return images.to(setting.device, memory_format=setting.layout)


def draw_tasks(net: FrozenNetwork, kind: str, layout: torch.memory_format) -> Tasks:
    """Draw masks at random, half of all weights or the Erdős-Rényi budget, and running statistics for each task.

    Args:
        net: on which they are.
        kind: of MASKS.
        layout: of the masks of convolutions.
    """
    budget = erdos_renyi_budget(net, BUDGET_FACTOR)
    generator = torch.Generator().manual_seed(list(MASKS).index(kind))
    tasks = Tasks(kind, [], [], MaskBank(net))
    for task in range(TASKS):
        masks = {
            entry.name: MASKS[kind](torch.rand(entry.shape, generator=generator), budget[entry.name], task)
            for entry in net.maskable
        }
        # Means about 0, variances about 1: they differ between tasks, and no layer dies of them.
        values = {
            entry.name: 0.2 * torch.rand(entry.shape, generator=generator) + ("var" in entry.name) - 0.1
            for entry in net.task_buffers
        }
        tasks.masks.append(laid_out({name: mask.to(net.device) for name, mask in masks.items()}, layout))
        tasks.statistics.append({name: value.to(net.device) for name, value in values.items()})
        tasks.bank.append(tasks.masks[task], tasks.statistics[task])
    return tasks


def laid_out(values: Mapping[str, Tensor], layout: torch.memory_format) -> dict[str, Tensor]:
    """Return tensors with those of four axes, a convolution's, in a memory layout."""
    return {
        name: value.contiguous(memory_format=layout) if value.ndim == 4 else value for name, value in values.items()
    }


def reopened(tasks: Tasks, net: FrozenNetwork) -> Reopened:
    """Save a bank entropy-coded and open it again: masks are decoded then, and a switch finds packed bits as ever."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bank"
        tasks.bank.save(path, compact=True)
        size = sum(file.stat().st_size for file in path.iterdir())
        start = time.perf_counter()
        bank = MaskBank.open(path, net)
        bank.check()  # checksums are compared once, at a task's first use: no part of a later switch
        seconds = time.perf_counter() - start
    return Reopened(Tasks(f"{tasks.kind}, compact", tasks.masks, tasks.statistics, bank), size, seconds)
