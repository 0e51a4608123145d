"""A small convolutional network with batch norm, tasks of noisy images for it, and the textbook loop that trains its masks."""

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from supsup_core import FrozenNetwork, MaskBank, erdos_renyi_budget, threshold, top_k
from supsup_core.random_streams import stream_key
from supsup_datasets import Batch, ImageDataset, LabelledImages, Normalization, SplitStream
from supsup_methods.mask_rules import EdgePopupMasks
from supsup_methods.mask_training import MaskTraining
from supsup_methods.snapshots import Snapshots
from supsup_methods.supsup import SupSup, SupSupSettings
from supsup_methods.training_length import Schedule
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

CPU = torch.device("cpu")
LABELS = 3
BATCH_SIZE = 8
IMAGES = 27  # three batches of 8 and one of 3 in an epoch
TRAINING = MaskTraining(
    epochs=3, batch_size=BATCH_SIZE, schedule=Schedule(shape="cosine"), learning_rate=0.01, optimizer="adam"
)
STEPS = TRAINING.steps(IMAGES)
EDGE_POPUP = SupSupSettings(training=TRAINING, masks=EdgePopupMasks(budget_factor=1.0), statistics="float16")
TRANSFER = replace(EDGE_POPUP, masks=EdgePopupMasks(budget_factor=1.0, transfer=True))


def module() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6, affine=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 4 * 5, LABELS, bias=False),
    )


def network(seed: int = 0, dtype: torch.dtype = torch.float32) -> FrozenNetwork:
    return FrozenNetwork(module(), seed).to(dtype=dtype)


@functools.cache
def stream(images: int = IMAGES, tasks: int = 3) -> SplitStream:
    """Each task with classes of its own: noise around a mean image of each."""
    means = torch.randint(60, 196, (tasks * LABELS, 2, 4, 5), generator=torch.Generator().manual_seed(99))

    def labelled(count: int, seed: int) -> LabelledImages:
        labels = torch.cat([LABELS * task + torch.arange(count) % LABELS for task in range(tasks)])
        noise = torch.randint(-30, 30, (len(labels), 2, 4, 5), generator=torch.Generator().manual_seed(seed))
        return LabelledImages((means[labels] + noise).to(torch.uint8), labels, tasks * LABELS)

    data = ImageDataset("blobs", labelled(images, 0), labelled(12, 1), Normalization((0.5,) * 2, (0.25,) * 2))
    partition = tuple(tuple(range(LABELS * task, LABELS * (task + 1))) for task in range(tasks))
    return SplitStream(data, partition)


def learner(
    settings: SupSupSettings = EDGE_POPUP, net: FrozenNetwork | None = None, snapshots: Snapshots | None = None
) -> SupSup:
    net = net or network()
    dtype = {"float16": torch.float16, "float32": torch.float32}[settings.statistics]
    return SupSup(net, MaskBank(net, dtype), settings, LABELS, net.seed, snapshots)


def learn(method, tasks: Sequence[int] | range, images: int = IMAGES, on_batch=lambda: None):
    for task in tasks:
        method.learn([stream(images)[task]], on_batch)
    return method


def images_of(task: int) -> Tensor:
    (batch,) = stream()[task].test.in_order(100)
    return batch.images


def batches(steps: int, dtype: torch.dtype) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [
        Batch(
            torch.randn(BATCH_SIZE, 2, 4, 5, generator=generator).to(dtype),
            torch.randint(0, LABELS, (BATCH_SIZE,), generator=generator),
        )
        for _ in range(steps)
    ]


@dataclass
class Textbook:
    """The slow obvious version: scores as leaves, a module in training mode, torch's Adam and its cosine.

    Attributes:
        scores: at the end, flat.
        masks: at every step and at the end, flat.
        module: with the running statistics of the training.
    """

    net: FrozenNetwork
    scores: Tensor
    module: nn.Module = field(init=False)
    masks: list[Tensor] = field(default_factory=list)

    def train(self, data: Sequence[Batch], learning_rate: float, masked, steps: int | None = None) -> "Textbook":
        """Train; `masked` makes the masks of the leaves, by name."""
        leaves = {name: part.clone().requires_grad_() for name, part in self.net.unflatten(self.scores).items()}
        optimizer = torch.optim.Adam(leaves.values(), lr=learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps or len(data))
        self.module = copy.deepcopy(self.net.module).train()
        for batch in data:
            masks = masked(leaves)
            self.masks.append(self.net.flatten(masks).detach().bool())
            optimizer.zero_grad()
            weights = {name: self.net.frozen[name] * mask for name, mask in masks.items()}
            cross_entropy(functional_call(self.module, weights, batch.images), batch.labels).backward()
            optimizer.step()
            schedule.step()
        self.masks.append(self.net.flatten(masked(leaves)).detach().bool())
        self.scores = self.net.flatten({name: leaf.detach() for name, leaf in leaves.items()})
        return self

    @property
    def statistics(self) -> dict[str, Tensor]:
        return {entry.name: dict(self.module.named_buffers())[entry.name] for entry in self.net.task_buffers}


def by_edge_popup(net: FrozenNetwork, factor: float, seed: int, task: int):
    budget = erdos_renyi_budget(net, factor)

    def masked(leaves):
        return {name: top_k(leaf, budget[name], stream_key(seed, "ties", task, name)) for name, leaf in leaves.items()}

    return masked


def by_threshold(leaves):
    return {name: threshold(leaf) for name, leaf in leaves.items()}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def in_doubles(task):
    """Return the task with images as float64, for a network of that type."""

    class Images:
        def __init__(self, images):
            self._images = images

        def __len__(self):
            return len(self._images)

        def shuffled(self, *arguments, **keywords):
            for batch in self._images.shuffled(*arguments, **keywords):
                yield replace(batch, images=batch.images.double())

    return replace(task, train=Images(task.train))
