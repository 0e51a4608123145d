"""A reservoir of fixed size for a growing set of masks: a Hopfield network over their bits (Section 3.5, Appendix B).

A unit mask m in {0, 1}^d is stored as z = 2m - 1 in {-1, 1}^d, layer by layer: Ψ (d × d) holds the patterns, μ (d) their
running mean. The energy to be minimised is E(z) = -½ zᵀΨz; the paper prints the sum without the minus, which would make the
stored patterns maxima.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from supsup_core.errors import InvalidArgument

Pattern: TypeAlias = Float[Tensor, " units"]
Couplings: TypeAlias = Float[Tensor, "units units"]
StorageRule: TypeAlias = Callable[[Couplings, Pattern], Couplings]
"""(Ψ, z) to the Ψ that also holds z."""


def energy(couplings: Couplings, z: Pattern) -> Float[Tensor, ""]:
    """Return E(z) = -½ zᵀΨz."""
    return -0.5 * (z @ couplings @ z)


def hebb(couplings: Couplings, z: Pattern) -> Couplings:
    """Return Ψ + zzᵀ/d, Hebb's rule (Section 3.5)."""
    return couplings + torch.outer(z, z) / len(z)


def storkey(couplings: Couplings, z: Pattern) -> Couplings:
    """Return Ψ + (zzᵀ - zhᵀ - hzᵀ - I)/d with h = Ψz, the paper's form of Storkey's rule (Eq. 6)."""
    h = couplings @ z
    identity = torch.eye(len(z), dtype=z.dtype, device=z.device)
    return couplings + (torch.outer(z, z) - torch.outer(z, h) - torch.outer(h, z) - identity) / len(z)


def strict_storkey(couplings: Couplings, z: Pattern) -> Couplings:
    """Return Ψ_ij + (z_i z_j - z_i h_ji - h_ij z_j)/d with h_ij = sum over l not in {i, j} of Ψ_il z_l, and Ψ_ii = 0.

    Storkey's rule of 1997: the local field leaves out both units of a coupling, and no unit is coupled to itself.
    """
    own = couplings.diagonal() * z
    fields = (couplings @ z - own).unsqueeze(1) - couplings * z  # h_ij, right for i != j
    change = torch.outer(z, z) - z.unsqueeze(1) * fields.T - fields * z
    return (couplings + change / len(z)).fill_diagonal_(0.0)


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
class Reservoir:
    """Ψ and μ of each masked layer; all that is left of the masks that were stored.

    Attributes:
        couplings: Ψ by layer name.
        mean: μ by layer name, the running mean of the stored patterns z.
        stored: how many patterns there are.
    """

    couplings: Mapping[str, Couplings]
    mean: Mapping[str, Pattern]
    stored: int

    @classmethod
    def empty(cls, units: Mapping[str, int], dtype: torch.dtype = torch.float32) -> "Reservoir":
        """Return a reservoir without patterns, for layers of the given widths.

        Raises:
            InvalidArgument: there is no layer, or one without units.
        """
        if not units or min(units.values()) < 1:
            raise InvalidArgument(f"units={dict(units)}: name at least one layer, each with at least one unit")
        couplings = {name: torch.zeros(width, width, dtype=dtype) for name, width in units.items()}
        return cls(couplings, {name: torch.zeros(width, dtype=dtype) for name, width in units.items()}, 0)

    def store(self, masks: Mapping[str, Bool[Tensor, " units"]], rule: StorageRule = storkey) -> "Reservoir":
        """Return a reservoir that holds one more pattern: Ψ by the rule, μ <- (k-1)/k μ + z/k (Eq. 6).

        Raises:
            InvalidArgument: the layers are not those of the reservoir, or a mask has another width.
        """
        widths = {name: len(mean) for name, mean in self.mean.items()}
        if {name: mask.numel() for name, mask in masks.items()} != widths:
            raise InvalidArgument(f"masks: the reservoir has the layers {widths}; pass one mask of that width for each")
        k = self.stored + 1
        patterns = {name: 2.0 * masks[name].to(mean) - 1.0 for name, mean in self.mean.items()}
        return Reservoir(
            {name: rule(self.couplings[name], z) for name, z in patterns.items()},
            {name: self.mean[name] * ((k - 1) / k) + z / k for name, z in patterns.items()},
            k,
        )

    def energy(self, z: Mapping[str, Pattern]) -> Float[Tensor, ""]:
        """Return the energy of a string for each layer, summed over layers."""
        return torch.stack([energy(self.couplings[name], part) for name, part in z.items()]).sum()


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
    """What one step of recovery saw, before it moved.

    Attributes:
        entropy: H of the outputs under the mask of z.
        energy: E of the binarised z, summed over layers.
        objective: J of Eq. 7.
    """

    entropy: float
    energy: float
    objective: float


class Recovery:
    """Finding a stored mask from the reservoir and unlabelled data (Appendix B.2).

    z starts at μ. Step t of T goes down J(z, t) = γ (t/T) E(z) + (1 - t/T) H(p), where z is binarised on the way forward and
    the gradient passes straight through (Eq. 7): the data leads at first, the reservoir has the last word.

    Args:
        reservoir: the stored patterns.
        steps: T, at least 1.
        settings: the constants of gradient descent.
    """

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

    def step(self, entropy_of: Callable[[Mapping[str, Pattern]], Float[Tensor, ""]]) -> RecoveryStep:
        """Take one step.

        Args:
            entropy_of: the mean entropy of the network's outputs on this step's data, as a function of the masks, which are
                floats 0 and 1 by layer name that gradients flow through.

        Raises:
            InvalidArgument: all T steps were taken.
        """
        if self._taken == self._steps:
            raise InvalidArgument(f"steps={self._steps}: all of them were taken; begin a new recovery with more")
        self._taken += 1
        progress = self._taken / self._steps
        with torch.enable_grad():
            strings = {name: binarize(part) for name, part in self._z.items()}
            uncertainty = entropy_of({name: (string + 1.0) / 2.0 for name, string in strings.items()})
            stored = self._reservoir.energy(strings)
            objective = self._settings.strength * progress * stored + (1.0 - progress) * uncertainty
            gradients = torch.autograd.grad(objective, list(self._z.values()))
        self._descend(gradients)
        return RecoveryStep(uncertainty.item(), stored.item(), objective.item())

    @torch.no_grad()
    def _descend(self, gradients: tuple[Tensor, ...]) -> None:
        """Move z by gradient descent with momentum and weight decay, as torch.optim.SGD does."""
        for (name, part), gradient in zip(self._z.items(), gradients, strict=True):
            velocity = self._velocity[name]
            velocity.mul_(self._settings.momentum).add_(gradient).add_(part, alpha=self._settings.weight_decay)
            part.sub_(velocity, alpha=self._settings.learning_rate)
