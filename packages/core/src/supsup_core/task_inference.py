"""Which task does this input belong to? The slope of an objective along each task's context tells (Section 3.3, App. A, F).

One search serves all: put equal beliefs on the tasks that are left, take one gradient, keep those along which the objective
falls most steeply, and go on until one is left. The algorithms differ in how many they keep:

| name | keeps of n | rounds for k tasks |
|---|---|---|
| `one_shot` (Algorithm 1) | 1 | 1 |
| `binary` (Algorithm 2) | half | about log2 k |
| `gamma` (Appendix F) | a share γ | about log k / log(1/γ) |

The images shown may share one task (`one_shot`, ...) or be many cases at once, each of one or some images
(`one_shot_each`, ...).

Nothing in this module ever sees a label or a task's identity: its inputs are images, frozen weights and contexts.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from supsup_core.context_stores import ContextStore, OuterProductStore
from supsup_core.errors import InvalidArgument
from supsup_core.frozen_network import FrozenNetwork
from supsup_core.guesses import Guess, Guesses
from supsup_core.image_groups import image_groups, refuse_unanswerable
from supsup_core.inference_mode import as_plain, outside_inference_mode
from supsup_core.linear_chain import LinearChain
from supsup_core.over_groups import over_groups
from supsup_core.shapes import Objective, Weights

# Gradients of this many weights may be in memory at once when every guess has one of its own.
_GRADIENT_FLOATS = 2**25
# Numbers of images whose gradients are formed at once; what layers keep of them may be a hundred times as much.
_PIXELS = 2**21
# Inputs and outputs of layers that may be in memory at once when gradients are not formed.
_ACTIVATION_FLOATS = 2**22


def one_shot(
    objective: Objective, net: FrozenNetwork, store: ContextStore, x: Shaped[Tensor, "images *input"]
) -> Guess:
    """Return argmax_i -dO/dα_i at the uniform beliefs α = 1/k (Algorithm 1); of equals, the lowest task.

    O is the mean objective of the images, which share one task.

    Raises:
        InvalidArgument: the store is empty, there is no image, or the slopes are not finite.
    """
    return _shared(_batch_search(objective, net, store, x, lambda tasks: 1))


def binary(objective: Objective, net: FrozenNetwork, store: ContextStore, x: Shaped[Tensor, "images *input"]) -> Guess:
    """Return the task that is left after halving the candidates round by round (Algorithm 2): `gamma` with 1/2.

    Raises:
        InvalidArgument: as `one_shot`.
    """
    return gamma(objective, net, store, x, 0.5)


def gamma(
    objective: Objective, net: FrozenNetwork, store: ContextStore, x: Shaped[Tensor, "images *input"], share: float
) -> Guess:
    """Return the task that is left after keeping a share γ of the candidates round by round (Appendix F).

    Of n candidates max(1, min(n - 1, floor(γ n))) stay, so that the search always ends, with one task, ties included;
    γ = 1/2 is Binary and γ = 1/k is One-Shot. The printed Algorithm 2 compares with the median over all k, eliminated
    tasks included, and may never end.

    Raises:
        InvalidArgument: the share is not between 0 and 1, or as `one_shot`.
    """
    return _shared(_batch_search(objective, net, store, x, _survivors(share)))


def one_shot_each(
    objective: Objective,
    net: FrozenNetwork,
    store: ContextStore,
    x: Shaped[Tensor, "images *input"],
    images_per_guess: int = 1,
) -> Guesses:
    """Return what `one_shot` says of each image alone, or of each `images_per_guess` images in a row that share a task.

    Raises:
        InvalidArgument: as `one_shot`, or the images are not whole groups.
    """
    return _group_search(objective, net, store, image_groups(x, images_per_guess), lambda tasks: 1)


def binary_each(
    objective: Objective,
    net: FrozenNetwork,
    store: ContextStore,
    x: Shaped[Tensor, "images *input"],
    images_per_guess: int = 1,
) -> Guesses:
    """Return what `binary` says of each image alone, or of each `images_per_guess` images in a row that share a task.

    Raises:
        InvalidArgument: as `one_shot_each`.
    """
    return gamma_each(objective, net, store, x, 0.5, images_per_guess)


def gamma_each(
    objective: Objective,
    net: FrozenNetwork,
    store: ContextStore,
    x: Shaped[Tensor, "images *input"],
    share: float,
    images_per_guess: int = 1,
) -> Guesses:
    """Return what `gamma` says of each image alone, or of each `images_per_guess` images in a row that share a task.

    Raises:
        InvalidArgument: as `gamma`, or the images are not whole groups.
    """
    return _group_search(objective, net, store, image_groups(x, images_per_guess), _survivors(share))


@outside_inference_mode
def belief_slopes(
    objective: Objective,
    net: FrozenNetwork,
    store: ContextStore,
    x: Shaped[Tensor, "images *input"],
    beliefs: Float[Tensor, " tasks"],
) -> Float[Tensor, " tasks"]:
    """Return dO/dα, where O is the mean objective of f(x, W(α)) over the images.

    Batch normalisation uses the statistics of these images: a superposition has none of its own.

    One forward and one backward pass whatever the number of tasks, then one pass over the stored contexts.

    Raises:
        InvalidArgument: there is not one belief for each task; there is no task or no image; or the images are too few for their
            statistics.
    """
    refuse_unanswerable(store, x)
    x, beliefs = as_plain(x.detach()), as_plain(beliefs.detach())
    if len(x) == 1 and isinstance(store, OuterProductStore) and (chain := LinearChain.of(net)) is not None:
        slopes = _chain_slopes(objective, chain, store, x.unsqueeze(0), beliefs)
        if slopes is not None:
            return slopes[0]
    blended = {name: value.detach().requires_grad_() for name, value in store.blend(beliefs).items()}
    with torch.enable_grad():
        value = objective(net.on_batch_statistics(x, blended)).mean()
        # A weight that the images do not reach, of an auxiliary head for example, has the gradient 0.
        gradients = torch.autograd.grad(value, list(blended.values()), allow_unused=True, materialize_grads=True)
    return store.slopes(dict(zip(blended, gradients, strict=True)))


@outside_inference_mode
def group_slopes(
    objective: Objective,
    net: FrozenNetwork,
    store: ContextStore,
    groups: Shaped[Tensor, "groups shown *input"],
    beliefs: Float[Tensor, "groups tasks"],
) -> Float[Tensor, "groups tasks"]:
    """Return `belief_slopes` of each group of images, at beliefs of its own, some groups at a time.

    Raises:
        InvalidArgument: there is not one belief for each group and task; there is no task or no image; or a group has too few
            images for their statistics.
    """
    refuse_unanswerable(store, groups)
    if beliefs.shape != (len(groups), len(store)):
        raise InvalidArgument(
            f"beliefs: shape {tuple(beliefs.shape)} for {len(groups)} groups and {len(store)} tasks; pass one for each"
        )
    groups, beliefs = as_plain(groups.detach()), as_plain(beliefs.detach())
    same_beliefs = bool((beliefs == beliefs[0]).all())
    if same_beliefs and isinstance(store, OuterProductStore) and (chain := LinearChain.of(net)) is not None:
        slopes = _chain_slopes(objective, chain, store, groups, beliefs[0])
        if slopes is not None:
            return slopes

    def value(weights: Weights, images: Tensor) -> Tensor:
        return objective(net.on_batch_statistics(images, weights)).mean()

    gradient = torch.func.grad(value)
    shared = store.blend(beliefs[0]) if same_beliefs else None
    slopes = torch.empty_like(beliefs)
    at_once = max(1, min(_GRADIENT_FLOATS // net.num_bits, _PIXELS // max(1, groups[0].numel())))
    for rows in torch.arange(len(groups), device=groups.device).split(at_once):
        weights = shared or store.blend(beliefs[rows])
        gradients = over_groups(gradient, weights, groups[rows], shared=1 if same_beliefs else 0)
        slopes[rows] = store.slopes(gradients)
    return slopes


def _chain_slopes(
    objective: Objective,
    chain: LinearChain,
    store: OuterProductStore,
    groups: Shaped[Tensor, "groups shown *input"],
    beliefs: Float[Tensor, " tasks"],
) -> Float[Tensor, "groups tasks"] | None:
    """Return the slopes of each group: of one image without forming its gradient, of several from the gradient of their mean."""
    weights, parts = store.blend(beliefs), []
    if groups.shape[1] == 1:
        for images in groups.squeeze(1).split(max(1, _ACTIVATION_FLOATS // chain.floats_an_image)):
            gradients = chain.outer_products(objective, weights, images)
            if gradients is None:
                return None
            parts.append(store.outer_slopes(gradients))
        return torch.cat(parts)
    for some in groups.split(max(1, _GRADIENT_FLOATS // sum(value.numel() for value in weights.values()))):
        mean = _mean_gradients(objective, chain, weights, some)
        if mean is None:
            return None
        parts.append(store.slopes(mean))
    return torch.cat(parts)


def _mean_gradients(
    objective: Objective, chain: LinearChain, weights: Weights, groups: Shaped[Tensor, "groups shown *input"]
) -> dict[str, Tensor] | None:
    """Return the mean of g aᵀ of each group: one matrix a layer, so that k tasks cost k products whatever the images."""
    mean: dict[str, Tensor] = {}
    for images in groups.split(max(1, _ACTIVATION_FLOATS // (chain.floats_an_image * len(groups))), dim=1):
        gradients = chain.outer_products(objective, weights, images.flatten(0, 1))
        if gradients is None:
            return None
        for name, (inputs, outputs) in gradients.items():
            a, g = (each.unflatten(0, images.shape[:2]) for each in (inputs, outputs / groups.shape[1]))
            mean[name] = mean[name].baddbmm_(g.mT, a) if name in mean else torch.bmm(g.mT, a)
    return mean


_Keep: TypeAlias = Callable[[int], int]
"""Number of candidates to number of survivors, at least 1 and, but for a single candidate, fewer."""


def _survivors(share: float) -> _Keep:
    if not 0.0 < share < 1.0:
        raise InvalidArgument(f"share={share}: a share γ of the tasks lies between 0 and 1, such as 0.5 for Binary")
    return lambda tasks: max(1, min(tasks - 1, int(share * tasks)))


def _shared(guesses: Guesses) -> Guess:
    """Return the single row of a search as a guess."""
    beliefs, slopes = (tuple(rows[0] for rows in rounds) for rounds in (guesses.beliefs, guesses.slopes))
    return Guess(int(guesses.tasks), beliefs, slopes)


def _batch_search(
    objective: Objective, net: FrozenNetwork, store: ContextStore, x: Shaped[Tensor, "images *input"], keep: _Keep
) -> Guesses:
    refuse_unanswerable(store, x)

    def slopes_at(beliefs: Float[Tensor, "1 tasks"]) -> Float[Tensor, "1 tasks"]:
        return belief_slopes(objective, net, store, x, beliefs[0]).unsqueeze(0)

    return _search(slopes_at, torch.ones(1, len(store), dtype=net.dtype, device=net.device), keep)


def _group_search(
    objective: Objective,
    net: FrozenNetwork,
    store: ContextStore,
    groups: Shaped[Tensor, "groups shown *input"],
    keep: _Keep,
) -> Guesses:
    refuse_unanswerable(store, groups)

    def slopes_at(beliefs: Float[Tensor, "groups tasks"]) -> Float[Tensor, "groups tasks"]:
        return group_slopes(objective, net, store, groups, beliefs)

    return _search(slopes_at, torch.ones(len(groups), len(store), dtype=net.dtype, device=net.device), keep)


def _search(slopes_at: Callable[[Tensor], Tensor], alive: Float[Tensor, "rows tasks"], keep: _Keep) -> Guesses:
    """Keep the candidates of steepest descent, row by row and round by round, until each row has one."""
    candidates = alive.shape[1]
    all_beliefs, all_slopes = [], []
    while True:
        beliefs = alive / candidates
        slopes = slopes_at(beliefs)
        if not bool(torch.isfinite(slopes).all()):
            raise InvalidArgument(
                "x: the slopes are not finite, so no task stands out; check the input for NaN or infinity"
            )
        all_beliefs.append(beliefs)
        all_slopes.append(slopes)
        candidates = keep(candidates)
        ranked = (
            slopes.masked_fill(alive == 0, torch.inf).sort(dim=1, stable=True).indices
        )  # of equals, the lowest first
        alive = torch.zeros_like(alive).scatter_(1, ranked[:, :candidates], 1.0)
        if candidates == 1:
            return Guesses(ranked[:, 0], tuple(all_beliefs), tuple(all_slopes))
