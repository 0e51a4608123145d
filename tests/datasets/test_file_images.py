import math
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from supsup_datasets import (
    DatasetError,
    DataUnavailable,
    Normalization,
    PermutedStream,
    Reading,
    ResizeCentreCrop,
    ResizedCropFlip,
    RotatedStream,
    SplitStream,
    imagenet,
    large_image_folder,
    side_by_side,
    split_imagenet,
)
from supsup_datasets.file_images import _Decoder
from torchvision.transforms import CenterCrop, Compose, Resize
from torchvision.transforms.functional import hflip, pil_to_tensor, resized_crop

from .folders import make_folder, picture

SMALL = {"train_crop": ResizedCropFlip(8), "test_crop": ResizeCentreCrop(10, 8)}


@pytest.fixture
def pets(tmp_path):
    """Images of many shapes in class folders."""
    make_folder(tmp_path / "pets", images=5)
    for number, (width, height) in enumerate([(30, 9), (9, 31), (64, 40), (12, 12)]):
        picture(number, width, height).save(tmp_path / "pets" / "train" / "bee" / f"{number}.png")
    return tmp_path / "pets"


def stream(root, workers=0):
    return SplitStream(large_image_folder(root, workers=workers, **SMALL), ((1, 2), (0,)))


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (300, 300), (20, 300), (256, 257), (5, 7)])
def test_test_images_are_scaled_and_cropped_as_torchvision_does(width, height):
    image = picture(1, width, height)
    expected = Compose([Resize(256), CenterCrop(224)])(image)
    assert np.array_equal(np.asarray(ResizeCentreCrop().apply(image)), np.asarray(expected))


def test_training_images_are_cropped_as_torchvision_crops():
    image, augmentation = picture(1, 500, 375), ResizedCropFlip()
    flips = 0
    for draws in augmentation.draw(40, torch.Generator().manual_seed(0)):
        expected = resized_crop(image, *augmentation.box(draws, 375, 500), [224, 224])
        flipped = float(draws[-1]) < 0.5
        flips += flipped
        expected = hflip(expected) if flipped else expected
        assert np.array_equal(np.asarray(augmentation.apply(image, draws)), np.asarray(expected))
    assert 0 < flips < 40


def test_crops_are_spread_as_stated():
    # Where no try can fail, the share of the area is uniform in (.2, .4), the logarithm of width / height in ± log 4/3:
    # 4000 draws; standard errors of the means .2 / √12 / √4000 and 2 log(4/3) / √12 / √4000; five of them, and rounding.
    augmentation = ResizedCropFlip(scale=(0.2, 0.4))
    boxes = [augmentation.box(draws, 1000, 1000) for draws in augmentation.draw(4000, torch.Generator().manual_seed(0))]
    tops, lefts, heights, widths = np.array(boxes).T
    assert abs((heights * widths / 1e6).mean() - 0.3) < 5 * 0.2 / math.sqrt(12 * 4000) + 1e-3
    assert abs(np.log(widths / heights).mean()) < 5 * 2 * math.log(4 / 3) / math.sqrt(12 * 4000) + 1e-3
    assert (tops + heights <= 1000).all()
    assert (lefts + widths <= 1000).all()
    assert abs((tops / (1000 - heights)).mean() - 0.5) < 5 / math.sqrt(12 * 4000) + 1e-3


@pytest.mark.parametrize(("height", "width"), [(10, 1000), (1000, 10), (1, 1), (3, 100)])
def test_images_where_every_try_fails_give_their_centre(height, width):
    augmentation = ResizedCropFlip(scale=(1.0, 1.0), ratio=(0.99, 0.99) if height == width else (3 / 4, 4 / 3))
    top, left, tall, wide = augmentation.box(torch.zeros(41, dtype=torch.float64), height, width)
    assert 0 <= top <= height - tall
    assert 0 <= left <= width - wide
    assert abs(2 * top + tall - height) <= 1
    assert abs(2 * left + wide - width) <= 1
    assert min(tall, wide) >= 1


def test_batches_are_decoded_cropped_and_normalised(pets):
    task = stream(pets)[0]
    assert task.classes == (1, 2)
    assert (len(task.train), task.num_labels) == (10, 2)
    (batch,) = task.test.in_order(100)
    paths = [pets / "val" / name / f"{number}.png" for name in ("bee", "cat") for number in range(5)]
    normalization = large_image_folder(pets).normalization
    for path, image in zip(paths, batch.images, strict=True):
        expected = pil_to_tensor(Compose([Resize(10), CenterCrop(8)])(Image.open(path)))
        assert torch.equal(image, normalization.apply(expected))
    assert batch.labels.tolist() == [0] * 5 + [1] * 5


