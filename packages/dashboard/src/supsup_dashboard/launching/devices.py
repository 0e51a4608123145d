"""Which devices there are to run on, told without touching them: a page that is open should take no memory of a GPU."""

import os
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import streamlit as st

_QUERY = ("--query-gpu=index,uuid,name,memory.free,memory.total", "--format=csv,noheader,nounits")
_PATIENCE_SECONDS = 10
_FRESH_SECONDS = 15


@dataclass(frozen=True)
class Device:
    """A device as `supsup-train --device` calls it."""

    name: str
    about: str
    """What it is, with its memory: the same for as long as it is there, as widgets know their choices by it."""
    free: str = ""
    """How much of its memory is free now; nothing where there is none of its own."""

    @property
    def label(self) -> str:
        """Its name, and what it is."""
        return f"{self.name} ({self.about})"


def available_devices() -> list[Device]:
    """Return the GPUs that this process may use, by nvidia-smi, and the CPU; what nvidia-smi cannot tell is not there.

    `CUDA_VISIBLE_DEVICES` counts, by index or by UUID, as it does for torch, in the order of nvidia-smi. What is free of their
    memory is some seconds old at most.
    """
    gpus = [
        Device(f"cuda:{number}", f"{name}, {total / 1024:.1f} GiB", f"{free / 1024:.1f} GiB")
        for number, (name, free, total) in enumerate(_visible(list(_gpus())))
    ]
    return [*gpus, Device("cpu", f"{os.cpu_count()} cores")]


def free_memory(devices: Iterable[Device]) -> str:
    """Return a line that tells how much memory of each device is free; nothing where none has its own."""
    told = [f"{device.free} of {device.name}" for device in devices if device.free]
    return f"Free now: {', '.join(told)}." if told else ""


def device_option(chosen: Sequence[str], available: Collection[str]) -> str:
    """Return what `--device` is given: auto where the CPU is all there is, which runs as many processes on it as pay."""
    return "auto" if list(available) == ["cpu"] else ",".join(chosen)


@dataclass(frozen=True)
class _Gpu:
    index: str
    uuid: str
    name: str
    free_mebibytes: float
    total_mebibytes: float


def _gpus() -> Iterator[_Gpu]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return
    for line in _answer(program).splitlines():
        fields = [field.strip() for field in line.split(",")]
        try:
            index, uuid, *name, free, total = fields
            yield _Gpu(index, uuid, ",".join(name), float(free), float(total))
        except ValueError:
            continue  # "[N/A]" of a card that shares the machine's memory, or is lost


@st.cache_data(ttl=_FRESH_SECONDS, show_spinner=False)
def _answer(program: str) -> str:
    """Return what nvidia-smi says, asked once for all sessions and redraws of some seconds: it may take seconds itself."""
    try:
        answer = subprocess.run(  # noqa: S603
            [program, *_QUERY], capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""  # a driver that does not answer has no GPU to offer
    return answer.stdout


def _visible(gpus: list[_Gpu]) -> Iterator[tuple[str, float, float]]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        chosen = gpus
    else:
        chosen = []
        for wanted in (part.strip() for part in visible.split(",")):
            match = next((gpu for gpu in gpus if wanted and (gpu.index == wanted or gpu.uuid.startswith(wanted))), None)
            if match is None:
                break  # CUDA as well stops at the first that is not there
            chosen.append(match)
    for gpu in chosen:
        yield gpu.name, gpu.free_mebibytes, gpu.total_mebibytes
