import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from supsup_datasets import (
    Colour,
    CropFlip,
    DatasetError,
    DataUnavailable,
    Normalization,
    SeededSplit,
    SplitStream,
    image_folder,
    large_image_folder,
)
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from .folders import make_folder, picture

THREE = Normalization((0.5,) * 3, (0.25,) * 3)
ONE = Normalization((0.5,), (0.25,))


def test_a_folder_is_read_as_torchvision_reads_it(tmp_path):
    data = image_folder(make_folder(tmp_path / "pets"), THREE, augmentation=CropFlip(1))
    assert data.name == "pets"
    assert data.class_names == ("ant", "bee", "cat")
    assert data.augmentation == CropFlip(1)
    for part, folder in ((data.train, "train"), (data.test, "val")):
        theirs = ImageFolder(tmp_path / "pets" / folder)
        assert len(part) == len(theirs) == 12
        for image, label, (expected, number) in zip(part.images, part.labels, theirs, strict=True):
            assert torch.equal(image, pil_to_tensor(expected))
            assert int(label) == number
    assert len(SplitStream(data, ((0, 2),))[0].train) == 8


def test_a_test_folder_stands_where_val_is_missing(tmp_path):
    data = image_folder(make_folder(tmp_path, parts=("train", "test")), THREE, name="pets")
    assert (data.name, len(data.test)) == ("pets", 12)


@pytest.mark.parametrize(("fraction", "held"), [(0.1, 1), (0.3, 3), (0.99, 9)])
def test_one_folder_is_split_by_a_seed(tmp_path, fraction, held):
    make_folder(tmp_path, parts=("",), images=10)
    data = image_folder(tmp_path, THREE, split=SeededSplit(fraction, seed=5))
    assert torch.bincount(data.test.labels).tolist() == [held] * 3
    assert torch.bincount(data.train.labels).tolist() == [10 - held] * 3
    pictures = torch.cat([data.train.images, data.test.images]).flatten(1)
    assert len({tuple(row) for row in pictures.tolist()}) == 30
    again = image_folder(tmp_path, THREE, split=SeededSplit(fraction, seed=5))
    other = image_folder(tmp_path, THREE, split=SeededSplit(fraction, seed=6))
    assert again.digest == data.digest != other.digest


def test_images_are_scaled_to_one_size_and_turned_grey_by_the_stated_rules(tmp_path):
    make_folder(tmp_path)
    odd = picture(99, width=9, height=3)
    odd.save(tmp_path / "train" / "ant" / "0.png")
    data = image_folder(tmp_path, ONE, colour=Colour.GREY, size=4)
    assert data.train.images.shape == (12, 1, 4, 4)
    expected = odd.convert("L").resize((4, 4), Image.Resampling.BILINEAR)
    assert torch.equal(data.train.images[0], pil_to_tensor(expected))
    red, green, blue = np.asarray(odd, dtype=np.float64).transpose(2, 0, 1)
    luma = (299 * red + 587 * green + 114 * blue) / 1000
    assert np.abs(np.asarray(odd.convert("L")) - luma).max() <= 1  # rounded once, from 16-bit coefficients


def test_images_of_mixed_size_are_refused(tmp_path):
    make_folder(tmp_path)
    picture(0, width=7).save(tmp_path / "val" / "bee" / "2.png")
    with pytest.raises(
        DatasetError, match=r"val/bee/2.png: 7 × 5 pixels where images before it have 6 × 5; pass a size"
    ):
        image_folder(tmp_path, THREE)


def with_alpha(lowest):
    image = picture(0)
    alpha = np.full((5, 6), 255, dtype=np.uint8)
    alpha[0, 0] = lowest
    image.putalpha(Image.fromarray(alpha))
    return image


