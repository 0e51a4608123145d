"""Gradient descent on the beliefs themselves: min over the simplex of O(f(x, W(α))) (Eq. 3).

One-Shot takes the first gradient's word; here the beliefs follow it and ask again. The simplex is kept by α = softmax(θ), and
θ itself moves along the slopes,

    θ ← θ - η dO/dα,   that is   α_i ← α_i exp(-η dO/dα_i) / sum_j α_j exp(-η dO/dα_j),

which is steepest descent on the simplex in the geometry of relative entropy (mirror descent, or exponentiated gradient). Two
other ways were weighed. Descent on θ by the chain rule has the gradient dO/dθ_i = α_i (dO/dα_i - sum_j α_j dO/dα_j): at α = 1/k
it is k times smaller, so that a learning rate for ten tasks is none for a thousand, and a belief near 0 hardly rises again.
Projection onto the simplex sets beliefs to 0 at the first large step. Here η is the change of a log-odds for each unit of slope,
whatever k is, no belief is lost for good, and one step answers what One-Shot answers.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from supsup_core.context_stores import ContextStore
from supsup_core.errors import InvalidArgument
from supsup_core.frozen_network import FrozenNetwork
from supsup_core.guesses import Guess, Guesses
from supsup_core.image_groups import image_groups, refuse_unanswerable
from supsup_core.shapes import Objective
from supsup_core.task_inference import belief_slopes, group_slopes


def belief_descent(
    objective: Objective,
    net: FrozenNetwork,
    store: ContextStore,
    x: Shaped[Tensor, "images *input"],
    *,
    steps: int,
    learning_rate: float,
) -> Guess:
    """Return argmax_i α_i after descent from α = 1/k on the mean objective of the images (Eq. 3); of equals, the lowest task.

    Each step takes one forward and one backward pass, and one pass over the stored contexts.

    Args:
        objective: differentiable; what the beliefs descend on. G's gradient leaves the real outputs out, so they follow it
            without descending on its value.
        net: the network.
        store: the contexts of k tasks.
        x: images that share one task.
        steps: how often the beliefs move.
        learning_rate: η, the change of a log-odds for each unit of slope.

    Returns:
        the guess, with α before each step and after the last, and the slopes of each step.

    Raises:
        InvalidArgument: the store is empty, there is no image, the slopes are not finite, there is no step, or the learning
            rate is not above 0 and finite.
    """
    refuse_unanswerable(store, x)

    def slopes_at(beliefs: Float[Tensor, "1 tasks"]) -> Float[Tensor, "1 tasks"]:
        return belief_slopes(objective, net, store, x, beliefs[0]).unsqueeze(0)

    start = torch.zeros(1, len(store), dtype=net.dtype, device=net.device)
    guesses = _descend(slopes_at, start, steps, learning_rate)
    beliefs, slopes = (tuple(rows[0] for rows in rounds) for rounds in (guesses.beliefs, guesses.slopes))
    return Guess(int(guesses.tasks), beliefs, slopes)


def belief_descent_each(
    objective: Objective,
    net: FrozenNetwork,
    store: ContextStore,
    x: Shaped[Tensor, "images *input"],
    images_per_guess: int = 1,
    *,
    steps: int,
    learning_rate: float,
) -> Guesses:
    """Return what `belief_descent` says of each image alone, or of each `images_per_guess` images in a row that share a task.

    Raises:
        InvalidArgument: as `belief_descent`, or the images are not whole groups.
    """
    groups = image_groups(x, images_per_guess)
    refuse_unanswerable(store, groups)

    def slopes_at(beliefs: Float[Tensor, "groups tasks"]) -> Float[Tensor, "groups tasks"]:
        return group_slopes(objective, net, store, groups, beliefs)

    start = torch.zeros(len(groups), len(store), dtype=net.dtype, device=net.device)
    return _descend(slopes_at, start, steps, learning_rate)


def _descend(
    slopes_at: Callable[[Tensor], Tensor], theta: Float[Tensor, "rows tasks"], steps: int, learning_rate: float
) -> Guesses:
    if steps < 1:
        raise InvalidArgument(f"steps={steps}: without a step all beliefs stay equal; take at least 1")
    if not 0.0 < learning_rate < torch.inf:
        raise InvalidArgument(f"learning_rate={learning_rate}: it scales the slopes; pass a finite number above 0")
    all_beliefs, all_slopes = [torch.softmax(theta, dim=1)], []
    for _ in range(steps):
        slopes = slopes_at(all_beliefs[-1])
        if not bool(torch.isfinite(slopes).all()):
            raise InvalidArgument(
                "x: the slopes are not finite, so no task stands out; check the input for NaN or infinity"
            )
        # A constant cancels in the softmax: measured from the lowest slope, no θ ever grows.
        theta = theta - learning_rate * (slopes - slopes.amin(dim=1, keepdim=True))
        all_slopes.append(slopes)
        all_beliefs.append(torch.softmax(theta, dim=1))
    return Guesses(theta.argmax(dim=1), tuple(all_beliefs), tuple(all_slopes), descended=-theta)
