"""A reservoir of fixed size for a growing set of masks: a Hopfield network over their bits (Section 3.5, Appendix B).

A unit mask m in {0, 1}^d is stored as z = 2m - 1 in {-1, 1}^d, layer by layer: Ψ (d × d) holds the patterns, μ (d) their
running mean. The energy to be minimised is E(z) = -½ zᵀΨz; the paper prints the sum without the minus, which would make the
stored patterns maxima.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from supsup_core.errors import InvalidArgument

Pattern: TypeAlias = Float[Tensor, " units"]
Couplings: TypeAlias = Float[Tensor, "units units"]
StorageRule: TypeAlias = Callable[[Couplings, Pattern], Couplings]
"""(Ψ, z) to the Ψ that also holds z. A symmetric Ψ stays symmetric to the last bit."""

_MOST_SWEEPS = 1000  # a few are enough


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
    crossed = torch.outer(z, h)
    return couplings + (torch.outer(z, z) - (crossed + crossed.T) - identity) / len(z)


def strict_storkey(couplings: Couplings, z: Pattern) -> Couplings:
    """Return Ψ_ij + (z_i z_j - z_i h_ji - h_ij z_j)/d with h_ij = sum over l not in {i, j} of Ψ_il z_l, and Ψ_ii = 0.

    Storkey's rule of 1997: the local field leaves out both units of a coupling, and no unit is coupled to itself.
    """
    own = couplings.diagonal() * z
    fields = (couplings @ z - own).unsqueeze(1) - couplings * z  # h_ij, right for i != j
    crossed = fields * z
    return (couplings + (torch.outer(z, z) - (crossed + crossed.T)) / len(z)).fill_diagonal_(0.0)


def settle(couplings: Couplings, cues: Float[Tensor, "cues units"]) -> Float[Tensor, "cues units"]:
    """Return where cues come to rest: units turn one after the other, from the first to the last and again, while one wants to.

    A unit wants the sign of its field, the sum over the others of Ψ_uv z_v; where that is 0, but for rounding, it stays as it is.
    With a symmetric Ψ each turn lowers the energy, so that this ends where no single unit could lower it any more. Recall without
    data.

    Args:
        couplings: Ψ, symmetric.
        cues: strings in {-1, 1}, a row each.

    Raises:
        InvalidArgument: it does not end, as Ψ is not symmetric.
    """
    settled, own = cues.T.contiguous(), couplings.diagonal().tolist()
    # What rounding can make of a sum that is 0. A sign that rounding decides may send units round for ever.
    rounding = (len(couplings) * torch.finfo(couplings.dtype).eps * couplings.abs().sum(dim=1)).tolist()
    for _ in range(_MOST_SWEEPS):
        before = settled.clone()
        for unit, row in enumerate(couplings):
            fields = row @ settled - own[unit] * settled[unit]
            settled[unit] = torch.where(fields.abs() <= rounding[unit], settled[unit], fields.sign())
        if torch.equal(settled, before):
            return settled.T.contiguous()
    raise InvalidArgument(f"couplings: units still turn after {_MOST_SWEEPS} sweeps; make them symmetric")


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
    def empty(
        cls, units: Mapping[str, int], dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
    ) -> "Reservoir":
        """Return a reservoir without patterns, for layers of the given widths.

        Raises:
            InvalidArgument: there is no layer, or one without units.
        """
        if not units or min(units.values()) < 1:
            raise InvalidArgument(f"units={dict(units)}: name at least one layer, each with at least one unit")
        couplings = {name: torch.zeros(width, width, dtype=dtype, device=device) for name, width in units.items()}
        mean = {name: torch.zeros(width, dtype=dtype, device=device) for name, width in units.items()}
        return cls(couplings, mean, 0)

    def store(self, masks: Mapping[str, Bool[Tensor, " units"]], rule: StorageRule = storkey) -> "Reservoir":
        """Return a reservoir that holds one more pattern: Ψ by the rule, μ <- (k-1)/k μ + z/k (Eq. 6).

        Raises:
            InvalidArgument: the layers are not those of the reservoir, or a mask has another width or is no boolean one.
        """
        k, patterns = self.stored + 1, self._strings(masks)
        return Reservoir(
            {name: rule(self.couplings[name], z) for name, z in patterns.items()},
            {name: self.mean[name] * ((k - 1) / k) + z / k for name, z in patterns.items()},
            k,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return what must be stored: μ, and of each Ψ, which is symmetric, the rows up to the diagonal one after the other."""
        halves = {f"couplings.{name}": part[_lower(len(part), part.device)] for name, part in self.couplings.items()}
        return halves | {f"mean.{name}": part for name, part in self.mean.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], stored: int) -> "Reservoir":
        """Return the reservoir whose `tensors` these are.

        Raises:
            InvalidArgument: they are not those of a reservoir.
        """
        mean = {name.removeprefix("mean."): part for name, part in tensors.items() if name.startswith("mean.")}
        units = {name: part.numel() for name, part in mean.items()}
        expected = {f"mean.{name}": (count,) for name, count in units.items()}
        expected |= {f"couplings.{name}": (count * (count + 1) // 2,) for name, count in units.items()}
        found = {name: tuple(part.shape) for name, part in tensors.items()}
        if not mean or found != expected:
            raise InvalidArgument(f"tensors: of shapes {found}; a reservoir with these layers has {expected}")
        couplings = {name: _symmetric(tensors[f"couplings.{name}"], len(part)) for name, part in mean.items()}
        return cls(couplings, mean, stored)

    def settled(self, masks: Mapping[str, Bool[Tensor, " units"]]) -> dict[str, Bool[Tensor, " units"]]:
        """Return the masks where these come to rest: no unit of any layer would lower the energy by turning (see `settle`).

        Raises:
            InvalidArgument: as `store`.
        """
        cues = self._strings(masks)
        return {name: settle(self.couplings[name], cue.unsqueeze(0)).squeeze(0) > 0 for name, cue in cues.items()}

    def energy(self, z: Mapping[str, Pattern]) -> Float[Tensor, ""]:
        """Return the energy of a string for each layer, summed over layers."""
        return torch.stack([energy(self.couplings[name], part) for name, part in z.items()]).sum()

    def _strings(self, masks: Mapping[str, Bool[Tensor, " units"]]) -> dict[str, Pattern]:
        """Return z = 2m - 1 of each layer, its units in a row."""
        widths = {name: len(mean) for name, mean in self.mean.items()}
        if {name: mask.numel() for name, mask in masks.items()} != widths:
            raise InvalidArgument(f"masks: the reservoir has the layers {widths}; pass one mask of that width for each")
        for name, mask in masks.items():
            if mask.dtype != torch.bool:
                raise InvalidArgument(f"masks[{name!r}]: {mask.dtype}; pass torch.bool, such as z > 0")
        return {name: 2.0 * masks[name].flatten().to(mean) - 1.0 for name, mean in self.mean.items()}


def reservoir_values(units: Mapping[str, int]) -> int:
    """Return how many numbers the `tensors` of a reservoir hold, for layers of the given widths; one task or many."""
    return sum(width * (width + 1) // 2 + width for width in units.values())


def _lower(units: int, device: torch.device) -> tuple[Tensor, Tensor]:
    rows, columns = torch.tril_indices(units, units, device=device)
    return rows, columns


def _symmetric(half: Float[Tensor, " entries"], units: int) -> Couplings:
    rows, columns = _lower(units, half.device)
    whole = half.new_empty(units, units)
    whole[rows, columns] = half
    whole[columns, rows] = half
    return whole
