import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from supsup_core.bit_vectors import (
    UndecodableStream,
    coder_bytes,
    coder_of,
    decode_bits,
    decode_number,
    encode_bits,
    encode_number,
    entropy_bits,
    new_coder,
)


def drawn(size, density, seed):
    return (np.random.default_rng(seed).random(size) < density).astype(np.uint8)


def encoded(bits):
    coder = new_coder()
    encode_bits(coder, bits)
    return coder_bytes(coder)


def decoded(stream, size, ones):
    coder = coder_of(stream)
    bits = decode_bits(coder, size, ones)
    assert coder.is_empty()
    return bits


@given(st.lists(st.integers(0, 1), max_size=200))
def test_any_vector_comes_back(values):
    bits = np.array(values, dtype=np.uint8)
    assert np.array_equal(decoded(encoded(bits), len(bits), int(bits.sum())), bits)


@given(st.integers(1, 20_000), st.floats(0, 1), st.integers(0, 2**32))
@example(20_000, 0.0999, 0)
@example(20_000, 0.1001, 0)
def test_vectors_of_any_density_come_back(size, density, seed):
    bits = drawn(size, density, seed)
    assert np.array_equal(decoded(encoded(bits), size, int(bits.sum())), bits)


@pytest.mark.parametrize("places", [[0], [99_999], [0, 99_999], [50_000], list(range(99_990, 100_000)), [7, 8, 90_000]])
@pytest.mark.parametrize("of_zeros", [False, True])
def test_gaps_as_long_as_the_vector_come_back(places, of_zeros):
    bits = np.full(100_000, int(of_zeros), dtype=np.uint8)
    bits[places] ^= 1
    assert np.array_equal(decoded(encoded(bits), len(bits), int(bits.sum())), bits)


def test_a_few_ones_at_the_end_of_a_long_vector_are_reached_by_escapes():
    bits = np.zeros(4_000_000, dtype=np.uint8)
    bits[-2000:] = 1  # the mean gap is 2,000, this one 1,998 times as long
    assert np.array_equal(decoded(encoded(bits), len(bits), 2000), bits)


@pytest.mark.parametrize("density", [0.0014, 0.01, 0.0999, 0.1001, 0.3, 0.5, 0.8, 0.99])
def test_a_vector_takes_its_entropy_and_two_words(density):
    bits = drawn(1_000_000, density, 0)
    bound = entropy_bits(int(bits.sum()), len(bits))
    # The coder's own state is up to two words; 24-bit probabilities and bins cost less than a thousandth.
    assert 8 * len(encoded(bits)) <= 1.001 * bound + 64


@given(st.integers(0, 2**22), st.data())
def test_numbers_come_back(largest, data):
    value = data.draw(st.integers(0, largest))
    coder = new_coder()
    encode_number(coder, value, largest)
    assert decode_number(coder_of(coder_bytes(coder)), largest) == value


def test_entropy_is_that_of_a_biased_coin():
    assert entropy_bits(0, 10) == entropy_bits(10, 10) == entropy_bits(0, 0) == 0.0
    assert entropy_bits(5, 10) == 10.0
    assert math.isclose(entropy_bits(1, 4), 4 * (0.25 * 2 + 0.75 * math.log2(4 / 3)))


def test_a_stream_reads_alike_everywhere():
    # Made by this code, with constriction 0.4.2 on x86-64: what another machine or release must read as well.
    sparse = np.zeros(3000, dtype=np.uint8)
    sparse[[5, 700, 701, 2999]] = 1
    assert encoded(sparse).hex() == SPARSE
    dense = np.array([1, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0], dtype=np.uint8)
    assert encoded(dense).hex() == DENSE
    assert np.array_equal(decoded(bytes.fromhex(SPARSE), 3000, 4), sparse)
    assert np.array_equal(decoded(bytes.fromhex(DENSE), 12, 7), dense)


SPARSE = "d6c59a33b7bd01f504000000"
DENSE = "d8121b02"


def test_streams_of_nothing_are_refused():
    with pytest.raises(UndecodableStream, match="32-bit words"):
        coder_of(b"abc")
    with pytest.raises(UndecodableStream):
        coder_of(bytes(4))  # the last word of a stream is not zero


@given(st.binary(min_size=4, max_size=64), st.integers(1, 5000), st.data())
def test_a_damaged_stream_is_refused_or_read_as_some_vector(content, size, data):
    ones = data.draw(st.integers(0, size))
    stream = content[: len(content) // 4 * 4]
    try:
        bits = decode_bits(coder_of(stream), size, ones)
    except UndecodableStream:
        return
    assert (len(bits), int(bits.sum())) == (size, ones)
