"""supsup-datasets: streams of tasks over labelled image data."""

from supsup_datasets.arrays import from_arrays
from supsup_datasets.augmentation import CropFlip
from supsup_datasets.cifar_files import cifar10, cifar100
from supsup_datasets.decoding import Colour
from supsup_datasets.embedded import EMBEDDED_MNIST, embedded_mnist
from supsup_datasets.errors import DatasetError, DataUnavailable
from supsup_datasets.file_geometry import ResizeCentreCrop, ResizedCropFlip
from supsup_datasets.file_images import FileDataset, ImagesInFiles, Reading
from supsup_datasets.image_files import LabelledFiles, SeededSplit
from supsup_datasets.image_folder import image_folder, imagenet, large_image_folder
from supsup_datasets.images import ImageDataset, LabelledImages, Normalization
from supsup_datasets.memory_images import ImagesInMemory
from supsup_datasets.mnist_files import fashion_mnist, kmnist, mnist
from supsup_datasets.partitions import Partition, consecutive_partition, random_partition, read_partition
from supsup_datasets.permuted import PermutedStream
from supsup_datasets.presets import permuted_mnist, rotated_mnist, split_cifar100, split_imagenet, split_mnist
from supsup_datasets.recurring import RecurringStream
from supsup_datasets.rotated import RotatedStream
from supsup_datasets.scenario import Revealed, Scenario, draw_tree, scenario_for
from supsup_datasets.split import AnyDataset, SplitStream
from supsup_datasets.subset import LabelSpace, Subset
from supsup_datasets.task import Batch, Task, TaskImages, Unlabelled, joined
from supsup_datasets.task_group import TaskGroup, side_by_side
from supsup_datasets.task_stream import TaskStream

__all__ = [
    "EMBEDDED_MNIST",
    "AnyDataset",
    "Batch",
    "Colour",
    "CropFlip",
    "DataUnavailable",
    "DatasetError",
    "FileDataset",
    "ImageDataset",
    "ImagesInFiles",
    "ImagesInMemory",
    "LabelSpace",
    "LabelledFiles",
    "LabelledImages",
    "Normalization",
    "Partition",
    "PermutedStream",
    "Reading",
    "RecurringStream",
    "ResizeCentreCrop",
    "ResizedCropFlip",
    "Revealed",
    "RotatedStream",
    "Scenario",
    "SeededSplit",
    "SplitStream",
    "Subset",
    "Task",
    "TaskGroup",
    "TaskImages",
    "TaskStream",
    "Unlabelled",
    "cifar10",
    "cifar100",
    "consecutive_partition",
    "draw_tree",
    "embedded_mnist",
    "fashion_mnist",
    "from_arrays",
    "image_folder",
    "imagenet",
    "joined",
    "kmnist",
    "large_image_folder",
    "mnist",
    "permuted_mnist",
    "random_partition",
    "read_partition",
    "rotated_mnist",
    "scenario_for",
    "side_by_side",
    "split_cifar100",
    "split_imagenet",
    "split_mnist",
]
