"""SupSup on PermutedMNIST as one writes it down from the paper: the oracle of tests, and the baseline of benchmarks.

    python benchmarks/textbook.py [--data-root DIR] [--tasks K]

Every image passes one by one through torchvision's transforms and a DataLoader, scores train by autograd through the
threshold with `torch.optim.RMSprop`, the masks of all tasks are stacked as floats, and One-Shot differentiates through the
stack. Nothing here is meant to be fast; it is meant to be read beside Sections 3 and 4.2, and it uses nothing of supsup-core.

Prints the seconds and the peak memory of learning one task and of one guess among K.
"""

import argparse
import math
import resource
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from supsup_datasets import LabelledImages, embedded_mnist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import MNIST

PIXELS = 28 * 28
BATCH_SIZE = 128
BATCHES = 1000
LEARNING_RATE = 1e-4
TEST_PASSES = 3  # one after each epoch, of which 1000 batches of 128 begin three
GUESSES = 5

Loader = Iterable[Sequence[Tensor]]
"""Batches of images and labels: a DataLoader, or any list of pairs."""


class EmbeddedDigits(Dataset[tuple[Image.Image, int]]):
    """MNIST-5k image by image, as `torchvision.datasets.MNIST` gives the full set."""

    def __init__(self, digits: LabelledImages) -> None:
        self._digits = digits

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._digits)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Return an image and its label."""
        return Image.fromarray(self._digits.images[index, 0].numpy()), int(self._digits.labels[index])


class Transformed(Dataset[tuple[Tensor, int]]):
    """A data set of which every image passes through a transform when it is asked for, every time."""

    def __init__(self, images: Dataset[Any], transform: transforms.Compose) -> None:
        self._images = images
        self._transform = transform

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)  # type: ignore[arg-type]  # torch types no length for data sets

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return a transformed image and its label."""
        image, label = self._images[index]
        return self._transform(image), label


def digits(data_root: Path | None, *, train: bool) -> Dataset[Any]:
    """Return MNIST from its folder in torchvision's layout, or MNIST-5k where none is given."""
    if data_root is not None:
        full: Dataset[Any] = MNIST(str(data_root), train=train)
        return full
    embedded = embedded_mnist()
    return EmbeddedDigits(embedded.train if train else embedded.test)


def permute_pixels(permutation: Tensor, image: Tensor) -> Tensor:
    """Return the image with pixel `permutation[j]` at place j."""
    return image.flatten()[permutation].view_as(image)


def permuted_loader(
    images: Dataset[Any],
    permutation: Tensor,
    *,
    train: bool,
    batch_size: int = BATCH_SIZE,
    num_workers: int = 0,
    generator: torch.Generator | None = None,
) -> DataLoader[Any]:
    """Return one task of PermutedMNIST in batches: normalised, permuted, and for training shuffled by `generator`."""
    transform = transforms.Compose(
        [
            transforms.ToTensor(),
            transforms.Normalize((0.1307,), (0.3081,)),
            transforms.Lambda(partial(permute_pixels, permutation)),
        ]
    )
    return DataLoader(
        Transformed(images, transform), batch_size, shuffle=train, num_workers=num_workers, generator=generator
    )


class Threshold(torch.autograd.Function):
    """M = 1[S >= 0], with dM/dS taken to be 1: the straight-through gradient (Section 3.1)."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        """Return the mask in the dtype of the scores."""
        return (scores >= 0).to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the gradient as it came."""
        return gradient


def threshold(scores: Tensor) -> Tensor:
    """Return the mask of scores, with the straight-through gradient."""
    mask: Tensor = Threshold.apply(scores)  # type: ignore[no-untyped-call]
    return mask


