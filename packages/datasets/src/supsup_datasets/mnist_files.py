"""MNIST and the sets made in its image, from files in torchvision's layout."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from supsup_datasets.data_root import check_root, download_folder
from supsup_datasets.errors import DataUnavailable
from supsup_datasets.idx_files import read_idx
from supsup_datasets.images import ImageDataset, LabelledImages, Normalization

MNIST_NORMALIZATION = Normalization(mean=(0.1307,), std=(0.3081,))
_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"
)  # fmt: skip
_KMNIST_CLASSES = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


@dataclass(frozen=True)
class _Source:
    """A set in the format of MNIST.

    Attributes:
        name: also of its folder.
        download: fetches it through torchvision into a folder.
        class_names: what the labels stand for.
        normalization: of its pixels.
        instead: what else can be done where the download fails, for the end of a message.
    """

    name: str
    download: Callable[[Path], object]
    class_names: tuple[str, ...]
    normalization: Normalization
    instead: str = ""


def mnist(root: str | os.PathLike[str], *, download: bool = False) -> ImageDataset:
    """Return the full MNIST, 60,000 + 10,000 digits, from `root`/MNIST/raw as torchvision lays it out, plain or gzipped.

    Args:
        root: an existing folder.
        download: fetch the files into `root` through torchvision where their folder is not there yet.

    Raises:
        DataUnavailable: the folder or a file is missing, unreadable or damaged, or the download failed.
    """

    def fetch(folder: Path) -> object:
        from torchvision.datasets import MNIST  # here: importing torchvision takes seconds, and only this needs it

        return MNIST(folder, train=True, download=True)

    instead = ", or take the embedded digits (embedded_mnist)"
    return _load(_Source("MNIST", fetch, (), MNIST_NORMALIZATION, instead), Path(root), download)


def fashion_mnist(root: str | os.PathLike[str], *, download: bool = False) -> ImageDataset:
    """Return FashionMNIST from `root`/FashionMNIST/raw, normalised by its usual mean and deviation; else as `mnist`."""

    def fetch(folder: Path) -> object:
        from torchvision.datasets import FashionMNIST

        return FashionMNIST(folder, train=True, download=True)

    source = _Source("FashionMNIST", fetch, _FASHION_CLASSES, Normalization((0.2860,), (0.3530,)))
    return _load(source, Path(root), download)


def kmnist(root: str | os.PathLike[str], *, download: bool = False) -> ImageDataset:
    """Return KMNIST (hiragana) from `root`/KMNIST/raw, normalised by its usual mean and deviation; else as `mnist`."""

    def fetch(folder: Path) -> object:
        from torchvision.datasets import KMNIST

        return KMNIST(folder, train=True, download=True)

    source = _Source("KMNIST", fetch, _KMNIST_CLASSES, Normalization((0.1918,), (0.3483,)))
    return _load(source, Path(root), download)


def labelled_28x28(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> LabelledImages:
    """Return images of 28 × 28 pixels, in any shape that flattens to them, and their labels 0 to 9."""
    pixels = torch.from_numpy(images.reshape(-1, 1, 28, 28).copy())
    return LabelledImages(pixels, torch.from_numpy(labels.astype(np.int64)), num_labels=10)


def _load(source: _Source, root: Path, download: bool) -> ImageDataset:
    raw = root / source.name / "raw"
    check_root(root, f"{source.name}/raw")
    if not (root / source.name).exists():
        if not download:
            raise DataUnavailable(
                f"data root {root}: there is no {source.name}/raw in it; put the four IDX files there, plain or gzipped, or "
                "ask for the download"
            )
        download_folder(
            root,
            source.name,
            source.download,
            f"put the four IDX files into {raw}{source.instead}",
        )
    parts = {part: (read_idx(raw / images, 3), read_idx(raw / labels, 1)) for part, (images, labels) in _FILES.items()}
    for part, (images, labels) in parts.items():
        if len(images) != len(labels):
            raise DataUnavailable(
                f"{raw}: {len(images)} {part} images and {len(labels)} {part} labels; replace both files by the originals"
            )
        if images.shape[1:] != (28, 28) or len(images) == 0 or labels.max() > 9:
            raise DataUnavailable(
                f"{raw}: the {part} files are not 28 × 28 images with labels 0 to 9; replace them by the originals"
            )
    train, test = (labelled_28x28(*parts[part]) for part in ("train", "test"))
    return ImageDataset(source.name, train, test, source.normalization, class_names=source.class_names)
