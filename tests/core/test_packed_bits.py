import zlib

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_core import FrozenNetwork, MaskBank
from supsup_core.packed_bits import (
    checksum,
    count_ones,
    pack,
    raw_bytes,
    row_bytes,
    unpack,
    unpack_into,
    unpack_to,
)
from torch import nn

bits = st.lists(st.booleans(), min_size=1, max_size=300).map(lambda values: torch.tensor(values))


@given(bits)
def test_unpack_undoes_pack(row):
    packed = pack(row)
    assert packed.shape == (row_bytes(len(row)),)
    assert torch.equal(unpack(packed, len(row)), row)
    assert torch.equal(unpack_to(packed, len(row), torch.float64), row.double())


@given(bits)
def test_packing_is_numpys_little_endian_packing_with_zeros_behind(row):
    expected = np.packbits(row.numpy(), bitorder="little")
    packed = pack(row).numpy()
    assert np.array_equal(packed[: len(expected)], expected)
    assert not packed[len(expected) :].any()


@given(st.integers(1, 10**6))
def test_rows_are_whole_words_that_just_suffice(num_bits):
    size = row_bytes(num_bits)
    assert size % 8 == 0
    assert 8 * (size - 8) < num_bits <= 8 * size


def test_many_rows_pack_as_one_by_one():
    rows = torch.rand(5, 77, generator=torch.Generator().manual_seed(0)) < 0.5
    assert torch.equal(pack(rows), torch.stack([pack(row) for row in rows]))
    assert torch.equal(unpack(pack(rows), 77), rows)


@given(st.integers(0, 600), st.integers(1, 200), st.integers(0, 2**32))
def test_ones_are_counted_as_if_unpacked(rows, num_bits, seed):
    bits = torch.rand(rows, num_bits, generator=torch.Generator().manual_seed(seed)) < 0.7
    assert torch.equal(count_ones(pack(bits), num_bits), bits.sum(dim=0, dtype=torch.int32))


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_a_checksum_is_that_of_all_parts_in_a_row(parts):
    tensors = [torch.tensor(list(part), dtype=torch.uint8) for part in parts]
    assert checksum(*tensors) == zlib.crc32(b"".join(parts))


def test_raw_bytes_are_all_bytes_in_order():
    values = torch.arange(10, dtype=torch.float32).view(2, 5)
    assert raw_bytes(values) == values.numpy().tobytes()
    assert raw_bytes(values.T) == values.T.contiguous().numpy().tobytes()
    assert raw_bytes(values[:0]) == b""


@given(st.integers(1, 200), st.integers(0, 1000))
def test_unpacking_into_memory_in_use_is_unpacking(num_bits, seed):
    bits = torch.rand(num_bits, generator=torch.Generator().manual_seed(seed)) > 0.5
    out = torch.full((num_bits,), float("nan"))
    assert unpack_into(pack(bits), out) is out
    assert torch.equal(out, unpack_to(pack(bits), num_bits, torch.float32))


def test_weights_can_be_written_over_those_of_the_last_task():
    net = FrozenNetwork(nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3)), seed=0)
    bank, generator = MaskBank(net), torch.Generator().manual_seed(0)
    for _ in range(2):
        bank.append({entry.name: torch.rand(entry.shape, generator=generator) > 0.5 for entry in net.maskable})
    kept = torch.empty(net.num_bits)
    for task in (0, 1, 0):
        weights = bank.weights(task, out=kept)
        assert torch.equal(net.flatten(weights), net.flatten(bank.weights(task)))
        assert weights["0.weight"].data_ptr() == kept.data_ptr()