class MaskedLinear(nn.Module):
    """y = (W ⊙ M) x, with frozen weights ±sqrt(2 / fan_in) (signed Kaiming constant), and the masks of all tasks."""

    weight: Tensor
    masks: Tensor

    def __init__(self, fan_in: int, fan_out: int, num_tasks: int, generator: torch.Generator) -> None:
        super().__init__()
        signs = 2.0 * torch.randint(0, 2, (fan_out, fan_in), generator=generator) - 1.0
        self.register_buffer("weight", signs * math.sqrt(2.0 / fan_in))
        self.register_buffer("masks", torch.zeros(num_tasks, fan_out, fan_in))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the outputs under a mask, which may be a blend of masks."""
        return linear(x, self.weight * mask)


class TextbookSupSup(nn.Module):
    """A fully connected ReLU network without biases that learns a mask for each task (Section 3).

    Args:
        sizes: widths from the inputs to the outputs: (784, 300, 100, 100) is LeNet 300-100 with s = 100.
        num_tasks: how many tasks there will be; their masks are allocated at once.
        seed: of the frozen weights and the initial scores.
    """

    def __init__(self, sizes: Sequence[int], num_tasks: int, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)
        self.layers: Sequence[MaskedLinear] = nn.ModuleList(  # type: ignore[assignment]  # torch types no elements
            MaskedLinear(fan_in, fan_out, num_tasks, self.generator) for fan_in, fan_out in pairwise(sizes)
        )
        self.tasks_learned = 0

    def forward(self, images: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """Return the logits f(x, W ⊙ M), of shape (images, outputs), with one mask for each layer."""
        x = images.flatten(1)
        for layer, mask in zip(self.layers[:-1], masks[:-1], strict=True):
            x = torch.relu(layer(x, mask))
        logits: Tensor = self.layers[-1](x, masks[-1])
        return logits

    def fresh_scores(self) -> list[Tensor]:
        """Return initial scores for each layer, Kaiming uniform with a = sqrt(5)."""
        return [
            nn.init.kaiming_uniform_(torch.empty_like(layer.weight), a=math.sqrt(5), generator=self.generator)
            for layer in self.layers
        ]

    def learn(
        self,
        task: int,
        loader: Loader,
        batches: int = BATCHES,
        *,
        learning_rate: float = LEARNING_RATE,
        scores: Sequence[Tensor] | None = None,
    ) -> None:
        """Train scores with RMSprop on the cross-entropy over all outputs, and keep their mask as that of `task`.

        Args:
            task: the next task, or one to learn again.
            loader: training batches; passed through as often as it takes.
            batches: how many steps.
            learning_rate: of RMSprop.
            scores: where training starts, for each layer; fresh ones by default. They are not changed.
        """
        leaves = [part.clone().requires_grad_() for part in scores or self.fresh_scores()]
        optimizer = torch.optim.RMSprop(leaves, lr=learning_rate)
        for images, labels in islice(_epochs(loader), batches):
            loss = cross_entropy(self(images, [threshold(leaf) for leaf in leaves]), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for layer, leaf in zip(self.layers, leaves, strict=True):
            layer.masks[task] = threshold(leaf.detach())
        self.tasks_learned = max(self.tasks_learned, task + 1)

    def use_random_masks(self) -> None:
        """Fill all tasks with masks of fair coin tosses: what a guess costs does not depend on what was learned."""
        for layer in self.layers:
            layer.masks.copy_(torch.randint(0, 2, layer.masks.shape, generator=self.generator, dtype=torch.uint8))
        self.tasks_learned = len(self.layers[0].masks)

    def logits(self, images: Tensor, task: int) -> Tensor:
        """Return f(x, W ⊙ M^task)."""
        with torch.no_grad():
            return self.forward(images, [layer.masks[task] for layer in self.layers])

    def slopes(self, images: Tensor) -> Tensor:
        """Return ∂H(p(α))/∂α at α = 1/k, for p(α) = softmax f(x, W ⊙ Σ_i α_i M^i) and the mean over the images."""
        k = self.tasks_learned
        alpha = torch.full((k,), 1.0 / k, dtype=self.layers[0].masks.dtype, requires_grad=True)
        blends = [(alpha.view(k, 1, 1) * layer.masks[:k]).sum(dim=0) for layer in self.layers]
        log_p = torch.log_softmax(self(images, blends), dim=-1)
        entropy = -(log_p.exp() * log_p).sum(dim=-1).mean()
        (slopes,) = torch.autograd.grad(entropy, alpha)
        return slopes

    def one_shot(self, images: Tensor) -> int:
        """Return argmax_i -∂H/∂α_i (Algorithm 1)."""
        return int(torch.argmax(-self.slopes(images)))

    def accuracy(self, task: int, loader: Loader) -> float:
        """Return the fraction of images that are right where the first of each batch tells the task of all (GNu).

        Where it tells a wrong one, all images of the batch are wrong.
        """
        right = images_seen = 0
        for images, labels in loader:
            if self.one_shot(images[:1]) == task:
                right += self._right(images, labels, task)
            images_seen += len(labels)
        return right / images_seen

    def accuracy_of_given_task(self, task: int, loader: Loader) -> float:
        """Return the fraction of images that are right where the task is given (GG)."""
        right = images_seen = 0
        for images, labels in loader:
            right += self._right(images, labels, task)
            images_seen += len(labels)
        return right / images_seen

    def _right(self, images: Tensor, labels: Tensor, task: int) -> int:
        return int((self.logits(images, task).argmax(dim=-1) == labels).sum())


def _epochs(loader: Loader) -> Iterator[Sequence[Tensor]]:
    """Yield the batches of a loader, epoch after epoch."""
    while True:
        yield from loader


def whole_task(
    network: TextbookSupSup, task: int, data_root: Path | None, batches: int, seed: int, num_workers: int = 0
) -> float:
    """Do all that one task of the job takes, from the files to the accuracy with the task given, and return that.

    Opens the data, trains with transforms on every image of every batch, and passes three times over the test set.
    """
    generator = torch.Generator().manual_seed(seed)
    permutation = torch.randperm(PIXELS, generator=generator)
    train = permuted_loader(
        digits(data_root, train=True), permutation, train=True, num_workers=num_workers, generator=generator
    )
    network.learn(task, train, batches)
    test = permuted_loader(digits(data_root, train=False), permutation, train=False, num_workers=num_workers)
    accuracies = [network.accuracy_of_given_task(task, test) for _ in range(TEST_PASSES)]
    return accuracies[-1]


def warm_up(network: TextbookSupSup) -> None:
    """Learn a batch of noise: torch's optimizers import a compiler at their first step, which no task should pay for."""
    noise = torch.randn(BATCH_SIZE, PIXELS, generator=network.generator)
    network.learn(0, [(noise, torch.zeros(BATCH_SIZE, dtype=torch.long))], batches=1)
    network.one_shot(noise[:1])


