"""Slopes of many images by lookups in packed bits, against sums of float64."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_core import (
    FrozenNetwork,
    InvalidArgument,
    MaskBank,
    entropy,
    mask_bank,
    mask_slopes,
    one_shot_each,
    packed_lookups,
    task_rows,
)
from supsup_core.packed_bits import pack, unpack_to
from supsup_core.packed_lookups import MaskedLayer, lookups
from torch import nn

PROCESSOR = Path("/proc/cpuinfo")
FEATURES = PROCESSOR.read_text().split() if PROCESSOR.exists() else []
PERMUTED = 16 if "avx512f" in FEATURES else 8 if "avx2" in FEATURES else 0
EPS32 = torch.finfo(torch.float32).eps
SHAPES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 60)), min_size=1, max_size=3)


def drawn(shapes, images, tasks, seed, at_rest=0.5):
    """Return rows of bits, and layers one behind the other, with this share of g at rest."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    layers, first_bit = [], 0
    for outputs, inputs in shapes:
        rests = torch.rand(images, outputs, generator=generator) < at_rest
        slopes = normal(images, outputs).masked_fill(rests, 0.0)
        layers.append(MaskedLayer(first_bit, normal(outputs, inputs), normal(images, inputs), slopes))
        first_bit += outputs * inputs
    return pack(torch.rand(tasks, first_bit, generator=generator) < 0.5), layers


def formed(layers):
    parts = [layer.outputs.double().unsqueeze(-1) * layer.inputs.double().unsqueeze(-2) for layer in layers]
    return torch.cat([(part * layer.frozen.double()).flatten(1) for part, layer in zip(parts, layers, strict=True)], 1)


def check(slopes, rows, layers):
    values = formed(layers)
    exact = values @ unpack_to(rows, values.shape[1], torch.float64).mT
    # A sum of n float32 terms in any order is off by at most n eps times the sum of their sizes; each term by 2 eps more.
    bound = (values.shape[1] + 2) * EPS32 * values.abs().sum(dim=1, keepdim=True)
    assert slopes.shape == exact.shape
    assert ((slopes.double() - exact).abs() <= bound).all()


@pytest.fixture(params=[8, 16])
def _registers(request, monkeypatch):
    """Registers of either size, which LLVM makes of others where the processor has none."""
    monkeypatch.setattr(packed_lookups, "permuted_floats", lambda: request.param)


@pytest.mark.parametrize("floats", [8, 16])
@given(SHAPES, st.integers(1, 10), st.integers(1, 70), st.sampled_from([0.0, 0.5, 0.95, 1.0]), st.integers(0, 2**32))
def test_lookups_are_sums_over_bits(floats, shapes, images, tasks, at_rest, seed):
    rows, layers = drawn(shapes, images, tasks, seed, at_rest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_lookups, "permuted_floats", lambda: floats)
        check(lookups([rows], layers), rows, layers)


@pytest.mark.usefixtures("_registers")
def test_single_bits_select_single_numbers():
    frozen, inputs, outputs = torch.arange(1.0, 601.0).view(20, 30), torch.ones(5, 30), torch.ones(5, 20)
    inputs[3] = 2.0
    expected = frozen.flatten().expand(5, -1) * inputs[:, :1]
    rows = pack(torch.eye(600, dtype=torch.bool))
    assert torch.equal(lookups([rows], [MaskedLayer(0, frozen, inputs, outputs)]), expected)


@pytest.mark.usefixtures("_registers")
def test_only_the_bits_of_a_layer_are_its_own():
    """The layer lies between others in the row, at no whole word."""
    rows = pack(torch.ones(3, 500, dtype=torch.bool))
    layer = MaskedLayer(77, torch.ones(10, 13), torch.ones(2, 13), torch.ones(2, 10))
    assert torch.equal(lookups([rows], [layer]), torch.full((2, 3), 130.0))


