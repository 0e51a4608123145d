"""MNIST and the sets made in its image, from files in torchvision's layout."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from supsup_datasets.data_root import check_root, download_folder
from supsup_datasets.errors import DataUnavailable
from supsup_datasets.idx_files import idx_bytes, read_idx
from supsup_datasets.images import ImageDataset, LabelledImages, Normalization

MNIST_NORMALIZATION = Normalization(mean=(0.1307,), std=(0.3081,))
_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
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
        sha256: sums of the unpacked originals by name, as far as they are known.
    """

    name: str
    download: Callable[[Path], object]
    class_names: tuple[str, ...]
    normalization: Normalization
    instead: str = ""
    sha256: Mapping[str, str] = field(default_factory=dict)


def mnist(root: str | os.PathLike[str], *, download: bool = False, verify: bool = True) -> ImageDataset:
    """Return the full MNIST, 60,000 + 10,000 digits, from `root`/MNIST/raw as torchvision lays it out, plain or gzipped.

    Args:
        root: an existing folder.
        download: fetch the files into `root` through torchvision where their folder is not there yet.
        verify: compare the files with the originals' SHA-256 sums; without it files of the same format are taken too, and the
            data set is named "MNIST, unverified".

    Raises:
        DataUnavailable: the folder or a file is missing, unreadable, damaged or not the original, or the download failed.
    """

    def fetch(folder: Path) -> object:
        from torchvision.datasets import MNIST  # here: importing torchvision takes seconds, and only this needs it

        return MNIST(folder, train=True, download=True)

    instead = ", or take the embedded digits (embedded_mnist)"
    return _load(_Source("MNIST", fetch, (), MNIST_NORMALIZATION, instead, _MNIST_SHA256), Path(root), download, verify)


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


def _load(source: _Source, root: Path, download: bool, verify: bool = True) -> ImageDataset:
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
    if verify:
        _refuse_others(source, raw, parts)
    name = source.name if verify else f"{source.name}, unverified"  # results carry it
    train, test = (labelled_28x28(*parts[part]) for part in ("train", "test"))
    return ImageDataset(name, train, test, source.normalization, class_names=source.class_names)


def _refuse_others(
    source: _Source, raw: Path, parts: Mapping[str, tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]
) -> None:
    """Compare what the files hold with the originals, where these are known.

    Raises:
        DataUnavailable: a file holds something else.
    """
    for part, arrays in parts.items():
        for file, array in zip(_FILES[part], arrays, strict=True):
            found, original = sha256(idx_bytes(array)).hexdigest(), source.sha256.get(file)
            if original not in (None, found):
                raise DataUnavailable(
                    f"{raw / file}: unpacked, its SHA-256 sum is {found}, that of {source.name}'s own {original}; replace it "
                    "by the original (from Python, verify=False takes it as it is)"
                )
