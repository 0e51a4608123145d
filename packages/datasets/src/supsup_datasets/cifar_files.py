"""CIFAR-10 and CIFAR-100 from their Python files, in torchvision's layout.

The files are pickles, which can run code when they are read. So they are compared with the MD5 sums of the originals first,
and even then read by an unpickler that knows arrays, lists and text and nothing else.
"""

import codecs
import hashlib
import io
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from supsup_datasets.augmentation import CropFlip
from supsup_datasets.data_root import check_root, download_folder
from supsup_datasets.errors import DataUnavailable
from supsup_datasets.images import ImageDataset, LabelledImages, Normalization

CIFAR_NORMALIZATION = Normalization(mean=(0.491, 0.482, 0.447), std=(0.247, 0.243, 0.262))
_SIDE = 32


@dataclass(frozen=True)
class _Source:
    """One of the two sets; files go with their MD5 sums."""

    name: str
    folder: str
    download: Callable[[Path], object]
    train: dict[str, str]
    test: dict[str, str]
    meta: tuple[str, str]
    labels_key: str
    names_key: str
    num_classes: int


def cifar10(root: str | os.PathLike[str], *, download: bool = False, verify: bool = True) -> ImageDataset:
    """Return CIFAR-10, 50,000 + 10,000 images, from `root`/cifar-10-batches-py; else as `cifar100`."""

    def fetch(folder: Path) -> object:
        from torchvision.datasets import CIFAR10

        return CIFAR10(folder, train=True, download=True)

    train = {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    }
    source = _Source(
        name="CIFAR-10",
        folder="cifar-10-batches-py",
        download=fetch,
        train=train,
        test={"test_batch": "40351d587109b95175f43aff81a1287e"},
        meta=("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
        labels_key="labels",
        names_key="label_names",
        num_classes=10,
    )
    return _load(source, Path(root), download, verify)


def cifar100(root: str | os.PathLike[str], *, download: bool = False, verify: bool = True) -> ImageDataset:
    """Return CIFAR-100 with its 100 fine labels, 50,000 + 10,000 images, from `root`/cifar-100-python.

    Normalisation and augmentation are the paper's: pad 4, crop, flip.

    Args:
        root: an existing folder.
        download: fetch the files into `root` through torchvision where there are none.
        verify: compare the files with the originals' MD5 sums; without it files of the same format are taken too, and the data
            set's name says so.

    Raises:
        DataUnavailable: the folder or a file is missing, unreadable, damaged or not the original, or the download failed.
    """

    def fetch(folder: Path) -> object:
        from torchvision.datasets import CIFAR100

        return CIFAR100(folder, train=True, download=True)

    source = _Source(
        name="CIFAR-100",
        folder="cifar-100-python",
        download=fetch,
        train={"train": "16019d7e3df5f24257cddd939b257f8d"},
        test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        meta=("meta", "7973b15100ade9c7d40fb424638fde48"),
        labels_key="fine_labels",
        names_key="fine_label_names",
        num_classes=100,
    )
    return _load(source, Path(root), download, verify)


def _load(source: _Source, root: Path, download: bool, verify: bool) -> ImageDataset:
    check_root(root, source.folder)
    folder = root / source.folder
    if not folder.exists():
        way_out = f"unpack the archive of {source.name}'s Python version so that {folder} is there"
        if not download:
            raise DataUnavailable(f"{folder}: no such folder; {way_out}, or ask for the download")
        download_folder(root, source.folder, source.download, way_out)
    train = _part(source, folder, source.train, verify)
    test = _part(source, folder, source.test, verify)
    meta, digest = source.meta
    names = _unpickle(folder / meta, digest if verify else None).get(source.names_key)
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or len(names) != source.num_classes
    ):
        raise DataUnavailable(
            f"{folder / meta}: it does not name {source.num_classes} classes; replace it by the original"
        )
    name = source.name if verify else f"{source.name}, unverified"  # results carry it: no data set takes another's name
    return ImageDataset(name, train, test, CIFAR_NORMALIZATION, CropFlip(), tuple(names))


