import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_datasets import ImagesInMemory
from torchvision.transforms.functional import normalize, to_tensor

from .streams import small_dataset


def view(channels=1, order=None):
    data = small_dataset(channels)
    return ImagesInMemory(data.train, data.normalization, order)


def test_pixels_are_normalised_as_torchvision_does():
    for channels in (1, 3):
        images = view(channels)
        batch = images.batch(torch.arange(len(images)))
        for image, expected in zip(images.base.images, batch.images, strict=True):
            floats = to_tensor(image.permute(1, 2, 0).numpy())
            assert torch.equal(normalize(floats, images.normalization.mean, images.normalization.std), expected)
        assert torch.equal(batch.labels, images.base.labels)


def test_a_pixel_order_moves_all_channels_together():
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    plain, moved = view(3).batch(torch.arange(5)), view(3, order).batch(torch.arange(5))
    for image in range(5):
        for channel in range(3):
            expected = plain.images[image, channel].flatten()[order]
            assert torch.equal(moved.images[image, channel].flatten(), expected)


@given(st.integers(1, 30))
def test_in_order_gives_every_image_once(batch_size):
    images = view()
    batches = list(images.in_order(batch_size))
    assert torch.equal(torch.cat([batch.labels for batch in batches]), images.base.labels)
    assert all(len(batch) == batch_size for batch in batches[:-1])


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 1000))
def test_shuffled_epochs_are_permutations_and_partial_batches_count(batch_size, batches, seed):
    images = view()
    per_epoch = -(-len(images) // batch_size)
    drawn = list(images.shuffled(batch_size, batches, torch.Generator().manual_seed(seed)))
    assert len(drawn) == batches
    for start in range(0, batches - per_epoch + 1, per_epoch):
        epoch = torch.cat([batch.images.flatten(1) for batch in drawn[start : start + per_epoch]])
        whole = images.batch(torch.arange(len(images))).images.flatten(1)
        assert sorted(epoch.tolist()) == sorted(whole.tolist())


def test_the_order_hangs_on_the_generator_alone():
    def labels(seed):
        return torch.cat([batch.labels for batch in view().shuffled(7, 9, torch.Generator().manual_seed(seed))])

    assert torch.equal(labels(1), labels(1))
    assert not torch.equal(labels(1), labels(2))