def test_rows_may_end_where_memory_does():
    """In a process of its own, which reading beyond the page would end: words of 24 bits do not come out even there."""
    code = """
import ctypes, mmap
import torch
from supsup_core.packed_lookups import MaskedLayer, lookups
pages = mmap.mmap(-1, 2 * mmap.PAGESIZE)
start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + mmap.PAGESIZE), mmap.PAGESIZE, 0) == 0
row = torch.frombuffer(pages, dtype=torch.uint8, count=mmap.PAGESIZE)[None].fill_(255)
layer = MaskedLayer(0, torch.ones(8, mmap.PAGESIZE), torch.ones(4, mmap.PAGESIZE), torch.ones(4, 8))
for floats in (8, 16):
    lookups.__globals__["permuted_floats"] = lambda: floats
    print(lookups([row], [layer]).eq(8 * mmap.PAGESIZE).all().item())
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300)
    assert done.stdout == "True\n" * 2


def test_blocks_of_rows_are_read_where_they_lie():
    rows, layers = drawn([(30, 50), (7, 30)], 5, 100, seed=0)
    check(lookups([rows[:1], rows[1:40], rows[40:40], rows[40:]], layers), rows, layers)


@pytest.mark.parametrize("images", [0, 1, 4, 9, 30])
def test_threads_share_the_images(monkeypatch, images):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    rows, layers = drawn([(30, 50), (7, 30)], images, 100, seed=0)
    check(lookups([rows], layers), rows, layers)


def test_rows_and_gradients_that_do_not_lie_side_by_side():
    rows, (layer,) = drawn([(30, 50)], 4, 40, seed=0)
    turned = [each.mT.contiguous().mT for each in (layer.frozen, layer.inputs, layer.outputs)]
    blocks = [rows[:20:2], rows[20:].mT.contiguous().mT]
    check(lookups(blocks, [MaskedLayer(0, *turned)]), torch.cat(blocks), [layer])


def test_bits_behind_the_last_layer_count_for_nothing():
    rows, layers = drawn([(3, 7)], 4, 50, seed=0)
    set_bits = rows.clone()
    set_bits[:, 3:] = 255
    assert torch.equal(
        lookups([set_bits], layers), lookups([rows & (unpadded := pack(torch.ones(21, dtype=torch.bool)))], layers)
    )
    assert int(unpadded[2]) == 31


def test_gradients_of_another_shape_are_refused():
    """In a process of its own, where nothing checks annotations."""
    code = """
import torch
from supsup_core import InvalidArgument
from supsup_core.packed_lookups import MaskedLayer
for inputs, outputs in (((5, 29), (5, 20)), ((5, 30), (5, 19)), ((5, 30), (4, 20)), ((5, 20), (5, 30))):
    try:
        MaskedLayer(0, torch.ones(20, 30), torch.ones(inputs), torch.ones(outputs))
    except InvalidArgument as error:
        assert "a weight of 20 x 30; pass (images, 30) and (images, 20)" in str(error)
        print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300)
    assert done.stdout == "refused\n" * 4


def test_what_would_be_read_beyond_its_end_is_refused():
    rows, layers = drawn([(8, 16), (4, 8)], 4, 50, seed=0)
    _, (shorter, _) = drawn([(8, 16), (4, 8)], 3, 50, seed=0)
    with pytest.raises(InvalidArgument, match="of 3 images and of 4"):
        lookups([rows], [shorter, layers[1]])
    with pytest.raises(InvalidArgument, match="rows of fewer bits than the layers have"):
        lookups([rows, rows[:, :16]], layers)


def test_they_are_taken_for_many_images_over_a_large_bank(monkeypatch):
    monkeypatch.setattr(packed_lookups, "permuted_floats", lambda: 8)
    frozen = torch.zeros(2**18)
    assert packed_lookups.suits(frozen, 128, 64)
    assert not packed_lookups.suits(frozen, 200, 47), "matrix products are faster"
    assert not packed_lookups.suits(frozen, 127, 64), "a small call does not wait for a compiler"
    assert not packed_lookups.suits(frozen, 3, 10_000), "four images share the work"
    assert not packed_lookups.suits(frozen.double(), 128, 64)
    assert not packed_lookups.suits(frozen.to("meta"), 128, 64)


@pytest.mark.parametrize(
    ("name", "value"), [("NUMBA_CPU_NAME", "generic"), ("NUMBA_ENABLE_AVX", "0"), ("NUMBA_DISABLE_JIT", "1")]
)
def test_a_compiler_that_is_told_to_do_less_is_not_asked(name, value):
    code = "from supsup_core import machine_code; print(machine_code.permuted_floats())"
    environment = {key: text for key, text in os.environ.items() if not key.startswith("NUMBA")}
    for each, expected in ((environment, PERMUTED), ({**environment, name: value}, 0)):
        command = (sys.executable, "-c", code)
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300, env=each)
        assert done.stdout.strip() == str(expected)


def test_without_registers_that_are_permuted_they_are_not_taken(monkeypatch):
    monkeypatch.setattr(packed_lookups, "permuted_floats", lambda: 0)
    assert not packed_lookups.suits(torch.zeros(2**18), 1000, 1000)


def two_layers():
    return FrozenNetwork(nn.Sequential(nn.Linear(30, 21, bias=False), nn.ReLU(), nn.Linear(21, 5, bias=False)), seed=0)


