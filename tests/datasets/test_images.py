import dataclasses
import math

import numpy as np
import pytest
import torch
from supsup_datasets import DatasetError, ImageDataset, LabelledImages, Normalization, from_arrays
from supsup_datasets.images import _constants

from .streams import small_dataset, small_images


def test_a_digest_names_the_data():
    assert small_dataset().digest == small_dataset().digest
    other = small_dataset()
    other.test.labels[0] = (other.test.labels[0] + 1) % 3
    assert other.digest != small_dataset().digest


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (3, [0, 1], "3 images and 2 labels"),
        (0, [], "images: there are none"),
        (2, [0, 3], "labels: values from 0 to 3; with 3 labels they are 0 to 2"),
        (2, [-1, 0], "labels: values from -1 to 0"),
    ],
)
def test_what_does_not_fit_is_refused(images, labels, message):
    with pytest.raises(DatasetError, match=message):
        LabelledImages(small_images(5, 0).images[:images], torch.tensor(labels, dtype=torch.int64), 3)


def test_images_of_another_kind_are_refused():
    labels = torch.zeros(4, dtype=torch.int64)
    for images in (torch.zeros(4, 1, 2, 2), torch.zeros(4, 2, 2, dtype=torch.uint8)):
        with pytest.raises(
            DatasetError, match=r"images: (float32|uint8) of shape .*; they are bytes \(uint8\) of shape"
        ):
            LabelledImages(images, labels, 2)
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    for wrong in (labels.float(), labels.bool(), labels.view(2, 2), labels.int()):
        with pytest.raises(DatasetError, match=r"labels: .* of shape .*; they are whole numbers"):
            LabelledImages(images, wrong, 2)


def test_every_pixel_value_is_normalised_by_the_formula_in_single_precision():
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    before = torch.get_default_dtype()
    _constants.cache_clear()
    torch.set_default_dtype(torch.float64)  # which must not matter
    try:
        ours = Normalization((0.1307,), (0.3081,)).apply(values)
    finally:
        torch.set_default_dtype(before)
    ours = ours.flatten().numpy()
    formula = (np.arange(256, dtype=np.float32) / np.float32(255) - np.float32(0.1307)) / np.float32(0.3081)
    assert np.array_equal(ours, formula)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((), (), "mean, std: 0 and 0 values"),
        ((0.5,), (0.5, 0.5), "1 and 2 values"),
        ((0.5,), (0.0,), r"std=\(0.0,\): a standard deviation is above 0"),
        ((0.5,), (float("nan"),), "above 0"),
    ],
)
def test_impossible_normalisations_are_refused(mean, std, message):
    with pytest.raises(DatasetError, match=message):
        Normalization(mean, std)


def test_parts_that_do_not_fit_together_are_refused():
    data = small_dataset()
    for changes, message in (
        ({"test": small_images(5, 0, channels=3)}, r"images of shape \(1, 4, 5\) and \(3, 4, 5\)"),
        ({"test": small_images(5, 0, labels=2)}, "3 and 2 labels"),
        ({"normalization": Normalization((0.5, 0.5), (0.5, 0.5))}, "2 means for 1 channels"),
        ({"class_names": ("a", "b")}, "2 different names for 3 labels"),
        ({"class_names": ("a", "b", "a")}, "2 different names for 3 labels"),
    ):
        with pytest.raises(DatasetError, match=message):
            dataclasses.replace(data, **changes)


def arrays(count=6, labels=(0, 1, 2, 0, 1, 2), dtype=np.int64):
    return np.arange(count * 20, dtype=np.uint8).reshape(count, 1, 4, 5), np.array(labels, dtype=dtype)


NORMALIZATION = Normalization((0.5,), (0.25,))


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int32, np.uint64])
def test_arrays_and_tensors_become_a_data_set(dtype):
    images, labels = arrays(dtype=dtype)
    data = from_arrays(
        "mine", (images, labels), (torch.from_numpy(images[:, 0]), torch.tensor([0, 1, 0, 1, 0, 1])), NORMALIZATION
    )
    assert isinstance(data, ImageDataset)
    assert data.num_classes == 3
    assert data.test.images.shape == (6, 1, 4, 5)
    images[:] = 0
    assert int(data.train.images.sum()) > 0


def test_transposed_arrays_are_laid_out_anew():
    images, labels = arrays()
    channels_last = np.ascontiguousarray(np.repeat(images, 3, axis=1).transpose(0, 2, 3, 1))
    part = (channels_last.transpose(0, 3, 1, 2), labels)
    data = from_arrays("mine", part, part, Normalization((0.5,) * 3, (0.25,) * 3))
    assert data.train.images.is_contiguous()
    assert torch.equal(data.train.images[:, 2], torch.from_numpy(images[:, 0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda images, labels: (images, labels.astype(np.float64)),
            "train labels: values of type float64; labels are whole",
        ),
        (lambda images, labels: (images, labels.astype(bool)), "train labels: values of type bool"),
        (lambda images, labels: (images, labels.astype(str)), "train labels: values of type <U"),
        (lambda images, labels: (images, labels[:, None]), r"train labels: of shape \(6, 1\)"),
        (lambda images, labels: (images, labels[:-1]), "6 images and 5 labels"),
        (lambda images, labels: (images, labels - 1), "labels: values from -1 to 1"),
        (
            lambda images, labels: (images.astype(np.float32), labels),
            r"train images: values of type float32; pass bytes",
        ),
        (lambda images, labels: (images.astype(np.uint16), labels), r"train images: values of type uint16; pass bytes"),
        (lambda images, labels: (images.reshape(6, 4, 5, 1), labels), "train, test: images of shape"),
        (lambda images, labels: (images.reshape(6, 20), labels), r"train images: of shape \(6, 20\)"),
        (lambda images, labels: (images[:0], labels[:0]), "images: there are none"),
        (lambda images, labels: (torch.from_numpy(images).bfloat16(), labels), "train images: no array"),
        (lambda images, labels: ([[1], [1, 2]], labels), "train images: no array"),
    ],
)
def test_arrays_of_another_kind_are_refused(change, message):
    with pytest.raises(DatasetError, match=message) as caught:
        from_arrays("mine", change(*arrays()), arrays(), NORMALIZATION)
    assert "\n" not in str(caught.value)


def test_data_of_one_class_is_refused():
    part = arrays(labels=(1,) * 6)
    with pytest.raises(DatasetError, match="all images have one label; a task to learn has two or more"):
        from_arrays("mine", part, part, NORMALIZATION)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((math.nan,), (0.5,), "mean=.*: pixels are on the scale 0 to 1 here; divide by 255"),
        ((33.0,), (78.0,), "divide by 255"),
        ((0.5,), (math.inf,), "a standard deviation is above 0 and finite"),
        ((0.5,), (math.nan,), "a standard deviation is above 0 and finite"),
        (0.5, (0.5,), r"mean=0.5: pass a number for each channel, such as \(0.5,\)"),
        (("a",), (0.5,), "pass a number for each channel"),
    ],
)
def test_a_normalisation_that_cannot_be_meant_is_refused(mean, std, message):
    with pytest.raises(DatasetError, match=message):
        Normalization(mean, std)


def test_a_normalisation_may_be_given_as_any_sequence():
    given = Normalization([0.5], np.array([0.25]))
    assert given == Normalization((0.5,), (0.25,))
    pixels = torch.full((1, 1, 2, 2), 51, dtype=torch.uint8)
    assert torch.equal(given.apply(pixels), Normalization((0.5,), (0.25,)).apply(pixels))
