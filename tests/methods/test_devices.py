from types import SimpleNamespace

import pytest
import torch
from supsup_methods.devices import describe_device, memory_bytes, prepare_device, resolve_device, resolve_devices
from supsup_methods.errors import UsageError


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that the machine has some GPUs."""
    return lambda count: monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("count", "name", "expected"),
    [
        (0, "auto", "cpu"),
        (2, "auto", "cuda:0"),
        (2, "cpu", "cpu"),
        (2, "cuda", "cuda:0"),
        (2, "cuda:1", "cuda:1"),
    ],
)
def test_names_are_devices(gpus, count, name, expected):
    gpus(count)
    assert resolve_device(name) == torch.device(expected)


@pytest.mark.parametrize(
    ("count", "name", "message"),
    [
        (0, "cuda", "this machine has no usable GPU"),
        (1, "cuda:1", r"this machine has 1 GPU \(cuda:0 to cuda:0\)"),
        (2, "cuda:5", r"this machine has 2 GPUs \(cuda:0 to cuda:1\)"),
        (2, "cuda:", "not a device"),
        (2, "cuda:-1", "not a device"),
        (2, "", "not a device"),
    ],
)
def test_what_is_not_there_is_refused(gpus, count, name, message):
    gpus(count)
    with pytest.raises(UsageError, match=message):
        resolve_device(name)


def test_a_cpu_is_called_cpu():
    assert describe_device(torch.device("cpu")) == "cpu"


def test_a_list_of_names_is_a_device_for_each(gpus, monkeypatch):
    gpus(2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H100" if device.index == 0 else "A100")
    assert resolve_devices("cpu") == (torch.device("cpu"),)
    assert resolve_devices("cpu,cpu") == (torch.device("cpu"),) * 2
    assert resolve_devices("cuda,cuda:0") == (torch.device("cuda:0"),) * 2
    with pytest.raises(
        UsageError, match=r"--device cuda:0,cuda:1: these are A100 and H100, .*; name devices that are alike"
    ):
        resolve_devices("cuda:0,cuda:1")
    with pytest.raises(UsageError, match="--device cpu,cuda: these are H100 and cpu"):
        resolve_devices("cpu,cuda")
    with pytest.raises(UsageError, match="--device cuda:2: this machine has 2 GPUs"):
        resolve_devices("cuda:1,cuda:2")


def test_a_gpu_is_the_one_that_its_process_uses_and_takes_float32_for_float32(monkeypatch):
    used = []
    monkeypatch.setattr(torch.cuda, "set_device", used.append)
    for flag in ("deterministic", "allow_tf32"):
        monkeypatch.setattr(
            torch.backends.cudnn, flag, flag == "allow_tf32"
        )  # as torch has them, and again after the test
    prepare_device(torch.device("cpu"))
    assert (used, torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32) == ([], False, True)
    prepare_device(torch.device("cuda:1"))
    assert (used, torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32) == (
        [torch.device("cuda:1")],
        True,
        False,
    )
    assert not torch.backends.cuda.matmul.allow_tf32, "torch's default, which matrix products need for the same"


def test_memory_is_that_of_the_device(monkeypatch):
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=80 + device.index)
    )
    assert memory_bytes(torch.device("cuda:1")) == 81
    assert memory_bytes(torch.device("cpu")) > 2**30
