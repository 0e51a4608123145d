import pytest
from hypothesis import given
from hypothesis import strategies as st
from supsup_datasets import DatasetError, DataUnavailable, consecutive_partition, random_partition, read_partition
from supsup_datasets.partitions import checked_partition

sizes = st.tuples(st.integers(1, 12), st.integers(1, 8))


@given(sizes, st.integers(0, 2**40), st.integers(0, 5))
def test_partitions_are_disjoint_and_cover_what_they_ask_for(size, seed, spare):
    tasks, each = size
    for partition in (
        random_partition(tasks * each + spare, tasks, each, seed),
        consecutive_partition(tasks * each + spare, tasks, each),
    ):
        assert [len(classes) for classes in partition] == [each] * tasks
        flat = [number for classes in partition for number in classes]
        assert len(set(flat)) == tasks * each
        assert set(flat) <= set(range(tasks * each + spare))
        checked_partition(partition, tasks * each + spare)
    if spare == 0:
        assert sorted(
            number for classes in random_partition(tasks * each, tasks, each, seed) for number in classes
        ) == [*range(tasks * each)]


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_random_partition_is_its_seed(seed, other):
    assert random_partition(100, 20, 5, seed) == random_partition(100, 20, 5, seed)
    assert (random_partition(100, 20, 5, seed) == random_partition(100, 20, 5, other)) is (seed == other)


def test_a_golden_partition_never_changes():
    # Made by `random_partition(10, 5, 2, seed=0)`: results on split data hang on it.
    assert random_partition(10, 5, 2, seed=0) == ((0, 5), (9, 8), (2, 4), (3, 1), (7, 6))


def test_consecutive_pairs():
    assert consecutive_partition(10, 5, 2) == ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))


@pytest.mark.parametrize(
    ("tasks", "each", "seed", "message"),
    [
        (3, 4, 0, "tasks=3, classes_per_task=4: they need 12 classes and the data has 10; ask for fewer"),
        (0, 1, 0, "tasks=0"),
        (2, 0, 0, "classes_per_task=0"),
        (2, 2, -1, "seed=-1"),
    ],
)
def test_impossible_partitions_are_refused(tasks, each, seed, message):
    with pytest.raises(DatasetError, match=message):
        random_partition(10, tasks, each, seed)
    if seed == 0:
        with pytest.raises(DatasetError, match=message):
            consecutive_partition(10, tasks, each)


def test_a_partition_file_is_read_with_comments_names_and_numbers(tmp_path):
    path = tmp_path / "split.txt"
    path.write_text("# the split\n3 1\n\n0,2  # a comment\n")
    assert read_partition(path, 4) == ((3, 1), (0, 2))
    path.write_text("cat, dog\n", encoding="utf-8-sig")
    assert read_partition(path, 3, ["dog", "emu", "cat"]) == ((2, 0),)
    path.write_text("Ankle boot, Bag  # shoes\n Sandal ,\n")
    clothes = ["Sandal", "Bag", "Ankle boot"]
    assert read_partition(path, 3, clothes) == ((2, 1), (0,))
    path.write_text("Sandal Ankle boot\n")
    with pytest.raises(
        DatasetError, match=r"no class 'Sandal Ankle boot'; the data set has .* write classes between commas"
    ):
        read_partition(path, 3, clothes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"0 1\n2 0\n", "line 2: class '0' stands in line 1 too; name it once"),
        (b"0 0\n", "line 1: class '0' stands in line 1 too"),
        (b"0 4\n", "line 1: no class '4'; the data set has 0 … 3"),
        (b"0 1.5\n", "line 1: no class '1.5'"),
        (b"0; 1\n", "line 1: no class '0;'"),
        (b"", "there is no task in it"),
        (b"# nothing\n\n", "there is no task in it"),
        (b"\xff\xfe0\n", "not UTF-8 text"),
    ],
)
def test_a_bad_partition_file_is_refused(tmp_path, content, message):
    path = tmp_path / "split.txt"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=message) as caught:
        read_partition(path, 4)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_or_unreadable_partition_file_is_named(tmp_path):
    with pytest.raises(DataUnavailable, match="no such file; name a partition file"):
        read_partition(tmp_path / "none", 4)
    with pytest.raises(DataUnavailable, match="not readable"):
        read_partition(tmp_path, 4)


@pytest.mark.parametrize(
    ("partition", "message"),
    [
        ((), "tasks=0"),
        (((0, 1), ()), "task 1 has no classes"),
        (((0, 1), (2, 4)), "task 1 names class 4; classes are 0 to 3"),
        (((0, -1),), "task 0 names class -1"),
        (((0, 1.0),), "task 0 names class 1.0"),
        (((0, True),), "task 0 names class True"),
        (((0, 1), (1, 2)), "class 1 is in tasks 0 and 1"),
    ],
)
def test_a_partition_that_is_none_is_refused(partition, message):
    with pytest.raises(DatasetError, match=message):
        checked_partition(partition, 4)
