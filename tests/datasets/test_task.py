import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_datasets import Batch, ImagesInMemory, Unlabelled, joined
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


@given(st.integers(1, 30), st.integers(0, 1000))
def test_mixed_gives_every_image_once_in_the_order_that_is_drawn(batch_size, seed):
    images = view()
    batches = list(images.mixed(batch_size, torch.Generator().manual_seed(seed)))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    expected = images.batch(order)
    assert torch.equal(torch.cat([batch.images for batch in batches]), expected.images)
    assert torch.equal(torch.cat([batch.labels for batch in batches]), expected.labels)


def split(images, batch_size):
    """Return how large batches are."""
    return [min(batch_size, images - start) for start in range(0, images, batch_size)]


def numbered(*sizes):
    """Return batches of images and labels that count up from 0."""
    return [Batch(part.float().view(-1, 1, 1, 1), part) for part in torch.arange(sum(sizes)).split(sizes) if sizes]


@given(st.integers(0, 30), st.integers(1, 10), st.integers(1, 10))
def test_joined_batches_give_every_image_once_in_order_and_none_is_too_small_but_a_sole_one(
    images, batch_size, smallest
):
    batches = list(joined(numbered(*split(images, batch_size)), smallest))
    assert all(len(batch) >= smallest for batch in batches) or len(batches) == 1
    assert [label for batch in batches for label in batch.labels.tolist()] == list(range(images))
    assert all(torch.equal(batch.images.flatten(), batch.labels.float()) for batch in batches)


@given(st.integers(1, 30), st.integers(1, 10), st.integers(1, 10))
def test_only_a_last_batch_that_is_too_small_is_joined(images, batch_size, smallest):
    sizes = split(images, max(batch_size, smallest))
    made = [len(batch) for batch in joined(numbered(*sizes), smallest)]
    assert made == (sizes if len(sizes) == 1 or sizes[-1] >= smallest else [*sizes[:-2], sizes[-2] + sizes[-1]])


def test_batches_are_joined_as_they_come():
    """Two are held at most: a test set need not fit the memory."""
    taken = []

    def counted():
        for batch in numbered(2, 2, 2, 1):
            taken.append(len(batch))
            yield batch

    shown = joined(counted(), 2)
    for expected in ([2, 2], [2, 2, 2], [2, 2, 2, 1]):
        next(shown)
        assert taken == expected


@given(st.integers(1, 30), st.integers(1, 3), st.integers(0, 1000))
def test_what_is_unlabelled_shows_images_and_how_many_there_are(batch_size, smallest, seed):
    images = view()
    unlabelled = Unlabelled(images)
    assert len(unlabelled) == len(images)
    generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
    shown = list(unlabelled.mixed(batch_size, generators[0], smallest))
    expected = list(joined(images.mixed(batch_size, generators[1]), smallest))
    assert all(torch.equal(one, batch.images) for one, batch in zip(shown, expected, strict=True))
