"""What an experiment is: a frozen value that says everything a run depends on, but for data and device."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, TypeAlias

from supsup_methods.bounds import Bounds, ByKind, Pattern
from supsup_methods.registry import MethodSettings
from supsup_methods.supsup import SupSupSettings

_PLAIN_NAME = "of letters, digits, '.', '_' and '-', a letter or digit first"


@dataclass(frozen=True)
class PermutedMnist:
    """PermutedMNIST: each task has its own random order of the pixels."""

    kind: Literal["permuted-mnist"] = "permuted-mnist"
    """Which stream of tasks."""


@dataclass(frozen=True)
class RotatedMnist:
    """RotatedMNIST: each task turns the digits by ten degrees more than the one before; 36 come full circle."""

    kind: Literal["rotated-mnist"] = "rotated-mnist"
    """Which stream of tasks."""


@dataclass(frozen=True)
class SplitMnist:
    """SplitMNIST: five tasks of two digits each, 0 and 1 to 8 and 9, whose labels stay 0 to 9."""

    kind: Literal["split-mnist"] = "split-mnist"
    """Which stream of tasks."""


@dataclass(frozen=True)
class RecurringPermutedMnist:
    """PermutedMNIST in which tasks come back: in each round all of them, in random order. `tasks` counts the stretches."""

    kind: Literal["recurring-permuted-mnist"] = "recurring-permuted-mnist"
    """Which stream of tasks."""
    distinct: Annotated[int, Bounds(ge=1, le=1_000_000)] = 20
    """Tasks that differ."""


@dataclass(frozen=True)
class SplitCifar100:
    """SplitCIFAR100: 20 tasks of five classes, drawn from the seed; labels 0 to 4 in each task (Section 4.1)."""

    kind: Literal["split-cifar100"] = "split-cifar100"
    """Which stream of tasks."""


@dataclass(frozen=True)
class SplitImageNet:
    """SplitImageNet: 100 tasks of ten classes; images are read when a batch needs them (Section 4.1)."""

    kind: Literal["split-imagenet"] = "split-imagenet"
    """Which stream of tasks."""
    partition: Annotated[str, Pattern(r"[^/\\]+", "the name of a file, without a folder")] | None = None
    """Name of a file beside the data with the classes of each task, a line each; without it, classes go by their names."""


@dataclass(frozen=True)
class SplitImageFolder:
    """Tasks of a few classes each, drawn from the seed, from a folder of images with a folder for each class."""

    kind: Literal["split-image-folder"] = "split-image-folder"
    """Which stream of tasks."""
    folder: Annotated[str, Pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", _PLAIN_NAME)] = "images"
    """Name of the folder under the data root; in it train/ and val/ with a folder for each class."""
    classes_per_task: Annotated[int, Bounds(ge=1, le=100_000)] = 5
    """Classes of a task."""
    side: Annotated[int, Bounds(ge=1, le=4096)] = 32
    """Width and height that images are scaled to, in pixels. All of them are kept in memory."""


Stream: TypeAlias = Annotated[
    PermutedMnist
    | RotatedMnist
    | SplitMnist
    | RecurringPermutedMnist
    | SplitCifar100
    | SplitImageNet
    | SplitImageFolder,
    ByKind(),
]


@dataclass(frozen=True)
class FullyConnected:
    """A ReLU network without biases over flattened images."""

    kind: Literal["fully-connected"] = "fully-connected"
    """Which backbone."""
    hidden: tuple[Annotated[int, Bounds(ge=1, le=100_000)], ...] = (300, 100)
    """Widths of the hidden layers: 300 100 is the paper's LeNet, 1024 1024 its FC."""
    outputs: Annotated[int, Bounds(ge=1, le=100_000)] = 100
    """Width s of the last layer; those beyond a task's labels are superfluous neurons."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Of all layers but the input."""
        return (*self.hidden, self.outputs)


@dataclass(frozen=True)
class NormalisedFullyConnected:
    """A Swish network with batch norm, over flattened images: the backbone of HopSupSup (Eq. 8)."""

    kind: Literal["normalised-fully-connected"] = "normalised-fully-connected"
    """Which backbone."""
    hidden: tuple[Annotated[int, Bounds(ge=1, le=100_000)], ...] = (2048, 2048)
    """Widths of the hidden layers, each with batch norm before its Swish."""
    outputs: Annotated[int, Bounds(ge=1, le=100_000)] = 10
    """Width of the last layer."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Of all layers but the input."""
        return (*self.hidden, self.outputs)


