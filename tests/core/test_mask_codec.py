import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from supsup_core import mask_sections
from supsup_core.bit_vectors import UndecodableStream, entropy_bits
from supsup_core.mask_codec import MaskCodec, common_bits

RESNET = [(20, 3, 3, 3), *[(20, 20, 3, 3)] * 4, (40, 20, 3, 3), (40, 40, 3, 3), (40, 20, 1, 1), *[(40, 40, 3, 3)] * 2]


def drawn(tasks, shapes, density, seed=0):
    size = sum(int(np.prod(shape)) for shape in shapes)
    rng = np.random.default_rng(seed)
    bits = rng.random((tasks, size)) < density
    return padded(np.packbits(bits, axis=1, bitorder="little"))


def padded(rows):
    """Return rows as a bank packs them, in whole 64-bit words."""
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8)))


def coded_bytes(rows, shapes):
    """Encode and decode all rows, and return how many bytes that took."""
    codec = MaskCodec.fitted(rows, shapes)
    again = MaskCodec.from_table(shapes, codec.table, codec.common_stream)
    streams = [codec.encode(row) for row in rows]
    for stream, row in zip(streams, rows, strict=True):
        decoded = again.decode(stream)
        assert np.array_equal(decoded, row[: len(decoded)])
        assert not row[len(decoded) :].any()
    return sum(map(len, streams)) + len(codec.common_stream or b"") + codec.table.nbytes


def order_0_bytes(rows, shapes):
    total = 0.0
    for row in np.unpackbits(rows, axis=1, bitorder="little"):
        start = 0
        for shape in shapes:
            size = int(np.prod(shape))
            total += entropy_bits(int(row[start : start + size].sum()), size)
            start += size
    return total / 8


shapes_of_layers = st.lists(array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=7), min_size=1, max_size=4)


@given(shapes_of_layers, st.integers(1, 5), st.floats(0, 1), st.integers(0, 2**32))
def test_rows_of_any_layers_come_back(shapes, tasks, density, seed):
    coded_bytes(drawn(tasks, shapes, density, seed), shapes)


@given(st.integers(2, 6), st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**32))
def test_rows_with_much_in_common_come_back(tasks, density, share, seed):
    shapes = [(12, 9, 3), (30, 12)]
    rows = drawn(tasks, shapes, density, seed)
    rng = np.random.default_rng(seed)
    mostly_first = np.where(rng.random(rows.shape) < share, rows[0], rows)
    coded_bytes(mostly_first.astype(np.uint8), shapes)


def test_layers_longer_than_a_section_are_cut(monkeypatch):
    monkeypatch.setattr(mask_sections, "_SECTION_BITS", 50)
    shapes = [(9, 4, 3), (3, 60), (200,), (2, 2)]  # rows that fit, rows that do not, and no rows at all
    sizes = [section.bits for section in mask_sections.sections_of(shapes)]
    assert max(sizes) <= 50
    assert sum(sizes) == 9 * 12 + 180 + 200 + 4
    for density in (0.02, 0.5):
        coded_bytes(drawn(3, shapes, density), shapes)


@pytest.mark.parametrize("density", [0.0014, 0.01, 0.05, 0.2, 0.5])
def test_a_bank_takes_its_order_0_entropy_and_at_most_three_percent(density):
    shapes = [(160, 80, 3, 3), (160, 160, 3, 3)]
    rows = drawn(20, shapes, density)
    assert coded_bytes(rows, shapes) <= 1.03 * order_0_bytes(rows, shapes)


def test_numbers_of_ones_that_a_budget_fixes_take_nothing():
    rng = np.random.default_rng(0)
    bits = np.zeros((20, 14_400), dtype=np.uint8)
    for row in bits:
        row[rng.permutation(14_400)[:80]] = 1
    codec = MaskCodec.fitted(np.packbits(bits, axis=1, bitorder="little"), [(40, 40, 9)])
    assert codec.table.tolist() == [[80, 80]]


def test_dead_channels_are_left_out():
    rng = np.random.default_rng(0)
    shapes = [(64, 64, 9), (64, 64, 9)]
    living = [rng.permutation(64)[:20] for _ in range(3)]
    first, second = (np.zeros(shape, dtype=np.uint8) for shape in shapes)
    for layer, outputs, inputs in ((first, living[1], living[0]), (second, living[2], living[1])):
        places = rng.integers(0, [[20], [20], [9]], (3, 300))
        layer[outputs[places[0]], inputs[places[1]], places[2]] = 1
    row = padded(np.packbits(np.concatenate([first.ravel(), second.ravel()]), bitorder="little")[None])
    # 400 of 4,096 pairs of channels live: about 3.3 of 8.4 bits for each one are saved, and some spent on the sets.
    assert coded_bytes(row, shapes) < 0.75 * order_0_bytes(row, shapes)


def test_what_tasks_have_in_common_is_coded_once():
    shapes = [(64, 64, 9)]
    rng = np.random.default_rng(0)
    base = rng.permutation(36_864)[:400]
    bits = np.zeros((20, 36_864), dtype=np.uint8)
    for row in bits:
        row[base[rng.random(400) < 0.9]] = 1
        row[rng.integers(0, 36_864, 40)] = 1
    rows = np.packbits(bits, axis=1, bitorder="little")
    # A tenth of the ones is new to each task, and which of the common ones it has takes H₂(.9) = .47 bits each.
    assert coded_bytes(rows, shapes) < 0.35 * order_0_bytes(rows, shapes)


@pytest.mark.parametrize("density", [0.002, 0.5])
def test_unrelated_tasks_have_nothing_in_common_that_pays(density):
    assert common_bits(drawn(10, RESNET, density), RESNET) is None


def test_one_task_has_nothing_in_common():
    assert common_bits(drawn(1, RESNET, 0.01), RESNET) is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([[0, 1], [0, 1]], r"a table of shape \(2, 2\) for 1 sections"),
        ([[2, 1]], "impossible numbers of ones"),
        ([[-1, 1]], "impossible numbers of ones"),
        ([[0, 13]], "impossible numbers of ones"),
    ],
)
def test_a_table_of_other_layers_is_refused(table, message):
    with pytest.raises(UndecodableStream, match=message):
        MaskCodec.from_table([(3, 4)], np.array(table), None)


@given(st.data())
def test_a_damaged_stream_is_refused_or_read_as_some_row(data):
    shapes = [(12, 9, 3), (30, 12), (1, 40)]
    rows = drawn(4, shapes, data.draw(st.sampled_from([0.02, 0.3])))
    codec = MaskCodec.fitted(np.concatenate([rows, rows]), shapes)
    stream = bytearray(codec.encode(rows[0]))
    stream[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decoded = codec.decode(bytes(stream))
    except UndecodableStream:
        return
    assert len(decoded) == -(-sum(int(np.prod(shape)) for shape in shapes) // 8)


def test_a_stream_that_goes_on_is_refused():
    rows = drawn(1, [(3, 4), (500,)], 0.5)
    longer = MaskCodec.fitted(rows, [(3, 4), (500,)])
    shorter = MaskCodec.from_table([(3, 4)], longer.table[:1], None)
    with pytest.raises(UndecodableStream, match="goes on behind its row"):
        shorter.decode(longer.encode(rows[0]))
