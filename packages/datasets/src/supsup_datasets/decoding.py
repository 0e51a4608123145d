"""From an image file to 8-bit pixels, by stated conversions; what has no right conversion is refused by name."""

from enum import Enum
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from supsup_datasets.errors import DataUnavailable

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # told by content: ImageNet has a PNG called .JPEG
_OPAQUE_MODES = ("1", "L", "P", "RGB", "CMYK", "YCbCr")
_ALPHA_MODES = ("LA", "PA", "RGBA")


class Colour(Enum):
    """What images are converted to; the value is Pillow's name of it."""

    GREY = "L"
    """One channel: of colours the luma of ITU-R 601, (299 R + 587 G + 114 B) / 1000."""
    RGB = "RGB"
    """Three channels: a grey value stands in all three, palettes are looked up, CMYK is inverted by Pillow's rule."""

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.value)


def decode(path: Path, colour: Colour) -> Image.Image:
    """Return a file's image (of an animation the first), 8 bits a channel; an alpha channel that hides nothing is dropped.

    Raises:
        DataUnavailable: the file is missing, unreadable or damaged, or its pixels have no right conversion: 16 bits a
            channel, floats, transparency.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            reason = _no_conversion(image)
            if reason is None:
                image.load()
                return _converted(image, path, colour)
    except DataUnavailable:
        raise
    except PermissionError:
        raise DataUnavailable(f"{path}: not readable; check its permissions") from None
    except FileNotFoundError:
        raise DataUnavailable(f"{path}: no such file, or a link to none; put it back or remove the link") from None
    except Exception as error:  # damaged files make Pillow's decoders raise nearly anything
        detail = " ".join(str(error).split()).replace(str(path), "the file") or type(error).__name__
        raise DataUnavailable(f"{path}: does not decode ({detail}); replace it or remove it") from None
    raise DataUnavailable(f"{path}: {reason}; convert it to 8 bits a channel, or remove it")


def pixels_of(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Return a grey or RGB image as uint8 of shape (channels, height, width)."""
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def is_image_name(name: str) -> bool:
    """Tell whether a file's name says that it is an image."""
    return PurePath(name).suffix.lower() in IMAGE_SUFFIXES


def _no_conversion(image: ImageFile.ImageFile) -> str | None:
    """Return why an opened image cannot become 8 bits a channel, or None; Pillow itself would drop or clip bits silently."""
    raw = [str(tile[3]) for tile in image.tile]
    if "16" in image.mode or (image.format != "BMP" and any(";16" in mode for mode in raw)):
        return "it has 16 bits a channel"
    if image.mode not in (*_OPAQUE_MODES, *_ALPHA_MODES):
        return f"its pixels are of mode {image.mode!r}"
    return None


def _converted(image: Image.Image, path: Path, colour: Colour) -> Image.Image:
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise DataUnavailable(
                f"{path}: it is transparent in places, which have no colour; put it on a background, or remove it"
            )
    return image.convert(colour.value)
