"""The machine loop over packed bits, against floats."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_core import FrozenNetwork, MaskBank, packed_bits, packed_kernels
from supsup_core.packed_bits import pack, unpack_to
from torch import nn

EPS32 = torch.finfo(torch.float32).eps


def drawn(tasks, num_bits, vectors, seed):
    generator = torch.Generator().manual_seed(seed)
    bits = torch.rand(tasks, num_bits, generator=generator) < 0.5
    return pack(bits), torch.randn(vectors, num_bits, generator=generator)


def check(products, rows, vectors):
    exact = vectors.double() @ unpack_to(rows, vectors.shape[1], torch.float64).mT
    # A sum of n float32 terms in any order is off by at most n eps times the sum of their sizes.
    bound = vectors.shape[1] * EPS32 * vectors.double().abs().sum(dim=1, keepdim=True)
    assert products.shape == exact.shape
    assert ((products.double() - exact).abs() <= bound).all()


@given(st.integers(0, 40), st.integers(1, 20_000), st.integers(1, 3), st.integers(0, 2**32))
def test_the_kernel_and_the_matrix_product_multiply_bits_with_vectors(tasks, num_bits, vectors, seed):
    rows, values = drawn(tasks, num_bits, vectors, seed)
    check(packed_bits.inner_products(rows, values), rows, values)
    check(packed_kernels.inner_products(rows, values), rows, values)


def test_single_bits_select_single_numbers():
    values = torch.arange(1.0, 1001.0).unsqueeze(0)
    rows = pack(torch.eye(1000, dtype=torch.bool))
    assert torch.equal(packed_kernels.inner_products(rows, values), values)
    assert torch.equal(packed_bits.inner_products(rows, values), values)


def test_threads_share_many_rows(monkeypatch):
    monkeypatch.setattr(packed_kernels, "_BITS_WORTH_A_THREAD", 10_000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    rows, values = drawn(100, 700, 2, seed=0)
    check(packed_kernels.inner_products(rows, values), rows, values)


def test_rows_that_do_not_lie_side_by_side_are_multiplied():
    rows, values = drawn(20, 700, 1, seed=0)
    check(packed_kernels.inner_products(rows[::2], values), rows[::2], values)


def test_it_is_taken_for_a_few_vectors_over_a_large_bank():
    _, values = drawn(1, 2**18, 1, seed=0)
    assert packed_kernels.suits(values, 64)
    assert not packed_kernels.suits(values, 63), "a small bank does not wait for a compiler"
    assert not packed_kernels.suits(values.double(), 64)
    assert not packed_kernels.suits(values.expand(17, -1), 64)
    assert not packed_kernels.suits(values.to("meta"), 64)


@pytest.mark.parametrize("installed", [True, False])
def test_slopes_are_the_same_with_and_without_it(monkeypatch, installed):
    monkeypatch.setattr(packed_kernels, "_WORTH_COMPILING_BITS", 0)
    monkeypatch.setattr(packed_kernels, "is_installed", lambda: installed)
    net = FrozenNetwork(nn.Linear(70, 50, bias=False), seed=0)
    bank = MaskBank(net)
    rows, values = drawn(30, 3500, 1, seed=0)
    bank.append_rows(rows)
    slopes = bank.slopes({"weight": values[0].view(50, 70)})
    check(slopes.unsqueeze(0), rows, values * net.frozen["weight"].flatten())
    inputs, outputs = torch.randn(3, 70), torch.randn(3, 50)
    formed = (outputs.unsqueeze(-1) * inputs.unsqueeze(-2) * net.frozen["weight"]).flatten(1)
    check(bank.outer_slopes({"weight": (inputs, outputs)}), rows, formed)


def test_core_runs_where_numba_is_missing():
    code = """
import sys
sys.modules["numba"] = None
import torch
from supsup_core import FrozenNetwork, MaskBank, entropy, one_shot
net = FrozenNetwork(torch.nn.Linear(512, 512, bias=False), seed=0)
bank = MaskBank(net)
bank.append_rows(torch.randint(0, 256, (70, bank.row_bytes), dtype=torch.uint8))
print(one_shot(entropy, net, bank, torch.ones(1, 512)).task)
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr


def test_what_is_compiled_ahead_is_what_the_first_guess_needs():
    code = (
        "from supsup_core import packed_kernels as kernels\n"
        "kernels.compile_ahead()\n"
        "assert kernels._kernel.cache_info().currsize == 1\n"
        "compiled = kernels._kernel()\n"
        "before = len(compiled.signatures)\n"
        "import torch\n"
        "kernels.inner_products(torch.full((9, 16), 255, dtype=torch.uint8), torch.ones(2, 100))\n"
        "assert (before, len(compiled.signatures)) == (1, 1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_without_the_compiler_there_is_nothing_to_do_ahead(monkeypatch):
    monkeypatch.setattr(packed_kernels, "is_installed", lambda: False)
    monkeypatch.setattr(packed_kernels, "_kernel", None)
    packed_kernels.compile_ahead()
