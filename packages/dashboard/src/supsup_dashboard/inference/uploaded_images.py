"""From a file that somebody uploaded to the pixels that a run's networks take; whatever is not a plain picture is refused.

A file is looked at in this order, so that none gets far enough to do harm: its bytes are counted, its content must be PNG or
JPEG (whatever its name says), its header must tell a bearable number of pixels and a single picture of 8 bits a channel, its
checksums must hold, and only then it is decoded.
"""

import io

import torch
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from supsup_datasets import Colour
from supsup_datasets.decoding import pixels_of
from supsup_methods.errors import UsageError
from torch import Tensor

LARGEST_MEGABYTES = 10
MOST_MEGAPIXELS = 25
_FORMATS = ("JPEG", "PNG")
_ALPHA_MODES = ("LA", "PA", "RGBA")
_MODES = ("1", "L", "P", "RGB", "CMYK", "YCbCr", *_ALPHA_MODES)
_DAMAGED = "Upload: it does not decode, so it is damaged or incomplete; save the picture again as PNG or JPEG"


def uploaded_pixels(content: bytes, image_shape: tuple[int, int, int], *, invert: bool = False) -> Tensor:
    """Return an uploaded picture in the shape of a data set: turned upright, its middle cut out, scaled, grey or in colours.

    Args:
        content: of the file.
        image_shape: channels (1 or 3), height and width of the data set's images.
        invert: whether light and dark change places.

    Returns:
        uint8 of shape (channels, height, width).

    Raises:
        UsageError: the file is too large, has too many pixels, is no PNG or JPEG, holds several pictures or none, is damaged or
            incomplete, or its pixels have no right conversion. The message repeats nothing of the file.
    """
    if len(content) > LARGEST_MEGABYTES * 1_000_000:
        raise UsageError(
            f"Upload: {len(content) / 1e6:.1f} MB, and at most {LARGEST_MEGABYTES} MB are read; choose a smaller file"
        )
    channels, height, width = image_shape
    with _opened(content) as image:
        _refuse_unsuitable(image)
        _verify(content)
        picture = _decoded(image, Colour.GREY if channels == 1 else Colour.RGB)
    fitted = _middle(picture, width, height).resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(pixels_of(ImageOps.invert(fitted) if invert else fitted).copy())


def _middle(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Return the largest part around the middle with sides in the proportion of `width` to `height`."""
    across = max(1, min(picture.width, picture.height * width // height))
    down = max(1, min(picture.height, picture.width * height // width))
    left, top = (picture.width - across) // 2, (picture.height - down) // 2
    return picture.crop((left, top, left + across, top + down))


def _opened(content: bytes) -> ImageFile.ImageFile:
    """Read the header, and no pixel."""
    try:
        return Image.open(io.BytesIO(content), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels("far more") from None
    except UnidentifiedImageError:
        raise UsageError("Upload: neither PNG nor JPEG by its content; save the picture as one of them") from None
    except Exception as error:  # damaged headers make Pillow raise nearly anything
        raise UsageError(_DAMAGED) from error


def _refuse_unsuitable(image: ImageFile.ImageFile) -> None:
    if image.width * image.height > MOST_MEGAPIXELS * 1_000_000:
        raise _too_many_pixels(f"{image.width} × {image.height}")
    pictures = getattr(image, "n_frames", 1)
    if pictures > 1:
        raise UsageError(f"Upload: it holds {pictures} pictures, as animations do; save a single one as PNG or JPEG")
    if "16" in image.mode or any(";16" in str(tile[3]) for tile in image.tile):
        raise UsageError("Upload: 16 bits a channel, and images here have 8; save it with 8")
    if image.mode not in _MODES:
        raise UsageError("Upload: its kind of pixels has no conversion to grey or RGB; save it as RGB")


def _too_many_pixels(how_many: str) -> UsageError:
    return UsageError(
        f"Upload: {how_many} pixels, and at most {MOST_MEGAPIXELS} million are decoded; scale the picture down"
    )


def _verify(content: bytes) -> None:
    """Compare the checksums of a PNG; a file that was verified must be opened anew."""
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as again:
            again.verify()
    except Exception as error:
        raise UsageError(_DAMAGED) from error


def _decoded(image: ImageFile.ImageFile, colour: Colour) -> Image.Image:
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in _ALPHA_MODES or "transparency" in upright.info:
            upright = upright.convert("RGBA")
            transparent = upright.getchannel("A").getextrema() != (255, 255)
        else:
            transparent = False
        picture = upright.convert(colour.value)
    except Exception as error:  # damaged files make Pillow's decoders raise nearly anything
        raise UsageError(_DAMAGED) from error
    if transparent:
        raise UsageError("Upload: it is transparent in places, which have no colour; put it on a background")
    return picture
