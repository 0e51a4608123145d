"""How one guess comes about: beliefs and slopes round by round, and what every task's own network says (extra `plots`).

The searches are core's (Algorithms 1 and 2, Appendices C and F); here their steps become tidy data frames, for figures. With
them goes what a guess is asked about: test images of a task, or an image from elsewhere, seen as that task shows it.
"""

from dataclasses import dataclass, replace

import pandas as pd
import torch
from jaxtyping import Float, UInt8
from supsup_core import (
    ContextStore,
    FrozenNetwork,
    Guess,
    answer_confidences,
    entropy,
    every_task,
    gamma,
    one_shot,
    superfluous_logsumexp,
)
from supsup_datasets import (
    Batch,
    ImagesInFiles,
    ImagesInMemory,
    LabelledImages,
    Normalization,
    Subset,
    TaskImages,
    TaskStream,
)
from torch import Tensor

from supsup_methods.continual_method import AllocatesMasks, AnyMethod
from supsup_methods.errors import UsageError
from supsup_methods.experiment import Recipe
from supsup_methods.mask_bookkeeping import mask_owners, stretches_of
from supsup_methods.task_guessing import Gamma, OneShot


@dataclass(frozen=True)
class GuessTrace:
    """A guess and how it came about.

    Attributes:
        task: the task (in NNs the mask) inferred.
        confidence: ν of the answer, softmax(-dO/dα) over those left in the last round (Section 3.4); a fraction.
        outputs: the largest output of each image under the answer: its label, or a superfluous neuron.
        beliefs: columns `round`, `task`, `belief` (α before round 1, 2, ..., and last the answer's, which is 1).
        slopes: columns `round`, `task`, `slope` (dO/dα, nats for each unit of belief), `left` (a candidate in that round?).
    """

    task: int
    confidence: float
    outputs: tuple[int, ...]
    beliefs: pd.DataFrame
    slopes: pd.DataFrame

    @property
    def rounds(self) -> int:
        """How many gradients the search took."""
        return int(self.slopes["round"].max())


def trace_guess(
    search: OneShot | Gamma,
    net: FrozenNetwork,
    store: ContextStore,
    num_labels: int,
    images: Float[Tensor, "images *input"],
) -> GuessTrace:
    """Return what a search over a store finds for some images that share a task, and every step of it.

    Args:
        search: One-Shot, or a γ (0.5 is Binary), and its objective; all images are shown, whatever `images_per_guess` says.
        net: the network.
        store: the contexts of all tasks.
        num_labels: labels of a task; outputs from there on are superfluous neurons.
        images: as the task's stream gives them.

    Raises:
        UsageError: G is asked for and no neuron is superfluous, or batch norm needs more images.
        InvalidArgument: the store is empty, there is no image, or the slopes are not finite.
    """
    _refuse_too_few(net, images)
    if search.objective == "G":
        _refuse_g(net, num_labels, images)
    objective = entropy if search.objective == "H" else superfluous_logsumexp(num_labels)
    if isinstance(search, OneShot):
        guess = one_shot(objective, net, store, images)
    else:
        guess = gamma(objective, net, store, images, search.share)
    with torch.no_grad():
        outputs = net(images, store.weights(guess.task)).argmax(dim=-1)
    return GuessTrace(guess.task, _confidence(guess), tuple(outputs.tolist()), _beliefs(guess), _slopes(guess))


def output_entropies(net: FrozenNetwork, store: ContextStore, images: Float[Tensor, "images *input"]) -> pd.DataFrame:
    """Return the entropy of what every task's own network says of the images, H(f(x, W_i)), their mean (Appendix C, Eq. 15).

    It costs a forward pass for each task, where a search takes one gradient a round.

    Returns:
        columns `task`, `entropy` (nats, at most ln of the number of outputs).

    Raises:
        InvalidArgument: the store is empty, there is no image, or a value is not finite.
    """
    values = every_task(entropy, net, store, images).values
    return pd.DataFrame({"task": range(len(values)), "entropy": values.cpu().numpy()})


def owners_of_masks(method: AnyMethod, stream: TaskStream, recipe: Recipe) -> dict[int, int] | None:
    """Return the true task of each mask, where masks are no tasks (NNs); None where context i is that of task i."""
    if not isinstance(method, AllocatesMasks):
        return None
    return mask_owners(stretches_of(method.decisions, stream, recipe.method.training, method.tasks_learned))


