"""Hopfield Recovery: a stored mask found again from the reservoir and unlabelled data (Section 3.5, Appendix B.2)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from supsup_core.errors import InvalidArgument
from supsup_core.hopfield import Pattern, Reservoir
from supsup_core.inference_mode import outside_inference_mode


class _SignStraightThrough(torch.autograd.Function):
    """Forward the sign with +1 at 0, backward the identity."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return torch.where(z < 0, -1.0, 1.0).to(z.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Nothing is needed for the backward pass."""

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return gradient


def binarize(z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return the string in {-1, 1} nearest to z, +1 at 0, with the gradient passed straight through."""
    return _SignStraightThrough.apply(z)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class RecoverySettings:
    """Hopfield Recovery's constants; the defaults are those of Appendix B.2.

    Attributes:
        strength: γ of Eq. 7. With the ½ in the energy it is 1.5e-3; without it half of that would be right.
        learning_rate: of gradient descent on z.
        momentum: of gradient descent on z.
        weight_decay: of gradient descent on z.
    """

    strength: float = 1.5e-3
    learning_rate: float = 0.5e3
    momentum: float = 0.9
    weight_decay: float = 1e-4


@dataclass(frozen=True)
class RecoveryStep:
    """What one step of recovery saw, and where it led.

    Attributes:
        entropy: H of the outputs under the mask before the step.
        energy: E of the binarised z before the step, summed over layers.
        objective: J of Eq. 7, of these two.
        masks: after the step.
    """

    entropy: float
    energy: float
    objective: float
    masks: Mapping[str, Bool[Tensor, " units"]]


class Recovery:
    """Finding a stored mask from the reservoir and unlabelled data (Appendix B.2).

    z starts at μ. Step t of T goes down J(z, t) = γ (t/T) E(z) + (1 - t/T) H(p), where z is binarised on the way forward and
    the gradient passes straight through (Eq. 7): the data leads at first, the reservoir has the last word.

    Args:
        reservoir: the stored patterns.
        steps: T, at least 1.
        settings: the constants of gradient descent.

    Raises:
        InvalidArgument: there is no step, or no stored pattern.
    """

    @outside_inference_mode
    def __init__(self, reservoir: Reservoir, steps: int, settings: RecoverySettings | None = None) -> None:
        if steps < 1:
            raise InvalidArgument(f"steps={steps}: recovery takes at least one; pass the number of batches")
        if reservoir.stored == 0:
            raise InvalidArgument("reservoir: it holds no pattern to recover; store at least one")
        self._reservoir = reservoir
        self._steps = steps
        self._settings = settings or RecoverySettings()
        self._taken = 0
        self._z = {name: mean.clone().requires_grad_() for name, mean in reservoir.mean.items()}
        self._velocity = {name: torch.zeros_like(mean) for name, mean in reservoir.mean.items()}

    @property
    def masks(self) -> dict[str, Bool[Tensor, " units"]]:
        """The masks of the present z: m = (z + 1)/2 of the binarised string."""
        return {name: part.detach() >= 0 for name, part in self._z.items()}

    @outside_inference_mode
    def step(self, entropy_of: Callable[[Mapping[str, Pattern]], Float[Tensor, ""]]) -> RecoveryStep:
        """Take one step.

        Args:
            entropy_of: the mean entropy of the network's outputs on this step's data, as a function of the masks, which are
                floats 0 and 1 by layer name that gradients flow through.

        Raises:
            InvalidArgument: all T steps were taken; or the entropy, or its gradient, is not finite: z stays as it is.
        """
        if self._taken == self._steps:
            raise InvalidArgument(f"steps={self._steps}: all of them were taken; begin a new recovery with more")
        progress = (self._taken + 1) / self._steps
        with torch.enable_grad():
            strings = {name: binarize(part) for name, part in self._z.items()}
            uncertainty = entropy_of({name: (string + 1.0) / 2.0 for name, string in strings.items()})
            stored = self._reservoir.energy(strings)
            objective = self._settings.strength * progress * stored + (1.0 - progress) * uncertainty
            gradients = torch.autograd.grad(objective, list(self._z.values()))
        if not all(bool(torch.isfinite(part).all()) for part in (objective, *gradients)):
            raise InvalidArgument(
                f"entropy_of: {uncertainty.item()}, or its gradient, is no finite number; check the data for NaN or infinity"
            )
        self._taken += 1
        self._descend(gradients)
        return RecoveryStep(uncertainty.item(), stored.item(), objective.item(), self.masks)

    @torch.no_grad()
    def _descend(self, gradients: tuple[Tensor, ...]) -> None:
        """Move z by gradient descent with momentum and weight decay, as torch.optim.SGD does."""
        for (name, part), gradient in zip(self._z.items(), gradients, strict=True):
            velocity = self._velocity[name]
            velocity.mul_(self._settings.momentum).add_(gradient).add_(part, alpha=self._settings.weight_decay)
            part.sub_(velocity, alpha=self._settings.learning_rate)
