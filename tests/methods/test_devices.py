import pytest
import torch
from supsup_methods.devices import describe_device, resolve_device
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