@pytest.mark.parametrize("chosen", [True, False])
def test_slopes_are_the_same_either_way(monkeypatch, chosen):
    monkeypatch.setattr(packed_lookups, "suits", lambda *_: chosen)
    monkeypatch.setattr(
        mask_bank, "by_matrix_products" if chosen else "by_lookups", lambda *_: pytest.fail("the other")
    )
    monkeypatch.setattr(mask_slopes, "_TASKS_LOOKED_UP", 40)
    monkeypatch.setattr(
        task_rows, "_SMALLEST_BLOCK_BYTES", 1000
    )  # a few rows: blocks of 10, 10, 20, 40, and what is left
    net = two_layers()
    rows, layers = drawn([(21, 30), (5, 21)], 17, 90, seed=0)
    bank = MaskBank(net)
    bank.append_rows(rows)
    gradients = {entry.name: (layer.inputs, layer.outputs) for entry, layer in zip(net.maskable, layers, strict=True)}
    own = [
        MaskedLayer(layer.first_bit, net.frozen[entry.name], *gradients[entry.name])
        for entry, layer in zip(net.maskable, layers, strict=True)
    ]
    check(bank.outer_slopes(gradients), rows, own)


def test_the_mapped_rows_of_a_bank_in_files(monkeypatch, tmp_path):
    monkeypatch.setattr(packed_lookups, "suits", lambda *_: True)
    net = two_layers()
    rows, layers = drawn([(21, 30), (5, 21)], 17, 90, seed=0)
    bank = MaskBank(net)
    bank.append_rows(rows)
    gradients = {entry.name: (layer.inputs, layer.outputs) for entry, layer in zip(net.maskable, layers, strict=True)}
    expected = bank.outer_slopes(gradients)
    bank.save(tmp_path / "bank")
    mapped = MaskBank.open(tmp_path / "bank", net)
    assert torch.equal(mapped.outer_slopes(gradients), expected)


def test_what_torch_makes_by_default_does_not_matter(monkeypatch):
    rows, layers = drawn([(21, 30)], 5, 60, seed=0)
    expected = lookups([rows], layers)
    previous = torch.get_default_dtype()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    try:
        torch.set_default_dtype(torch.float64)
        with torch.device("meta"):
            found = lookups([rows], layers)
    finally:
        torch.set_default_dtype(previous)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("chosen", [True, False])
def test_an_infinite_pixel_is_refused_though_neurons_are_at_rest(monkeypatch, chosen):
    """The sigmoid of an infinity has no slope, and nothing times infinity is no number."""
    monkeypatch.setattr(packed_lookups, "suits", lambda *_: chosen)
    layers = nn.Linear(30, 21, bias=False), nn.Sigmoid(), nn.Linear(21, 5, bias=False)
    net = FrozenNetwork(nn.Sequential(*layers), seed=0)
    bank = MaskBank(net)
    bank.append_rows(pack(torch.ones(60, net.num_bits, dtype=torch.bool)))
    images = torch.ones(20, 30)
    images[:, 3] = torch.inf
    with pytest.raises(InvalidArgument, match="the slopes are not finite"):
        one_shot_each(entropy, net, bank, images)


def test_guesses_are_the_same_with_and_without_them(monkeypatch):
    sizes = nn.Linear(784, 60, bias=False), nn.ReLU(), nn.Linear(60, 20, bias=False)
    net = FrozenNetwork(nn.Sequential(nn.Flatten(), *sizes), seed=0)
    bank, generator = MaskBank(net), torch.Generator().manual_seed(0)
    bank.append_rows(pack(torch.rand(70, net.num_bits, generator=generator) < 0.5))
    images = torch.randn(20, 1, 28, 28, generator=generator)
    answers = []
    for chosen in (True, False):
        monkeypatch.setattr(packed_lookups, "suits", lambda *_, chosen=chosen: chosen)
        answers.append(one_shot_each(entropy, net, bank, images))
    torch.testing.assert_close(answers[0].slopes[0], answers[1].slopes[0], rtol=1e-3, atol=1e-5)
    assert torch.equal(answers[0].tasks, answers[1].tasks)


@pytest.mark.skipif(PERMUTED == 0, reason="the processor permutes no registers")
def test_the_processor_permutes_registers():
    """No choice is made lane by lane, or by halves: 64 permutations are 8 lookups, of 4 images, for two registers of rows."""
    register = {8: "ymm", 16: "zmm"}[PERMUTED]
    code = (
        "import re\n"
        "from supsup_core import packed_lookups\n"
        "packed_lookups.compile_ahead()\n"
        "registers = packed_lookups.Registers(packed_lookups.permuted_floats())\n"
        "(text,) = packed_lookups._kernel(registers).inspect_asm().values()\n"
        f"print(len(re.findall(r'vperm(?:ps|d)\\s.*%{register}', text)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300)
    assert int(done.stdout) >= 64


def test_all_is_compiled_ahead_whatever_torch_is_told_to_make_tensors_of():
    code = (
        "import torch\n"
        "torch.set_default_device('meta')\n"
        "torch.set_default_dtype(torch.float64)\n"
        "from supsup_core import compile_ahead, packed_kernels, packed_lookups\n"
        "compile_ahead()\n"
        "print(packed_kernels._kernel.cache_info().currsize, packed_lookups._kernel.cache_info().currsize)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["1", str(int(PERMUTED > 0))]
