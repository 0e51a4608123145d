"""What task inference asks about learned tasks, and nothing else: any store that answers can be searched."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from supsup_core.shapes import OuterProducts, RankOneFactors, Weights


@runtime_checkable
class ContextStore(Protocol):
    """The three questions that task inference asks about k learned tasks.

    With W_i the effective parameters of task i, and beliefs α on the simplex:
    """

    def __len__(self) -> int:
        """Return k."""

    def weights(self, task: int) -> Weights:
        """Return W_i."""

    def blend(self, beliefs: Float[Tensor, "*rows tasks"]) -> Weights:
        """Return W(α) = sum_i α_i W_i; leading axes of the beliefs, one α a row, stay in front."""

    def slopes(self, gradients: Mapping[str, Tensor]) -> Float[Tensor, "*rows tasks"]:
        """Return dO/dα_i = <dO/dW(α), W_i>, one for each task; leading axes of the gradients stay in front."""


@runtime_checkable
class OuterProductStore(ContextStore, Protocol):
    """A store that answers for gradients that are outer products without forming them, layer by layer."""

    def outer_slopes(self, gradients: Mapping[str, OuterProducts]) -> Float[Tensor, "images tasks"]:
        """Return what `slopes` returns of g aᵀ, for every image."""


@runtime_checkable
class RankOneStore(ContextStore, Protocol):
    """A store whose contexts are vectors on both sides of frozen weights, W_i = W ⊙ (s_i r_iᵀ) (Appendix C, Eq. 10)."""

    def factors_between(self, first: int, last: int) -> dict[str, RankOneFactors]:
        """Return (r, s) of tasks `first` to `last` - 1 for each maskable parameter, one row a task."""