def some_images(view: TaskImages, first: int, count: int) -> Batch:
    """Return some images of a task, in the order of its data, without reading any other.

    Args:
        view: a task's test (or training) images.
        first: the first one, from 0.
        count: how many; those behind the last are left out.

    Raises:
        UsageError: there is no image `first`, or none is asked for.
        DataUnavailable: a file does not decode.
    """
    if not 0 <= first < len(view) or count < 1:
        raise UsageError(f"image {first}, {count} of them: there are images 0 to {len(view) - 1}; choose among them")
    places = torch.arange(first, min(first + count, len(view)), device=view.labels.device)
    match view:
        case ImagesInMemory():
            return view.batch(places)
        case ImagesInFiles(subset=subset, reading=reading):
            part = Subset(subset.members[places], subset.labels[places], subset.num_labels)
            return next(replace(view, subset=part, reading=replace(reading, workers=0)).in_order(len(places)))
    raise AssertionError("unreachable: streams are made of these two")


def as_shown_by(
    view: TaskImages, normalization: Normalization, pixels: UInt8[Tensor, "channels height width"]
) -> Float[Tensor, "1 channels height width"]:
    """Return an image from elsewhere as a task shows its own: its pixels moved as the task moves them, and normalised.

    Args:
        view: the task's images.
        normalization: of the data set.
        pixels: of the data set's shape.
    """
    sources = view.source_pixels if isinstance(view, ImagesInMemory) else None
    base = LabelledImages(pixels.unsqueeze(0), torch.zeros(1, dtype=torch.int64), num_labels=1)
    alone = ImagesInMemory(base, normalization, None if sources is None else sources.to(pixels.device))
    return alone.batch(torch.zeros(1, dtype=torch.int64)).images


def before_moving(view: TaskImages, first: int, count: int) -> Batch | None:
    """Return what `some_images` does, with all pixels where the base data has them; None where the task moves none."""
    if not isinstance(view, ImagesInMemory) or view.source_pixels is None:
        return None
    return some_images(replace(view, source_pixels=None), first, count)


def visible(
    images: Float[Tensor, "images channels height width"], normalization: Normalization
) -> UInt8[Tensor, "images height width channels"]:
    """Return normalised images as bytes to look at, channels last: the inverse of `Normalization.apply`."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (normalization.mean, normalization.std))
    pixels = ((images.cpu() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous()


def _refuse_too_few(net: FrozenNetwork, images: Tensor) -> None:
    if not net.task_buffers or len(images) != 1:
        return
    try:
        with torch.no_grad():
            net.on_batch_statistics(images, {})
    except ValueError:
        raise UsageError(
            "images: 1 is shown, and under a superposition batch norm takes its statistics over the images, of which it needs "
            "two here; show 2 or more in a guess"
        ) from None


def _refuse_g(net: FrozenNetwork, num_labels: int, images: Tensor) -> None:
    with torch.no_grad():
        outputs = net.on_batch_statistics(images, {}).shape[-1]  # of W alone: any weights have as many
    if outputs <= num_labels:
        raise UsageError(
            f"objective G: with {outputs} outputs and {num_labels} labels no neuron is superfluous, so it has no slope; choose H"
        )


def _confidence(guess: Guess) -> float:
    values = guess.slopes[-1].masked_fill(guess.beliefs[-1] == 0, torch.inf)
    answer = torch.tensor([guess.task], device=values.device)
    return float(answer_confidences(values.unsqueeze(0), answer))


def _beliefs(guess: Guess) -> pd.DataFrame:
    last = torch.zeros_like(guess.beliefs[0])
    last[guess.task] = 1.0
    beliefs = torch.stack([*guess.beliefs, last])
    return _by_round(len(beliefs), beliefs.shape[1]).assign(belief=beliefs.flatten().cpu().numpy())


def _slopes(guess: Guess) -> pd.DataFrame:
    slopes, beliefs = torch.stack(guess.slopes), torch.stack(guess.beliefs)
    frame = _by_round(len(slopes), slopes.shape[1])
    return frame.assign(slope=slopes.flatten().cpu().numpy(), left=(beliefs > 0).flatten().cpu().numpy())


def _by_round(rounds: int, tasks: int) -> pd.DataFrame:
    rounds_of, tasks_of = torch.arange(1, rounds + 1).repeat_interleave(tasks), torch.arange(tasks).repeat(rounds)
    return pd.DataFrame({"round": rounds_of.numpy(), "task": tasks_of.numpy()})
