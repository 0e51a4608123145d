"""From a recipe's stream to its data, and to the tasks that are made of it."""

from pathlib import Path
from typing import assert_never

from supsup_datasets import (
    AnyDataset,
    CropFlip,
    FileDataset,
    ImageDataset,
    PermutedStream,
    RecurringStream,
    RotatedStream,
    SplitStream,
    TaskStream,
    cifar100,
    embedded_mnist,
    image_folder,
    imagenet,
    mnist,
    random_partition,
    read_partition,
    split_imagenet,
    split_mnist,
)
from supsup_datasets.cifar_files import CIFAR_NORMALIZATION

from supsup_methods.errors import UsageError
from supsup_methods.experiment import (
    PermutedMnist,
    Recipe,
    RecurringPermutedMnist,
    RotatedMnist,
    SplitCifar100,
    SplitImageFolder,
    SplitImageNet,
    SplitMnist,
    Stream,
)

_IMAGENET = "imagenet"
_CIFAR_CLASSES = 5  # of a task (Section 4.1)


def load_dataset(stream: Stream, data_root: Path | None) -> AnyDataset:
    """Return the data of a stream from `data_root`, downloaded there if that can be; without a root, the embedded digits.

    Raises:
        UsageError: no root is named, and the data does not come with a library.
        DataUnavailable: the data is not there.
    """
    match stream:
        case PermutedMnist() | RotatedMnist() | SplitMnist() | RecurringPermutedMnist():
            return embedded_mnist() if data_root is None else mnist(data_root, download=True)
        case SplitCifar100():
            return cifar100(_named(stream, data_root), download=True)
        case SplitImageFolder(folder=folder, side=side):
            root = _named(stream, data_root) / folder
            return image_folder(root, CIFAR_NORMALIZATION, size=side, augmentation=CropFlip())
        case SplitImageNet():
            return imagenet(_named(stream, data_root) / _IMAGENET)
        case _:
            assert_never(stream)


def needs_data_root(stream: Stream) -> bool:
    """Tell whether a stream's data comes with no library."""
    return not isinstance(stream, PermutedMnist | RotatedMnist | SplitMnist | RecurringPermutedMnist)


def refuse_missing_data(stream: Stream, data_root: Path | None) -> None:
    """Check, without reading any, that a stream's data is there or can be downloaded.

    Raises:
        UsageError: no root is named, or what lies in it is not the data.
    """
    if not needs_data_root(stream):
        return
    root = _named(stream, data_root)
    match stream:
        case SplitImageFolder(folder=folder):
            pass
        case SplitImageNet():
            folder = _IMAGENET
        case _:
            return  # CIFAR-100 is downloaded
    if not (root / folder).is_dir():
        raise UsageError(
            f"--data-root {root}: {stream.kind} needs a folder {folder} in it; put it there, or name another"
        )


def build_stream(recipe: Recipe, dataset: AnyDataset) -> TaskStream:
    """Return the recipe's stream of tasks over a data set.

    Raises:
        UsageError: the stream has fewer tasks than the recipe asks for.
    """
    _refuse_too_many_tasks(recipe, dataset)
    match recipe.stream:
        case SplitCifar100():
            return SplitStream(
                dataset, random_partition(dataset.num_classes, recipe.tasks, _CIFAR_CLASSES, recipe.seed)
            )
        case SplitImageFolder(classes_per_task=classes):
            return SplitStream(dataset, random_partition(dataset.num_classes, recipe.tasks, classes, recipe.seed))
        case SplitImageNet(partition=name):
            return _imagenet_stream(dataset, name, recipe.tasks)
    if isinstance(dataset, FileDataset):
        raise UsageError(f"--stream.kind {recipe.stream.kind}: it is made of images in memory, and these stay in files")
    return _mnist_stream(recipe, dataset)


def _mnist_stream(recipe: Recipe, dataset: ImageDataset) -> TaskStream:
    match recipe.stream:
        case PermutedMnist():
            return PermutedStream(dataset, recipe.tasks, recipe.seed)
        case RotatedMnist():
            return RotatedStream(dataset, recipe.tasks, degrees_per_task=10.0)
        case RecurringPermutedMnist(distinct=distinct):
            return RecurringStream(PermutedStream(dataset, distinct, recipe.seed), recipe.tasks, recipe.seed)
        case SplitMnist():
            whole = split_mnist(dataset)
            return SplitStream(dataset, whole.partition[: recipe.tasks], whole.label_space)
    raise AssertionError("unreachable: the others are no streams of digits")


def _imagenet_stream(dataset: AnyDataset, partition: str | None, tasks: int) -> SplitStream:
    if partition is None or not isinstance(dataset, FileDataset):
        whole = split_imagenet(dataset)
    else:
        path = dataset.train.root.parent / partition
        whole = split_imagenet(dataset, read_partition(path, dataset.num_classes, dataset.class_names))
    sizes = {len(classes) for classes in whole.partition}
    if len(whole.partition) < tasks or len(sizes) > 1:
        held = f"{len(whole.partition)} tasks of {' or '.join(map(str, sorted(sizes)))} classes"
        raise UsageError(
            f"--stream.partition {partition}: it has {held}, where --tasks {tasks} of one size are asked for; ask for fewer, or "
            "complete it"
        )
    return SplitStream(dataset, whole.partition[:tasks])


def _named(stream: Stream, data_root: Path | None) -> Path:
    if data_root is None:
        raise UsageError(
            f"--data-root: {stream.kind} needs data that comes with no library; name the folder it lies in"
        )
    return data_root


def _refuse_too_many_tasks(recipe: Recipe, dataset: AnyDataset) -> None:
    tasks = recipe.tasks
    match recipe.stream:
        case RotatedMnist() if tasks > 36:
            raise UsageError(
                f"--tasks {tasks}: rotated-mnist turns by ten degrees a task, so 36 come full circle; ask for fewer"
            )
        case SplitMnist() if tasks > 5:
            raise UsageError(f"--tasks {tasks}: split-mnist has five pairs of digits; ask for 5 or fewer")
        case SplitCifar100():
            classes = _CIFAR_CLASSES
        case SplitImageFolder(classes_per_task=classes):
            pass
        case SplitImageNet(partition=name) if name is None or not isinstance(dataset, FileDataset):
            classes = 10
        case _:
            return
    if tasks * classes > dataset.num_classes:
        raise UsageError(
            f"--tasks {tasks}: with {classes} classes each they need {tasks * classes}, and {dataset.name} has "
            f"{dataset.num_classes}; ask for {dataset.num_classes // classes} or fewer"
            if dataset.num_classes >= classes
            else f"--stream.kind {recipe.stream.kind}: a task has {classes} classes, and {dataset.name} has "
            f"{dataset.num_classes}; choose other data"
        )
