"""A stream small enough to learn in a blink: four 4 × 5 images' worth of noise around class means."""

import torch
from supsup_core import FrozenNetwork, MaskBank
from supsup_datasets import ImageDataset, LabelledImages, Normalization, PermutedStream
from supsup_methods.backbones import fully_connected
from supsup_methods.mask_training import MaskTraining
from supsup_methods.supsup import SupSup, SupSupSettings
from supsup_methods.task_guessing import OneShot

TRAINING = MaskTraining(batches=120, batch_size=20, learning_rate=0.01)


def labelled(count: int, seed: int) -> LabelledImages:
    generator = torch.Generator().manual_seed(seed)
    means = torch.randint(40, 216, (3, 1, 4, 5), generator=torch.Generator().manual_seed(99))
    labels = torch.arange(count) % 3
    noise = torch.randint(-40, 40, (count, 1, 4, 5), generator=generator)
    return LabelledImages((means[labels] + noise).to(torch.uint8), labels, 3)


def dataset() -> ImageDataset:
    return ImageDataset("blobs", labelled(120, 0), labelled(63, 1), Normalization((0.5,), (0.25,)))


def stream(tasks: int = 4, seed: int = 0) -> PermutedStream:
    return PermutedStream(dataset(), tasks, seed)


def network(seed: int = 0, outputs: int = 12) -> FrozenNetwork:
    return FrozenNetwork(fully_connected(20, (64, 32), outputs), seed)


def learner(seed: int = 0, objective: str = "H", images_per_guess: int = 1) -> SupSup:
    net = network(seed)
    settings = SupSupSettings(
        training=TRAINING, inference=OneShot(objective=objective, images_per_guess=images_per_guess)
    )
    return SupSup(net, MaskBank(net), settings, num_labels=3, seed=seed)


def taught(tasks: int = 4, **settings) -> SupSup:
    method = learner(**settings)
    for index in range(tasks):
        method.learn([stream(tasks)[index]], on_batch=lambda: None)
    return method
