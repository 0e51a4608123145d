"""Is this one of the tasks that are known, or none of them? One-Shot with a null hypothesis (Sections 3.4 and 4.3, scenario NNs).

The paper takes data for a new task's where ν = softmax(-dO/dα) is nearly uniform over the k masks: k max ν < 1 + ε. With a single
mask that is never so. Here a fresh mask, one that nothing was trained for, is always blended in with the known ones. It is the
null hypothesis: data that no known mask suits better than chance does not favour any of the k + 1, and data of a known task
favours that one over the fresh mask, from the first mask on. So, with ν over k + 1 masks, data is new where

    (k + 1) max ν < 1 + ε,  or the largest ν is that of the fresh mask.

Nothing here sees a label or a task's identity.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from supsup_core.context_stores import OuterProductStore
from supsup_core.errors import InvalidArgument
from supsup_core.frozen_network import FrozenNetwork
from supsup_core.inference_mode import outside_inference_mode
from supsup_core.shapes import Masks, Objective, OuterProducts, Weights
from supsup_core.task_inference import one_shot_each
from supsup_core.task_rows import flatten_masks


@dataclass(frozen=True)
class Recognitions:
    """What was recognised in images, or groups of them.

    Attributes:
        nearest: the known task of steepest descent for each.
        ratios: (k + 1) max ν over all masks: 1 where none stands out.
        fresh_leads: whether the fresh mask has the largest ν: as 0 and 1.
    """

    nearest: Int64[Tensor, " guesses"]
    ratios: Float[Tensor, " guesses"]
    fresh_leads: Int64[Tensor, " guesses"]

    def tasks(self, epsilon: float) -> list[int | None]:
        """Return the known task of each, or None where it is none of them.

        Raises:
            InvalidArgument: ε is negative or not finite.
        """
        if not 0.0 <= epsilon < float("inf"):
            raise InvalidArgument(
                f"epsilon={epsilon}: it is added to 1, the ratio of uniform ν; pass 0 or more, such as 1/8"
            )
        new = (self.ratios < 1.0 + epsilon) | self.fresh_leads.bool()
        return [None if unknown else task for task, unknown in zip(self.nearest.tolist(), new.tolist(), strict=True)]


@outside_inference_mode
def recognise_each(
    objective: Objective,
    net: FrozenNetwork,
    known: OuterProductStore,
    fresh: Masks,
    x: Shaped[Tensor, "images *input"],
    images_per_guess: int = 1,
) -> Recognitions:
    """Return what One-Shot over the known masks and a fresh one says of each `images_per_guess` images in a row.

    Args:
        objective: H, or G.
        net: the network.
        known: the masks of known tasks, at least one.
        fresh: a mask that nothing was trained for, such as the next task would start from.
        x: images; groups share a task.
        images_per_guess: size of a group.

    Raises:
        InvalidArgument: no task is known, the fresh mask is not one of the network, or as `one_shot_each`.
    """
    if len(known) == 0:
        raise InvalidArgument("known: it holds no mask, so that everything is new; learn a task first")
    guesses = one_shot_each(objective, net, WithFreshMask(net, known, fresh), x, images_per_guess)
    slopes = guesses.slopes[0]
    confidence = torch.softmax(-slopes, dim=1).amax(dim=1)
    fresh_leads = (guesses.tasks == len(known)).long()
    return Recognitions(slopes[:, :-1].argmin(dim=1), confidence * slopes.shape[1], fresh_leads)


class WithFreshMask:
    """A store and one mask more, behind all others; the store itself stays as it is.

    Args:
        net: the network.
        known: the store.
        fresh: the mask.

    Raises:
        InvalidArgument: it is not a mask of the network.
    """

    def __init__(self, net: FrozenNetwork, known: OuterProductStore, fresh: Masks) -> None:
        self._known = known
        frozen = net.frozen
        bits = net.unflatten(flatten_masks(net, fresh).to(net.device))
        self._fresh = {name: weight * bits[name] for name, weight in frozen.items()}

    def __len__(self) -> int:
        """Return the number of tasks, the fresh mask among them."""
        return len(self._known) + 1

    def weights(self, task: int) -> Weights:
        """Return W ⊙ M of a task."""
        return self._fresh if task == len(self._known) else self._known.weights(task)

    def blend(self, beliefs: Float[Tensor, "*rows tasks"]) -> Weights:
        """Return W(α)."""
        blended = self._known.blend(beliefs[..., :-1])
        own = beliefs[..., -1]
        return {
            name: blended[name] + own.reshape(*own.shape, *([1] * weight.ndim)) * weight
            for name, weight in self._fresh.items()
        }

    def slopes(self, gradients: Mapping[str, Tensor]) -> Float[Tensor, "*rows tasks"]:
        """Return dO/dα."""
        own = torch.stack(
            [(gradients[name] * weight).flatten(-weight.ndim).sum(dim=-1) for name, weight in self._fresh.items()]
        ).sum(dim=0)
        return torch.cat((self._known.slopes(gradients), own.unsqueeze(-1)), dim=-1)

    def outer_slopes(self, gradients: Mapping[str, OuterProducts]) -> Float[Tensor, "images tasks"]:
        """Return dO/dα of gradients g aᵀ, one for each image."""
        own = torch.stack(
            [((gradients[name][0] @ weight.mT) * gradients[name][1]).sum(dim=1) for name, weight in self._fresh.items()]
        ).sum(dim=0)
        return torch.cat((self._known.outer_slopes(gradients), own.unsqueeze(-1)), dim=-1)
