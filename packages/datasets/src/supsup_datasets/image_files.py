"""Finding images in class folders: which files there are and how they are labelled, without opening one."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from supsup_datasets.decoding import is_image_name
from supsup_datasets.errors import DatasetError, DataUnavailable
from supsup_datasets.seeds import permutation
from supsup_datasets.task_stream import check_seed


@dataclass(frozen=True, eq=False)
class LabelledFiles:
    """Image files in class folders, some bytes for each: ImageNet's million takes tens of megabytes.

    Attributes:
        root: the folder of the class folders.
        class_names: the class folders, in the order of the labels.
        names: each file's name within its class folder, as the file system's bytes.
        labels: int64, each file's label.
    """

    root: Path
    class_names: tuple[str, ...]
    names: npt.NDArray[np.bytes_]
    labels: Tensor

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.names)

    def path(self, index: int) -> Path:
        """Return where file `index` lies."""
        return self.root / self.class_names[int(self.labels[index])] / os.fsdecode(self.names[index])

    def select(self, indices: Tensor) -> "LabelledFiles":
        """Return some of the files."""
        return LabelledFiles(self.root, self.class_names, self.names[indices.numpy()], self.labels[indices])

    def digest(self) -> bytes:
        """Return a digest of names, labels and sizes: it tells lists of files apart, not what the files hold.

        Raises:
            DataUnavailable: a file is gone or cannot be read.
        """
        digest = hashlib.sha256()
        for index in range(len(self)):
            path = self.path(index)
            try:
                size = path.stat().st_size
            except OSError as error:
                raise DataUnavailable(f"{path}: not readable ({error.strerror}); put it back or remove it") from None
            digest.update(os.fsencode(f"{path.parent.name}/") + bytes(self.names[index]) + b"\0%d\n" % size)
        return digest.digest()


@dataclass(frozen=True)
class SeededSplit:
    """A share of each class set apart for tests, drawn from a seed and the same on every machine.

    Raises:
        DatasetError: the share is not between 0 and 1, or the seed is negative.
    """

    test_fraction: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if not 0 < self.test_fraction < 1:
            raise DatasetError(f"test_fraction={self.test_fraction}: a share is above 0 and below 1; choose another")

    def apply(self, files: LabelledFiles) -> tuple[LabelledFiles, LabelledFiles]:
        """Return training and test files: of each class of n, round(test_fraction · n) for tests, at least one of each.

        Raises:
            DatasetError: a class has one image only.
        """
        train, test = [], []
        for label, name in enumerate(files.class_names):
            members = torch.nonzero(files.labels == label).flatten()
            if len(members) < 2:
                raise DatasetError(
                    f"{files.root / name}: one image, where a split needs two; add images or remove the class"
                )
            held = min(max(1, round(self.test_fraction * len(members))), len(members) - 1)
            order = permutation(self.seed, "train test split", label, len(members))
            test.append(members[order[:held].sort().values])
            train.append(members[order[held:].sort().values])
        return files.select(torch.cat(train)), files.select(torch.cat(test))


def find_parts(root: Path, split: SeededSplit | None) -> tuple[LabelledFiles, LabelledFiles]:
    """Return training and test files under `root`, in one of two layouts.

    Either root/train/CLASS/… and root/val/CLASS/… (or test, where there is no val), with `split` None; or root/CLASS/…,
    split by `split`. Labels follow the classes' names in the order of their characters, files likewise. Hidden files and
    folders are passed over, and so are files beside class folders; every other file in a class folder must be an image.

    Raises:
        DataUnavailable: a folder is missing, unreadable, or holds something else than said above.
        DatasetError: there is one class only, training and test classes differ, or layout and `split` do not go together.
    """
    parts = {entry.name: Path(entry.path) for entry in _entries(root) if entry.name in ("train", "val", "test")}
    test = parts.get("val", parts.get("test"))
    if "train" in parts and test is not None:
        if split is not None:
            raise DatasetError(
                f"split: {root} has train and {test.name} already; leave the split out, or name a folder of classes"
            )
        train_files, test_files = _find_files(parts["train"]), _find_files(test)
        if train_files.class_names != test_files.class_names:
            odd = sorted(set(train_files.class_names) ^ set(test_files.class_names))[0]
            raise DatasetError(
                f"{root}: class {odd!r} is in one of train and {test.name} only; give both the same classes"
            )
        return train_files, test_files
    if split is None:
        raise DatasetError(
            f"{root}: there are not both train and val (or test) in it; make them, or pass a split where it holds classes"
        )
    return split.apply(_find_files(root))


def _find_files(root: Path) -> LabelledFiles:
    classes = sorted(entry.name for entry in _entries(root) if _is(entry.is_dir, entry))
    if len(classes) < 2:
        found = f"one class only, {classes[0]!r}" if classes else "no class folder"
        raise DatasetError(f"{root}: {found}; make one folder for each class, two or more")
    names, counts = [], []
    for name in classes:
        found_names = _image_names(root / name)
        names.extend(found_names)
        counts.append(len(found_names))
    labels = torch.repeat_interleave(torch.arange(len(classes)), torch.tensor(counts))
    return LabelledFiles(root, tuple(classes), np.array(names, dtype=np.bytes_), labels)


def _image_names(folder: Path) -> list[bytes]:
    names = []
    for entry in _entries(folder):
        if _is(entry.is_dir, entry):
            raise DataUnavailable(f"{entry.path}: a folder within a class folder; move its images up or remove it")
        if not is_image_name(entry.name):
            raise DataUnavailable(f"{entry.path}: not an image by its name; remove it, or hide it by a leading dot")
        if not _is(entry.is_file, entry):
            raise DataUnavailable(f"{entry.path}: a link to nothing, or no regular file; remove it")
        names.append(os.fsencode(entry.name))
    if not names:
        raise DataUnavailable(f"{folder}: a class folder without images; add some or remove it")
    return sorted(names)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder, but for what is hidden."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        raise DataUnavailable(f"{folder}: no such folder; create it, or name the one that holds the images") from None
    except NotADirectoryError:
        raise DataUnavailable(f"{folder}: it is a file; name a folder") from None
    except OSError as error:
        raise DataUnavailable(f"{folder}: not readable ({error.strerror}); check permissions and links") from None


def _is(question: Callable[[], bool], entry: os.DirEntry[str]) -> bool:
    """Answer a question about an entry, which a link in a circle cannot."""
    try:
        return question()
    except OSError as error:
        raise DataUnavailable(f"{entry.path}: not readable ({error.strerror}); remove the link") from None
