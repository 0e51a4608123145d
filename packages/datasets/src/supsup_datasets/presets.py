"""The paper's streams by name, over the data set that each is named after or one shaped like it.

Normalisation and augmentation come with the data: MNIST .1307 / .3081; CIFAR pad 4, crop, flip and its means; ImageNet's
usual crops and means.
"""

from supsup_datasets.images import ImageDataset
from supsup_datasets.partitions import Partition, consecutive_partition, random_partition
from supsup_datasets.permuted import PermutedStream
from supsup_datasets.rotated import RotatedStream
from supsup_datasets.split import AnyDataset, SplitStream
from supsup_datasets.subset import LabelSpace


def permuted_mnist(dataset: ImageDataset, tasks: int = 250, seed: int = 0) -> PermutedStream:
    """PermutedMNIST (Tables 3, 4, 5, 7, 8, 9): every task all ten digits under a pixel permutation of its own."""
    return PermutedStream(dataset, tasks, seed)


def rotated_mnist(dataset: ImageDataset) -> RotatedStream:
    """RotatedMNIST (Table 6): 36 tasks, each turned by 10 degrees more than the one before."""
    return RotatedStream(dataset, tasks=36, degrees_per_task=10.0)


def split_mnist(dataset: ImageDataset, label_space: LabelSpace = LabelSpace.GLOBAL) -> SplitStream:
    """SplitMNIST (Figures 7 and 8): the pairs (0, 1) to (8, 9), labels kept in 0 to 9 as HopSupSup's ten outputs need."""
    return SplitStream(dataset, consecutive_partition(dataset.num_classes, 5, 2), label_space)


def split_cifar100(dataset: ImageDataset, seed: int = 0) -> SplitStream:
    """SplitCIFAR100 (Table 2): 20 tasks of 5 classes, drawn from the seed, labels 0 to 4 in each task."""
    return SplitStream(dataset, random_partition(dataset.num_classes, 20, 5, seed))


def split_imagenet(dataset: AnyDataset, partition: Partition | None = None) -> SplitStream:
    """SplitImageNet (Figure 2, left): 100 tasks of 10 classes, labels 0 to 9 in each task.

    The paper's fixed split is not printed in it: give the one to compare with, as `read_partition` reads it; without one,
    classes are taken in the order of their names.
    """
    return SplitStream(dataset, partition or consecutive_partition(dataset.num_classes, 100, 10))
