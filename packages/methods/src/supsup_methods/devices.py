"""The device a run uses, by the names that torch gives them."""

import contextlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from supsup_methods.errors import UsageError


def resolve_device(name: str) -> torch.device:
    """Return the device called `name`: auto (a GPU if there is one), cpu, cuda, or cuda:N.

    Raises:
        UsageError: the name is unknown, or this machine has no such device.
    """
    gpus = torch.cuda.device_count()
    if name == "auto":
        return torch.device("cuda:0" if gpus else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind != "cuda" or (":" in name and not index.isdecimal()):
        raise UsageError(f"--device {name}: not a device; one of auto, cpu, cuda, cuda:0, cuda:1, ...")
    if int(index or 0) >= gpus:
        found = f"has {gpus} GPU{'s' if gpus > 1 else ''} (cuda:0 to cuda:{gpus - 1})" if gpus else "has no usable GPU"
        raise UsageError(f"--device {name}: this machine {found}; use --device cpu or auto")
    return torch.device(f"cuda:{int(index or 0)}")


def prepare_device(device: torch.device) -> None:
    """Have this process compute on a GPU what its recipe says, to the same bits each time, and leave other GPUs alone.

    Convolutions add up in one order, as a run that goes on after a stop must end with the same bits, and take float32 for
    float32: torch would round what they multiply to TF32's ten bits, where matrix products are exact. So they do from then on,
    in all of the process.
    """
    if device.type == "cuda":
        if device.index is not None:
            torch.cuda.set_device(device)  # or this process holds some hundred MB of GPU 0 as well
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False


def memory_bytes(device: torch.device) -> int:
    """Return how much memory there is where a device computes, in bytes, used or not."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def resolve_devices(names: str) -> tuple[torch.device, ...]:
    """Return the devices of a list with commas, for a process on each; one that is named twice gets two.

    Raises:
        UsageError: a name is unknown, this machine has no such device, or they would not end with the same bits.
    """
    devices = tuple(resolve_device(name) for name in names.split(","))
    kinds = {torch.cuda.get_device_name(device) if device.type == "cuda" else device.type for device in devices}
    if len(kinds) > 1:
        raise UsageError(
            f"--device {names}: these are {' and '.join(sorted(kinds))}, and a task's last bits depend on where it is learned; "
            "name devices that are alike"
        )
    return devices


def describe_device(device: torch.device) -> str:
    """Return the device as people know it: "cuda:0 (NVIDIA H100)"."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def describe_machine(device: torch.device, others: Sequence[torch.device] = ()) -> str:
    """Return processor, cores, and the GPUs if some are used: what seconds depend on."""
    described = f"{_processor()}, {os.cpu_count()} cores"
    if device.type != "cuda":
        return described
    gpus = len({device, *others})
    return f"{described}, {f'{gpus} × ' if gpus > 1 else ''}{torch.cuda.get_device_name(device)}"


def _processor() -> str:
    """Return the processor's name as Linux tells it, or else its architecture."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
