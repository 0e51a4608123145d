import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_datasets.seeds import generator, permutation

names = st.tuples(st.integers(0, 2**63), st.sampled_from(["one", "two"]), st.integers(0, 2**32 - 1))


@given(names, st.integers(1, 300))
def test_a_permutation_holds_every_index_once_and_comes_back(name, size):
    order = permutation(*name, size)
    assert torch.equal(order.sort().values, torch.arange(size))
    assert torch.equal(order, permutation(*name, size))


@given(names, names)
def test_other_names_give_other_draws(one, other):
    if one != other:
        assert not torch.equal(permutation(*one, 784), permutation(*other, 784))
        assert generator(*one).initial_seed() != generator(*other).initial_seed()


def test_a_golden_permutation_never_changes():
    # Made by `permutation(0, "pixel permutation", 0, 8)`: the streams of all results so far hang on it.
    assert permutation(0, "pixel permutation", 0, 8).tolist() == [0, 5, 3, 7, 6, 4, 1, 2]


def test_two_seeds_share_no_permutation_over_many_tasks():
    # The published code keyed permutations by task + seed, so that five seeds over 250 tasks shared 246 of them.
    orders = {
        permutation(seed, "pixel permutation", task, 784).numpy().tobytes() for seed in range(5) for task in range(250)
    }
    assert len(orders) == 5 * 250


def test_permutations_are_uniform():
    # Each of the 6 orders of 3 elements: 6000 draws, a standard deviation of 28.9 each; five of them allowed.
    counts = np.zeros((3, 3, 3))
    for task in range(6000):
        counts[tuple(permutation(0, "uniformity", task, 3).tolist())] += 1
    observed = counts[counts > 0]
    assert len(observed) == 6
    assert np.abs(observed - 1000).max() < 5 * 28.9
