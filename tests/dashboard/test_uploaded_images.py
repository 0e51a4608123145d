"""Pictures become pixels of a data set; bombs, animations, fragments and everything else are refused in one line."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from supsup_dashboard.inference import uploaded_images
from supsup_dashboard.inference.uploaded_images import uploaded_pixels
from supsup_methods.errors import UsageError

GREY, COLOURS = (1, 28, 28), (3, 32, 32)


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width=28, height=28, mode="L", seed=0):
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def png(width, height, depth=8, colour=0, data=b""):
    """Return a PNG by hand, whose header may promise what its data does not hold."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def refused(content, shape=GREY):
    with pytest.raises(UsageError) as caught:
        uploaded_pixels(content, shape)
    message = str(caught.value)
    assert message.startswith("Upload: ")
    assert "\n" not in message
    assert len(message) < 130
    return message


def test_a_grey_picture_of_the_right_size_stays_as_it_is():
    image = noise()
    pixels = uploaded_pixels(saved(image), GREY)
    assert (pixels.dtype, tuple(pixels.shape)) == (torch.uint8, GREY)
    assert torch.equal(pixels[0], torch.from_numpy(np.asarray(image).copy()))
    colours = noise(32, 32, "RGB")
    assert torch.equal(
        uploaded_pixels(saved(colours), COLOURS), torch.from_numpy(np.asarray(colours).transpose(2, 0, 1).copy())
    )


def test_light_and_dark_change_places():
    plain = uploaded_pixels(saved(noise()), GREY)
    assert torch.equal(uploaded_pixels(saved(noise()), GREY, invert=True), 255 - plain)
    colours = uploaded_pixels(saved(noise(32, 32, "RGB")), COLOURS)
    assert torch.equal(uploaded_pixels(saved(noise(32, 32, "RGB")), COLOURS, invert=True), 255 - colours)


def test_colours_become_the_luma_of_itu_r_601_and_greys_stand_in_all_channels():
    red = Image.new("RGB", (28, 28), (200, 100, 50))
    luma = round((299 * 200 + 587 * 100 + 114 * 50) / 1000)
    assert uploaded_pixels(saved(red), GREY).unique().tolist() == [luma]
    grey = uploaded_pixels(saved(noise(32, 32)), COLOURS)
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[0], grey[2])


def test_the_middle_is_cut_out_and_scaled():
    wide = Image.new("L", (140, 56), 10)
    wide.paste(200, (42, 0, 98, 56))  # the middle square
    assert uploaded_pixels(saved(wide), GREY).unique().tolist() == [200]
    tall = Image.new("L", (56, 140), 10)
    tall.paste(200, (0, 42, 56, 98))
    assert uploaded_pixels(saved(tall), GREY).unique().tolist() == [200]
    half = Image.new("L", (56, 56), 0)
    half.paste(255, (28, 0, 56, 56))
    scaled = uploaded_pixels(saved(half), GREY)[0]
    assert scaled[:, :13].unique().tolist() == [0]
    assert scaled[:, 15:].unique().tolist() == [255]


def test_a_jpeg_is_turned_upright():
    image = Image.new("L", (64, 64), 0)
    image.paste(255, (0, 0, 64, 32))  # light above
    exif = Image.Exif()
    exif[0x0112] = 3  # to be turned half round
    pixels = uploaded_pixels(saved(image, "JPEG", exif=exif, quality=95), GREY)[0]
    assert pixels[:10].float().mean() < 10
    assert pixels[18:].float().mean() > 245


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "LA", "RGBA"])
def test_usual_kinds_of_pixels_have_a_conversion(mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    assert tuple(uploaded_pixels(saved(noise(40, 40, "RGB").convert(mode), kind), COLOURS).shape) == COLOURS


def test_the_content_counts_and_not_a_name():
    for kind in ("GIF", "BMP", "TIFF", "WEBP"):
        assert "neither PNG nor JPEG by its content" in refused(saved(noise(), kind))
    for content in (b"", b"hello", b"\x89PNG", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7"):
        refused(content)


def test_a_large_file_is_not_even_opened(monkeypatch):
    monkeypatch.setattr(uploaded_images.Image, "open", lambda *args, **named: pytest.fail("it was opened"))
    assert "10.0 MB, and at most 10 MB are read" in refused(bytes(10_000_001))


@pytest.mark.parametrize(("width", "height"), [(5001, 5000), (100_000, 100_000), (10_000, 9_000), (65_000, 2_700)])
def test_bombs_are_refused_by_their_header(monkeypatch, width, height):
    """A few bytes that promise billions of pixels: no pixel is decoded, whatever the data."""
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    assert "at most 25 million are decoded" in refused(png(width, height, data=bytes(1000)))


def test_as_many_pixels_as_are_allowed_are_decoded():
    assert tuple(uploaded_pixels(saved(Image.new("L", (5000, 5000))), GREY).shape) == GREY


def test_compressed_text_that_explodes_is_refused():
    text = zlib.compress(bytes(100_000_000))
    chunk = b"zTXt" + b"note\0\0" + text
    bomb = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    content = saved(noise())
    assert "damaged or incomplete" in refused(content[:33] + bomb + content[33:])


def test_animations_are_refused():
    frames = [noise(seed=seed) for seed in range(3)]
    assert "it holds 3 pictures" in refused(saved(frames[0], save_all=True, append_images=frames[1:]))
    several = saved(frames[0].convert("RGB"), "MPO", save_all=True, append_images=[frames[1].convert("RGB")])
    assert "it holds 2 pictures" in refused(several)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_no_part_of_a_file_passes_for_the_whole(kind):
    content = saved(noise(64, 64), kind)
    uploaded_pixels(content, GREY)
    for length in {0, 1, 8, 20, 40, len(content) // 2, len(content) - 40, len(content) - 14}:
        refused(content[:length])


def test_a_flipped_byte_in_a_png_is_noticed():
    content = saved(noise(64, 64))
    for place in range(8, len(content), 97):
        changed = bytearray(content)
        changed[place] ^= 1
        refused(bytes(changed))


def test_noise_after_a_jpegs_beginning_is_a_picture_or_refused():
    content, draws = saved(noise(64, 64), "JPEG"), np.random.default_rng(0)
    for _ in range(200):
        changed = bytearray(content)
        for place in draws.integers(2, len(content), 5):
            changed[place] = draws.integers(256)
        with contextlib.suppress(UsageError):  # and nothing else
            assert tuple(uploaded_pixels(bytes(changed), GREY).shape) == GREY


@pytest.mark.parametrize("colour", [0, 2])
def test_sixteen_bits_are_refused(colour):
    samples = 1 if colour == 0 else 3
    rows = b"".join(b"\0" + bytes(2 * samples * 4) for _ in range(4))
    assert "16 bits a channel" in refused(png(4, 4, 16, colour, rows))


def test_what_is_transparent_has_no_colour():
    glass = Image.new("RGBA", (28, 28), (255, 0, 0, 128))
    assert "transparent in places" in refused(saved(glass))
    palette = noise(mode="RGB").convert("P")
    assert "transparent in places" in refused(saved(palette, transparency=palette.getpixel((0, 0))))


def test_a_message_repeats_nothing_of_the_file():
    secret = b"![picture](http://example.org/x.png)"
    assert secret.decode() not in refused(secret)
    assert secret.decode() not in refused(b"\x89PNG\r\n\x1a\n" + secret)