@dataclass(frozen=True)
class SmallConvolutional:
    """Convolutions of stride 2 with batch norm and Swish, and a last layer over all places."""

    kind: Literal["small-convolutional"] = "small-convolutional"
    """Which backbone."""
    channels: tuple[Annotated[int, Bounds(ge=1, le=100_000)], ...] = (64, 128, 512)
    """Channels of the convolutions, each of 3 × 3 with batch norm before its Swish."""
    outputs: Annotated[int, Bounds(ge=1, le=100_000)] = 10
    """Width of the last layer."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Of all layers but the input."""
        return (*self.channels, self.outputs)


@dataclass(frozen=True)
class CifarResNet18:
    """ResNet-18 for images of 32 × 32 pixels, batch norm without parameters (Table 2)."""

    kind: Literal["cifar-resnet18"] = "cifar-resnet18"
    """Which backbone."""
    channels: Annotated[int, Bounds(ge=1, le=100_000)] = 20
    """Of the first stage; each later one has twice as many: 20 in Table 2."""
    outputs: Annotated[int, Bounds(ge=1, le=100_000)] = 5
    """Width of the last layer."""


@dataclass(frozen=True)
class TorchvisionModel:
    """A classification network of torchvision by its name; its batch norm loses its parameters, which would be 1 and 0."""

    kind: Literal["torchvision"] = "torchvision"
    """Which backbone."""
    model: Annotated[str, Pattern(r"[a-z0-9_]+", "a name of torchvision's, of small letters, digits and _")] = (
        "resnet50"
    )
    """As torchvision calls it: resnet50 is that of SplitImageNet."""
    outputs: Annotated[int, Bounds(ge=1, le=100_000)] = 10
    """Width of the last layer."""


@dataclass(frozen=True)
class OwnModel:
    """A network of your own, from a function of your own."""

    kind: Literal["own"] = "own"
    """Which backbone."""
    factory: Annotated[str, Pattern(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", "module:function")] = "networks:build"
    """module:function; the function takes the number of outputs and returns an nn.Module of images. The module is looked for
    where Python looks, and in the folder one works in."""
    weights: Literal["signed-constant", "own"] = "signed-constant"
    """Whether maskable weights become ±sqrt(2 / fan-in), or stay as the function made them, pretrained for example."""
    outputs: Annotated[int, Bounds(ge=1, le=100_000)] = 10
    """Width of the last layer."""


Backbone: TypeAlias = Annotated[
    FullyConnected | NormalisedFullyConnected | SmallConvolutional | CifarResNet18 | TorchvisionModel | OwnModel,
    ByKind(),
]


@dataclass(frozen=True)
class Evaluation:
    """When and how learned tasks are tested."""

    scenario: Literal["GG", "GNs", "GNu", "NNs"] = "GNu"
    """GG: task given at test; GNs: inferred, shared labels; GNu: inferred, and a wrong task makes its images wrong; NNs: not
    even given in training, shared labels."""
    batch_size: Annotated[int, Bounds(ge=1, le=1_000_000)] = 128
    """Test images that belong together: their task is inferred once."""
    checkpoints: tuple[Annotated[int, Bounds(ge=1, le=1_000_000)], ...] = ()
    """Numbers of learned tasks after which all of them are tested; the end is always one."""


@dataclass(frozen=True)
class Recipe:
    """An experiment that supsup-train can run."""

    name: Annotated[str, Pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", f"{_PLAIN_NAME}, at most 80 of them")]
    """Name under which runs are listed; it begins the names of their folders."""
    tasks: Annotated[int, Bounds(ge=1, le=1_000_000)]
    """Number of tasks to learn."""
    seed: Annotated[int, Bounds(ge=0, lt=2**63)] = 0
    """Decides weights, tasks, initial scores and training order."""
    stream: Stream = field(default_factory=PermutedMnist)
    backbone: Backbone = field(default_factory=FullyConnected)
    method: MethodSettings = field(default_factory=SupSupSettings)
    evaluation: Evaluation = field(default_factory=Evaluation)

    def shortened(self, tasks: int) -> "Recipe":
        """Return the same experiment with so many tasks, without the checkpoints that it does not come to."""
        early = tuple(number for number in self.evaluation.checkpoints if number < tasks)
        return replace(self, tasks=tasks, evaluation=replace(self.evaluation, checkpoints=early))

    def is_checkpoint(self, tasks_learned: int) -> bool:
        """Tell whether all tasks learned so far are tested now."""
        return tasks_learned == self.tasks or tasks_learned in self.evaluation.checkpoints

    def next_checkpoint(self, tasks_learned: int) -> int:
        """Return after how many tasks all are tested next, having learned fewer than all."""
        return min(number for number in (*self.evaluation.checkpoints, self.tasks) if number > tasks_learned)
