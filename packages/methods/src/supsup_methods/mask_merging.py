"""Masks that serve the same task, found from unlabelled images and merged: the one that was trained longest stays.

Mask i is not needed where the images that it is the answer for are recognised without it: One-Shot over the other masks and a
fresh one then names a mask j, by the rule that would not have allocated i (`supsup_core.novelty`). A mask of a task of its own is
missed when it is gone: its images are new to all others.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from supsup_core import FrozenNetwork, MaskBank, Recognitions, entropy, recognise_each
from torch import Tensor

from supsup_methods.mask_training import fresh_mask


@dataclass(frozen=True)
class Merged:
    """A bank with fewer masks.

    Attributes:
        bank: of the masks that stay, in their order.
        kept: which they were.
        dropped: each of the others, and the mask that serves in its place, both by their former indices.
    """

    bank: MaskBank
    kept: tuple[int, ...]
    dropped: Mapping[int, int]


def merge_masks(
    net: FrozenNetwork,
    bank: MaskBank,
    seed: int,
    batches: Iterable[Float[Tensor, "images *input"]],
    trained: Mapping[int, int],
    epsilon: float,
) -> Merged:
    """Return the bank without the masks that others can stand in for.

    Of two that can stand in for each other, the one that was trained longer stays; it is looked at again, as there may be a
    third. One that knows another's images and more is never given up for it. A mask that no batch asks for, and that stands in
    for none, is kept: nothing is known of it.

    Args:
        net: the network.
        bank: the masks; it stays as it is.
        seed: decides the fresh mask.
        batches: unlabelled images, each batch of one task; a few of each are enough. All are held in memory.
        trained: how long each mask was trained, in whatever unit.
        epsilon: ε of the rule.
    """
    answered: defaultdict[int, list[Tensor]] = defaultdict(list)
    everyone = _Recogniser(net, bank, seed, range(len(bank)))
    for images in batches:
        answered[everyone.nearest(images)].append(images)
    kept, dropped = list(range(len(bank))), dict[int, int]()
    waiting = sorted(answered)
    while waiting:
        mask = waiting.pop(0)
        stand_in = _stand_in(net, bank, seed, kept, mask, answered[mask], epsilon)
        if stand_in is None:
            continue
        stays, goes = stand_in, mask
        if trained.get(mask, 0) >= trained.get(stand_in, 0) and (
            not answered[stand_in] or _stand_in(net, bank, seed, kept, stand_in, answered[stand_in], epsilon) == mask
        ):
            stays, goes = mask, stand_in
        dropped[goes] = stays
        kept.remove(goes)
        answered[stays] += answered.pop(goes)
        waiting = [each for each in waiting if each not in (goes, stays)] + [stays]
    return Merged(_part(net, bank, kept), tuple(kept), _to_the_end(dropped))


class _Recogniser:
    """One-Shot over some of the masks and a fresh one."""

    def __init__(self, net: FrozenNetwork, bank: MaskBank, seed: int, masks: Sequence[int]) -> None:
        self._net = net
        self._masks = masks
        self._bank = bank if len(masks) == len(bank) else _part(net, bank, masks)
        self._fresh = fresh_mask(net, seed, len(bank))

    def nearest(self, images: Tensor) -> int:
        """Return the mask that suits images best, which belong together."""
        return self._masks[int(self._look(images).nearest)]

    def mask(self, images: Tensor, epsilon: float) -> int | None:
        """Return the mask that images are recognised by; None if by none."""
        (place,) = self._look(images).tasks(epsilon)
        return None if place is None else self._masks[place]

    def _look(self, images: Tensor) -> Recognitions:
        return recognise_each(entropy, self._net, self._bank, self._fresh, images, len(images))


def _stand_in(
    net: FrozenNetwork,
    bank: MaskBank,
    seed: int,
    kept: Sequence[int],
    mask: int,
    batches: Sequence[Tensor],
    epsilon: float,
) -> int | None:
    """Return the mask by which most of these batches are recognised, if most are by any other mask; else None."""
    others = [other for other in kept if other != mask]
    if not others or not batches:
        return None
    rest = _Recogniser(net, bank, seed, others)
    found = [mask for mask in (rest.mask(images, epsilon) for images in batches) if mask is not None]
    return Counter(found).most_common(1)[0][0] if 2 * len(found) > len(batches) else None


def _part(net: FrozenNetwork, bank: MaskBank, masks: Sequence[int]) -> MaskBank:
    part = MaskBank(net, bank.buffers.dtype)
    part.append_rows(bank.rows[list(masks)], bank.buffers[list(masks)])
    return part


def _to_the_end(dropped: Mapping[int, int]) -> dict[int, int]:
    """Return for each dropped mask the one that stays in the end, where its stand-in was dropped later."""
    ends = {}
    for mask in dropped:
        end = dropped[mask]
        while end in dropped:
            end = dropped[end]
        ends[mask] = end
    return ends