def _part(source: _Source, folder: Path, files: dict[str, str], verify: bool) -> LabelledImages:
    """Return the images and labels of some files: pickled {"data": (images, 3 · 32 · 32) bytes, labels_key: list}."""
    pixels, labels = [], []
    for name, digest in files.items():
        path = folder / name
        entry = _unpickle(path, digest if verify else None)
        data, numbers = entry.get("data"), entry.get(source.labels_key)
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3 * _SIDE * _SIDE,):
            raise DataUnavailable(f"{path}: its images are not 3 × 32 × 32 bytes each; replace it by the original")
        if (
            not isinstance(numbers, list)
            or len(numbers) != len(data)
            or not all(type(number) is int and 0 <= number < source.num_classes for number in numbers)
        ):
            raise DataUnavailable(
                f"{path}: it does not have a label of 0 to {source.num_classes - 1} for each image; replace it by the original"
            )
        pixels.append(torch.from_numpy(data.reshape(-1, 3, _SIDE, _SIDE).copy()))
        labels.extend(numbers)
    if not labels:
        raise DataUnavailable(f"{folder}: there are no images in {', '.join(files)}; replace them by the originals")
    return LabelledImages(torch.cat(pixels), torch.tensor(labels), source.num_classes)


def _unpickle(path: Path, digest: str | None) -> dict[Any, Any]:
    """Return the dictionary in a pickle file, which must have the given MD5 sum if there is one."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataUnavailable(f"{path}: no such file; put the original there") from None
    except OSError as error:
        raise DataUnavailable(f"{path}: not readable ({error.strerror}); check its permissions") from None
    if digest is not None:
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != digest:
            raise DataUnavailable(
                f"{path}: its MD5 sum is {found}, the original's {digest}; replace it by the original"
            )
    try:
        entry = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataUnavailable(f"{path}: not a pickle of images ({reason}); replace it by the original") from None
    if not isinstance(entry, dict):
        raise DataUnavailable(f"{path}: a pickled {type(entry).__name__} and no dictionary; replace it by the original")
    return entry


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays of whole numbers, containers, numbers and text; whatever else a pickle names is refused, never called.

    numpy's own functions are not called either: given crafted arguments they can be made to misread memory.
    """

    def find_class(self, module: str, name: str) -> Any:
        if module != "_codecs":
            module = module.removeprefix("numpy.").removeprefix("_core.").removeprefix("core.")
        admitted: dict[tuple[str, str], object] = {
            ("numpy", "ndarray"): np.ndarray.__name__,  # an argument of _reconstruct, and here nothing to be called
            ("numpy", "dtype"): _plain_dtype,
            ("multiarray", "_reconstruct"): _empty_array,
            ("numeric", "_frombuffer"): _array_from_buffer,
            ("_codecs", "encode"): _encode_latin1,
        }
        if (module, name) not in admitted:
            raise pickle.UnpicklingError(f"it calls for {module}.{name}, which no data file needs")
        return admitted[module, name]


def _plain_dtype(code: str, *_: object) -> np.dtype[Any]:
    """Stand in for `numpy.dtype`: whole numbers and nothing else, whose further state numpy ignores."""
    if code not in ("u1", "i1", "i2", "i4", "i8", "|u1", "<i4", "<i8"):
        raise pickle.UnpicklingError(f"it holds an array of {code!r}")
    return np.dtype(code)


def _empty_array(*_: object) -> np.ndarray:
    """Stand in for numpy's `_reconstruct`: an array that the pickle's next step fills."""
    return np.empty(0, dtype=np.uint8)


def _array_from_buffer(
    buffer: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: Literal["C", "F"]
) -> np.ndarray:
    """Stand in for numpy's `_frombuffer`, by which protocol 5 writes arrays."""
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def _encode_latin1(text: str, encoding: str) -> bytes:
    """Stand in for `codecs.encode`, by which Python 3 writes bytes into pickles of Python 2: latin1 and nothing else."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding!r}")
    return codecs.latin_1_encode(text)[0]