def peak_bytes() -> int:
    """Return the most memory that this process has held so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measured(options: argparse.Namespace) -> Table:
    """Time one task and one guess, and return the table."""
    sizes, seed = (PIXELS, *options.hidden, options.outputs), options.seed
    table = Table(title=f"textbook SupSup, {'-'.join(map(str, sizes))}, {torch.get_num_threads()} threads, float32")
    # CPU seconds of all threads tell where other work on the machine stretched the clock.
    for column in ("what", "seconds", "CPU seconds", "peak memory of the process, MB", "accuracy, task given"):
        table.add_column(column, justify="right")

    learner = TextbookSupSup(sizes, num_tasks=1, seed=seed)
    warm_up(learner)
    table.add_row("imports and one step", "", "", f"{peak_bytes() / 1e6:.0f}", "")
    start, cpu_start = time.perf_counter(), time.process_time()
    accuracy_fraction = whole_task(learner, 0, options.data_root, options.batches, seed, options.workers)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    name = "MNIST" if options.data_root else "MNIST-5k"
    table.add_row(
        f"one task of {name}: {options.batches} batches, {TEST_PASSES} test passes",
        f"{seconds:.2f}",
        f"{cpu_seconds:.2f}",
        f"{peak_bytes() / 1e6:.0f}",
        f"{accuracy_fraction:.2%}",
    )

    guesser = TextbookSupSup(sizes, num_tasks=options.tasks, seed=seed)
    guesser.use_random_masks()
    image = torch.randn(1, PIXELS, generator=guesser.generator)
    guesser.one_shot(image)  # the first also asks the system for the memory of all that follow
    guess_seconds, cpu_start = [], time.process_time()
    for _ in range(GUESSES):
        start = time.perf_counter()
        guesser.one_shot(image)
        guess_seconds.append(time.perf_counter() - start)
    table.add_row(
        f"one guess among {options.tasks}, median of {GUESSES}",
        f"{statistics.median(guess_seconds):.3f}",
        f"{(time.process_time() - cpu_start) / GUESSES:.3f}",
        f"{peak_bytes() / 1e6:.0f}",
        "",
    )
    return table


def main() -> None:
    """Print what the textbook costs."""
    parser = argparse.ArgumentParser(description="Time the textbook implementation: one task, and one guess.")
    parser.add_argument("--data-root", type=Path, help="folder of MNIST in torchvision's layout; MNIST-5k without it")
    parser.add_argument("--hidden", type=int, nargs="*", default=[300, 100], help="widths of the hidden layers")
    parser.add_argument("--outputs", type=int, default=100, help="width s of the last layer")
    parser.add_argument("--tasks", type=int, default=250, help="tasks to guess among")
    parser.add_argument("--batches", type=int, default=BATCHES, help="training batches")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="processes that load data; 0: this one does")
    Console(width=130).print(measured(parser.parse_args()), soft_wrap=True)


if __name__ == "__main__":
    main()
