"""Which images of a data set belong to a task, and what their labels are called there."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor


class LabelSpace(Enum):
    """How a task of some classes names them."""

    LOCAL = "local"
    """0 to n - 1 in the order of the task's classes: every task uses the same outputs of a network."""
    GLOBAL = "global"
    """As in the whole data set: the label alone tells the class, and the network has an output for each."""


@dataclass(frozen=True, eq=False)
class Subset:
    """Images of some classes.

    Attributes:
        members: int64, where the images stand in the base data, in its order.
        labels: int64, the task's label of each of them.
        num_labels: how many labels the task has.
    """

    members: Tensor
    labels: Tensor
    num_labels: int

    @staticmethod
    def of_classes(labels: Tensor, num_classes: int, classes: Sequence[int], space: LabelSpace) -> "Subset":
        """Return the images whose label is among `classes`.

        Args:
            labels: int64, the label of every image of the base data.
            num_classes: how many labels the base data has.
            classes: the task's classes, in the order in which local labels count them.
            space: how they are named.
        """
        chosen = torch.tensor(classes, device=labels.device)
        match space:
            case LabelSpace.LOCAL:
                names, num_labels = torch.arange(len(classes), device=labels.device), len(classes)
            case LabelSpace.GLOBAL:
                names, num_labels = chosen, num_classes
        renamed = torch.full((num_classes,), -1, device=labels.device).index_copy(0, chosen, names)[labels]
        members = torch.nonzero(renamed >= 0).flatten()
        return Subset(members, renamed[members], num_labels)
