import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_datasets import CropFlip, DatasetError, ImagesInMemory
from supsup_datasets.rotated import rotation_sources
from torchvision.transforms.functional import crop, hflip, pad, rotate

from .streams import small_dataset


def by_torchvision(image, draws, padding):
    top, left, flipped = draws.tolist()
    cut = crop(pad(image, [padding] * 4), top, left, *image.shape[-2:])
    return hflip(cut) if flipped else cut


@given(st.integers(0, 6), st.booleans(), st.integers(0, 10**6), st.sampled_from([None, 30.0]))
def test_crops_and_flips_are_torchvisions_and_come_before_the_tasks_own_move(padding, flip, seed, degrees):
    data, augmentation = small_dataset(3), CropFlip(padding, flip)
    sources = None if degrees is None else rotation_sources(4, 5, degrees)
    view = ImagesInMemory(data.train, data.normalization, sources, augmentation=augmentation)
    draws = augmentation.draw(9, torch.Generator().manual_seed(seed))
    indices = torch.arange(9) * 2
    batch = view.batch(indices, draws)
    for image, drawn, index in zip(batch.images, draws, indices, strict=True):
        expected = by_torchvision(data.train.images[index], drawn, padding)
        if degrees is not None:
            expected = rotate(expected, degrees)
        assert torch.equal(image, data.normalization.apply(expected))


def test_draws_are_made_for_a_batch_at_once_and_in_the_stated_order():
    draws = CropFlip(4).draw(7, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    tops, lefts = (torch.randint(0, 9, (7,), generator=generator) for _ in range(2))
    assert torch.equal(draws, torch.stack((tops, lefts, torch.randint(0, 2, (7,), generator=generator)), dim=1))


def test_every_place_of_the_crop_is_as_likely():
    # 9000 draws over 9 places and over 2 flips: standard deviations of 29.8 and 47.4; five of them allowed.
    draws = CropFlip(4).draw(9000, torch.Generator().manual_seed(0))
    for column in (0, 1):
        assert (torch.bincount(draws[:, column], minlength=9) - 1000).abs().max() < 5 * 29.8
    assert (torch.bincount(draws[:, 2]) - 4500).abs().max() < 5 * 47.4


def test_only_shuffled_images_vary():
    data = small_dataset(3)
    view = ImagesInMemory(data.train, data.normalization, augmentation=CropFlip(2))
    plain = ImagesInMemory(data.train, data.normalization)
    for batch, expected in zip(view.in_order(6), plain.in_order(6), strict=True):
        assert torch.equal(batch.images, expected.images)
    (varied,) = view.shuffled(23, 1, torch.Generator().manual_seed(0))
    (still,) = plain.shuffled(23, 1, torch.Generator().manual_seed(0))
    assert torch.equal(varied.labels, still.labels)
    assert not torch.equal(varied.images, still.images)


def test_a_training_that_stopped_goes_on_with_the_same_batches():
    data = small_dataset(3)
    view = ImagesInMemory(data.train, data.normalization, augmentation=CropFlip(2))
    whole = list(view.shuffled(5, 12, torch.Generator().manual_seed(4)))
    rest = list(view.shuffled(5, 12, torch.Generator().manual_seed(4), skip=7))
    assert len(rest) == 5
    for batch, expected in zip(rest, whole[7:], strict=True):
        assert torch.equal(batch.images, expected.images)


def test_bad_settings_are_refused():
    with pytest.raises(DatasetError, match="padding=-1"):
        CropFlip(-1)
    view = ImagesInMemory(small_dataset().train, small_dataset().normalization)
    with pytest.raises(DatasetError, match="batch_size=0"):
        next(view.in_order(0))
    with pytest.raises(DatasetError, match="batch_size=-2"):
        next(view.shuffled(-2, 1, torch.Generator()))