def test_modes_that_have_a_right_conversion_are_converted(tmp_path):
    make_folder(tmp_path)
    folder, plain = tmp_path / "train" / "ant", np.asarray(picture(0))
    with_alpha(255).save(folder / "0.png")
    grey = picture(1, mode="L")
    grey.save(folder / "1.png")
    palette = picture(2).quantize(16)
    palette.save(folder / "2.png")
    picture(3).convert("CMYK").save(folder / "3.tif")
    (folder / "3.png").unlink()
    images = image_folder(tmp_path, THREE).train.images
    assert np.array_equal(images[0], plain.transpose(2, 0, 1))
    assert np.array_equal(images[1], np.stack([np.asarray(grey)] * 3))
    assert np.array_equal(images[2], np.asarray(palette.convert("RGB")).transpose(2, 0, 1))
    assert np.array_equal(images[3], np.asarray(picture(3)).transpose(2, 0, 1))


def png_of_16_bit_colours(path):
    """Write what Pillow reads as RGB, dropping the lower 8 bits, without a word."""
    import struct
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + bytes(range(36)) for _ in range(5))
    header = struct.pack(">IIBBBBB", 6, 5, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def transparent_palette(path):
    palette = picture(2).quantize(16)
    palette.info["transparency"] = palette.getpixel((0, 0))
    palette.save(path, transparency=palette.getpixel((0, 0)))


@pytest.mark.parametrize(
    ("write", "suffix", "message"),
    [
        (
            lambda path: Image.fromarray(np.full((5, 6), 40_000, np.uint16)).save(path),
            ".png",
            "it has 16 bits a channel",
        ),
        (
            lambda path: Image.fromarray(np.full((5, 6), 40_000, np.uint16)).save(path),
            ".tif",
            "it has 16 bits a channel",
        ),
        (png_of_16_bit_colours, ".png", "it has 16 bits a channel; convert it to 8 bits"),
        (
            lambda path: Image.fromarray(np.full((5, 6), 0.5, np.float32)).save(path),
            ".tif",
            "its pixels are of mode 'F'",
        ),
        (
            lambda path: Image.fromarray(np.full((5, 6), 70_000, np.int32)).save(path),
            ".tif",
            "its pixels are of mode 'I'",
        ),
        (lambda path: with_alpha(254).save(path), ".png", "it is transparent in places"),
        (transparent_palette, ".png", "it is transparent in places"),
        (lambda path: path.write_bytes(b""), ".png", r"does not decode \(cannot identify image file"),
        (lambda path: path.write_text("no image"), ".jpg", "does not decode"),
    ],
)
def test_an_image_without_a_right_conversion_is_named(tmp_path, write, suffix, message):
    make_folder(tmp_path)
    path = tmp_path / "train" / "bee" / f"x{suffix}"
    write(path)
    with pytest.raises(DataUnavailable, match=message) as caught:
        image_folder(tmp_path, THREE)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".bmp", ".tif", ".webp"])
def test_a_truncated_image_is_named_whatever_its_format(tmp_path, suffix):
    make_folder(tmp_path)
    path = tmp_path / "train" / "bee" / f"x{suffix}"
    picture(0, width=40, height=40).save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole) * 3 // 4, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(DataUnavailable, match="does not decode"):
            image_folder(tmp_path, THREE, size=4)


def remove_images(root):
    for file in (root / "train" / "bee").iterdir():
        file.unlink()


