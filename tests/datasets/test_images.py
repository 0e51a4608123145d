import pytest
import torch
from supsup_datasets import DatasetError, LabelledImages

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
