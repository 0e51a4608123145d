import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_core.random_streams import random_bits, signs, stream_key, symmetric_uniform

seeds = st.integers(0, 2**63 - 1)


def test_the_bits_are_those_of_splitmix64():
    # The reference sequence for seed 1234567, as published with Vigna's implementation.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [word % 2**64 for word in random_bits(1234567, 3).tolist()] == expected


@given(seed=seeds, count=st.integers(1, 100))
def test_the_bits_equal_the_textbook_algorithm(seed, count):
    mask = 2**64 - 1
    state, expected = seed, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        expected.append(z ^ (z >> 31))
    assert [word % 2**64 for word in random_bits(seed, count).tolist()] == expected


def test_a_golden_key_never_changes():
    # A bank stores its weights as a seed alone: a new value here would orphan every bank. Made by stream_key itself.
    assert stream_key(0, "weights", "1.weight") == 12404303149824357304
    assert stream_key(0, "scores", 7, "1.weight") == 10286368061989608465


@given(seed=seeds, task=st.integers(0, 10**6))
def test_neighbouring_names_give_other_keys(seed, task):
    keys = {
        stream_key(seed, "scores", task),
        stream_key(seed, "scores", task + 1),
        stream_key(seed + 1, "scores", task),
        stream_key(seed, "weights", task),
        stream_key(seed, "scores"),
        stream_key(seed, "scores", str(task)),
    }
    assert len(keys) == 6


def test_signs_are_fair_within_five_standard_errors():
    drawn = signs(stream_key(0, "test"), (1000, 1000))
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    assert abs(drawn.mean().item()) < 5 / 1000  # the standard error of a mean of 10^6 signs is 1/1000


def test_uniform_values_fill_their_interval():
    drawn = symmetric_uniform(stream_key(0, "test"), (10**6,), 0.25)
    assert drawn.dtype == torch.float32
    assert drawn.min() >= -0.25
    assert drawn.max() < 0.25
    # Mean 0 and standard deviation 0.25/sqrt(3), each within five standard errors (that of s² uses the kurtosis 9/5).
    assert abs(drawn.mean().item()) < 5 * 0.25 / 3**0.5 / 1000
    variance = drawn.double().pow(2).mean().item()
    assert abs(variance / (0.25**2 / 3) - 1) < 5 * (9 / 5 - 1) ** 0.5 / 1000


def test_a_whole_number_of_numpy_names_the_stream_that_the_number_does():
    assert stream_key(0, "x", np.int64(3)) == stream_key(0, "x", 3)
    assert stream_key(0, "x", "3") != stream_key(0, "x", 3)