def only_one_class(root):
    for part in ("train", "val"):
        for name in ("bee", "cat"):
            shutil.rmtree(root / part / name)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_images, "train/bee: a class folder without images"),
        (only_one_class, "train: one class only, 'ant'; make one folder for each class"),
        (lambda root: shutil.rmtree(root / "val" / "cat"), "class 'cat' is in one of train and val only"),
        (lambda root: shutil.rmtree(root / "val"), "not both train and val"),
        (lambda root: [shutil.rmtree(child) for child in (root / "train").iterdir()], "train: no class folder"),
        (lambda root: (root / "val" / "cat" / "notes.txt").write_text("x"), "notes.txt: not an image by its name"),
        (lambda root: (root / "val" / "cat" / "more").mkdir(), "more: a folder within a class folder"),
        (
            lambda root: (root / "train" / "ant" / "x.png").symlink_to("x.png"),
            "x.png: not readable .*; remove the link",
        ),
        (lambda root: os.mkfifo(root / "train" / "ant" / "x.png"), "x.png: a link to nothing, or no regular file"),
        (lambda root: (root / "train" / "loop").symlink_to("loop"), "train/loop: not readable .*; remove the link"),
        (
            lambda root: (root / "train" / "up").symlink_to(root, target_is_directory=True),
            "a folder within a class folder",
        ),
        (
            lambda root: (root / "train" / "ant" / "x.png").symlink_to("nowhere.png"),
            "x.png: a link to nothing, or no regular file; remove it",
        ),
    ],
)
def test_a_folder_of_another_kind_is_refused(tmp_path, damage, message):
    damage(make_folder(tmp_path))
    with pytest.raises(DatasetError, match=message) as caught:
        image_folder(tmp_path, THREE)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hidden_files_and_files_beside_class_folders_are_passed_over(tmp_path):
    make_folder(tmp_path)
    before = image_folder(tmp_path, THREE).digest
    (tmp_path / "train" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "train" / "ant" / "._0.png").write_bytes(b"x")
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "classes.tsv").write_text("ant\n")
    (tmp_path / "README").write_text("pets")
    assert image_folder(tmp_path, THREE).digest == before


def test_a_missing_or_unreadable_folder_is_named(tmp_path, monkeypatch):
    with pytest.raises(DataUnavailable, match="nowhere: no such folder; create it"):
        image_folder(tmp_path / "nowhere", THREE)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataUnavailable, match="file: it is a file; name a folder"):
        image_folder(tmp_path / "file", THREE)

    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataUnavailable, match=r"not readable \(Permission denied\)"):
        image_folder(tmp_path, THREE)


def test_arguments_that_do_not_fit_are_refused(tmp_path):
    make_folder(tmp_path / "parts")
    make_folder(tmp_path / "one", parts=("",), images=1)
    for call, message in (
        (lambda: image_folder(tmp_path / "parts", THREE, split=SeededSplit()), "has train and val already"),
        (lambda: image_folder(tmp_path / "one", THREE), "pass a split"),
        (lambda: image_folder(tmp_path / "one", THREE, split=SeededSplit()), "ant: one image, where a split needs two"),
        (lambda: image_folder(tmp_path / "parts", ONE), "1 means for 3 channels"),
        (lambda: image_folder(tmp_path / "parts", THREE, size=0), "size=0"),
        (lambda: SeededSplit(0.0), "test_fraction=0.0"),
        (lambda: SeededSplit(1.0), "test_fraction=1.0"),
        (lambda: SeededSplit(0.5, -1), "seed=-1"),
    ):
        with pytest.raises(DatasetError, match=message):
            call()


@pytest.mark.parametrize("load", [lambda root, **kinds: image_folder(root, THREE, **kinds), large_image_folder])
def test_a_colour_or_split_of_another_kind_is_refused(tmp_path, load):
    with pytest.raises(DatasetError, match=r"colour='RGB': pass Colour.RGB or Colour.GREY"):
        load(tmp_path, colour="RGB")
    with pytest.raises(DatasetError, match=r"split=0.2: pass a SeededSplit, or None"):
        load(tmp_path, split=0.2)


def test_images_that_no_memory_holds_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    make_folder(tmp_path / "pets")
    pages = {"SC_PHYS_PAGES": 2, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    image_folder(tmp_path / "pets", THREE, size=15)
    with pytest.raises(
        DatasetError, match=r"12 images take 0.0 GB decoded, and this machine has 0.0 GB .*smaller size"
    ):
        image_folder(tmp_path / "pets", THREE, size=16)
