import os

import pytest
from supsup_dashboard.launching.devices import Device, available_devices, device_option, free_memory

TWO = "0, GPU-aaaa, NVIDIA H100 80GB HBM3, 81079, 81559\n1, GPU-bbbb, NVIDIA H100 80GB HBM3, 1024, 81559\n"


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Put an nvidia-smi on the PATH that answers as it is told."""

    def answer(text, status=0):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\ncat <<'END'\n{text}END\nexit {status}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return answer


def test_each_gpu_is_there_with_its_free_memory_and_the_cpu_last(smi):
    smi(TWO)
    assert available_devices() == [
        Device("cuda:0", "NVIDIA H100 80GB HBM3, 79.6 GiB", "79.2 GiB"),
        Device("cuda:1", "NVIDIA H100 80GB HBM3, 79.6 GiB", "1.0 GiB"),
        Device("cpu", f"{os.cpu_count()} cores"),
    ]
    assert free_memory(available_devices()) == "Free now: 79.2 GiB of cuda:0, 1.0 GiB of cuda:1."
    assert free_memory(available_devices()[2:]) == ""


@pytest.mark.parametrize(
    ("visible", "free"), [("1", ["1.0"]), ("1,0", ["1.0", "79.2"]), ("GPU-bb", ["1.0"]), ("", []), ("0,7,1", ["79.2"])]
)
def test_what_cuda_does_not_see_is_not_offered(smi, monkeypatch, visible, free):
    smi(TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpus = [device for device in available_devices() if device.name != "cpu"]
    assert [device.name for device in gpus] == [f"cuda:{number}" for number in range(len(free))]
    assert [device.free for device in gpus] == [f"{number} GiB" for number in free]


@pytest.mark.parametrize(
    ("text", "status"), [("", 9), ("NVIDIA-SMI has failed\n", 0), ("0, GPU-a, Name, [N/A], [N/A]\n", 0)]
)
def test_a_driver_that_does_not_answer_leaves_the_cpu(smi, text, status):
    smi(text, status)
    assert [device.name for device in available_devices()] == ["cpu"]


@pytest.mark.parametrize("status", [0, 9])
def test_a_form_that_is_drawn_again_does_not_ask_the_driver_again(smi, tmp_path, status):
    smi(TWO, status)
    first = available_devices()
    assert [available_devices() for _ in range(5)] == [first] * 5
    assert (tmp_path / "asked").read_text() == "asked\n"


def test_without_a_driver_there_is_the_cpu(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [device.name for device in available_devices()] == ["cpu"]


@pytest.mark.parametrize(
    ("chosen", "available", "option"),
    [
        (["cpu"], ["cpu"], "auto"),
        (["cpu"], ["cuda:0", "cpu"], "cpu"),
        (["cuda:0", "cuda:1"], ["cuda:0", "cuda:1", "cpu"], "cuda:0,cuda:1"),
    ],
)
def test_a_cpu_that_is_all_there_is_is_used_by_as_many_processes_as_pay(chosen, available, option):
    assert device_option(chosen, available) == option