# torch warns where there are more workers than cores; here their number is the point
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(pets, workers):
    state = torch.random.get_rng_state()
    alone, helped = stream(pets)[0].train, stream(pets, workers)[0].train
    for batch, expected in zip(
        helped.shuffled(4, 7, torch.Generator().manual_seed(1)),
        alone.shuffled(4, 7, torch.Generator().manual_seed(1)),
        strict=True,
    ):
        assert torch.equal(batch.images, expected.images)
        assert torch.equal(batch.labels, expected.labels)
    assert [len(batch) for batch in helped.in_order(4)] == [4, 4, 2]
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody drew from the global generator


def test_a_worker_can_be_started_in_any_way(pets):
    view = stream(pets)[0].test  # where processes are not forked, what they work with is pickled
    pixels, labels = pickle.loads(pickle.dumps(_Decoder(view)))[torch.arange(3), None]  # noqa: S301 - written here
    assert torch.equal(large_image_folder(pets).normalization.apply(pixels), next(view.in_order(3)).images)
    assert torch.equal(labels, view.labels[:3])


def test_a_training_that_stopped_goes_on_with_the_same_batches(pets):
    view = stream(pets)[0].train
    whole = list(view.shuffled(4, 9, torch.Generator().manual_seed(1)))
    rest = list(view.shuffled(4, 9, torch.Generator().manual_seed(1), skip=6))
    assert [batch.labels.tolist() for batch in whole[6:]] == [batch.labels.tolist() for batch in rest]
    assert all(torch.equal(one.images, other.images) for one, other in zip(whole[6:], rest, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_does_not_decode_is_named_through_workers_too(pets, workers):
    path = pets / "val" / "bee" / "3.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataUnavailable) as caught:
        list(stream(pets, workers)[0].test.in_order(4))
    assert str(caught.value).startswith(f"{path}: does not decode")
    assert "\n" not in str(caught.value)


def test_a_digest_tells_lists_of_files_apart(pets):
    before = large_image_folder(pets).digest
    assert large_image_folder(pets).digest == before
    picture(7, 50, 50).save(pets / "val" / "bee" / "3.png")
    assert large_image_folder(pets).digest != before
    gone = large_image_folder(pets)
    (pets / "val" / "bee" / "3.png").unlink()
    with pytest.raises(DataUnavailable, match=r"3\.png: not readable \(No such file or directory\)"):
        assert gone.digest


def test_pixels_of_files_are_not_moved(pets):
    for make in (lambda data: PermutedStream(data, 2, 0), RotatedStream):
        with pytest.raises(
            DatasetError, match="a FileDataset, and pixels are moved in memory only; decode it by image_folder"
        ):
            make(large_image_folder(pets))


def test_files_do_not_go_side_by_side(pets):
    with pytest.raises(DatasetError, match="only tasks of data in memory"):
        side_by_side([stream(pets)[0].train])


def test_imagenet_is_a_thousand_wnids(tmp_path):
    picture(0, 8, 8).save(tmp_path / "image.png")
    content = (tmp_path / "image.png").read_bytes()
    for part in ("train", "val"):
        for number in range(1000):
            folder = tmp_path / part / f"n{number:08d}"
            folder.mkdir(parents=True)
            (folder / "x.JPEG").write_bytes(content)
    data = imagenet(tmp_path, workers=0)
    assert (data.name, data.num_classes, data.class_names[:2]) == ("ImageNet", 1000, ("n00000000", "n00000001"))
    assert data.normalization == Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    tasks = split_imagenet(data)
    assert len(tasks) == 100
    (batch,) = tasks[99].train.shuffled(10, 1, torch.Generator().manual_seed(0))
    assert batch.images.shape == (10, 3, 224, 224)
    assert sorted(batch.labels.tolist()) == list(range(10))


def test_what_is_not_imagenet_is_refused(pets):
    with pytest.raises(DatasetError, match="class 'ant', where ImageNet has 1000 named like n01440764"):
        imagenet(pets)
    make_folder(pets / "few", classes=("n00000001", "n00000002"), images=1)
    with pytest.raises(DatasetError, match="2 classes, where ImageNet has 1000"):
        imagenet(pets / "few")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResizedCropFlip(0), "size=0"),
        (lambda: ResizedCropFlip(scale=(0.5, 0.1)), r"scale=\(0.5, 0.1\)"),
        (lambda: ResizedCropFlip(ratio=(0.0, 1.0)), r"ratio=\(0.0, 1.0\)"),
        (lambda: ResizeCentreCrop(200, 224), "size=224: the square has 1 to resize=200"),
        (lambda: Reading(Normalization((0.5,), (0.5,))), "1 means for 3 channels"),
        (lambda: Reading(Normalization((0.5,) * 3, (0.5,) * 3), workers=-1), "workers=-1"),
        (lambda: Reading(Normalization((0.5,) * 3, (0.5,) * 3), train_crop=ResizedCropFlip(8)), "squares of 8 and 224"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(DatasetError, match=message):
        make()
