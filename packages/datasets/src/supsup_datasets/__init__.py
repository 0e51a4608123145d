"""supsup-datasets: streams of tasks over labelled image data."""

from supsup_datasets.errors import DatasetError, DataUnavailable
from supsup_datasets.images import ImageDataset, LabelledImages, Normalization
from supsup_datasets.permuted import PermutedStream
from supsup_datasets.scenario import Scenario
from supsup_datasets.sources import embedded_mnist, mnist
from supsup_datasets.task import Batch, Task, TaskImages
from supsup_datasets.task_stream import TaskStream

__all__ = [
    "Batch",
    "DataUnavailable",
    "DatasetError",
    "ImageDataset",
    "LabelledImages",
    "Normalization",
    "PermutedStream",
    "Scenario",
    "Task",
    "TaskImages",
    "TaskStream",
    "embedded_mnist",
    "mnist",
]
