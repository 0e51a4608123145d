"""How images in files of any size become one size: a random crop for training, the centre for tests (ImageNet's usual)."""

import math
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from supsup_datasets.errors import DatasetError

_TRIES = 10  # as in the Inception paper's released code and torchvision


@dataclass(frozen=True)
class ResizedCropFlip:
    """A crop of random area and shape, scaled to a square (bilinear), then a flip left to right with probability ½.

    Raises:
        DatasetError: the size is below 1, or a range is empty or not above 0.
    """

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise DatasetError(f"size={self.size}: a side has at least one pixel; choose another")
        for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
            if not 0 < low <= high:
                raise DatasetError(f"{name}={(low, high)}: a range goes from above 0 upwards; choose another")

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return float64 rows of uniform numbers in [0, 1): ten tries of (area, shape, top, left), then the flip."""
        return torch.rand((count, 4 * _TRIES + 1), generator=generator, dtype=torch.float64)

    def box(self, draws: Tensor, height: int, width: int) -> tuple[int, int, int, int]:
        """Return (top, left, height, width) of the crop: the first try that lies within the image, else its centre.

        A try has an area uniform in `scale` times the image's and a width / height log-uniform in `ratio`. The centre is as
        large as `ratio` allows.
        """
        low, high = (math.log(bound) for bound in self.ratio)
        for area, shape, top, left in draws[:-1].view(_TRIES, 4).tolist():
            target = height * width * (self.scale[0] + area * (self.scale[1] - self.scale[0]))
            ratio = math.exp(low + shape * (high - low))
            wide, tall = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
            if 0 < wide <= width and 0 < tall <= height:
                return int(top * (height - tall + 1)), int(left * (width - wide + 1)), tall, wide
        tall, wide = height, width
        if width / height < self.ratio[0]:
            tall = max(1, round(width / self.ratio[0]))
        elif width / height > self.ratio[1]:
            wide = max(1, round(height * self.ratio[1]))
        return (height - tall) // 2, (width - wide) // 2, tall, wide

    def apply(self, image: Image.Image, draws: Tensor) -> Image.Image:
        """Return the image cropped, scaled and flipped as one row of `draw` says."""
        top, left, height, width = self.box(draws, image.height, image.width)
        crop = image.crop((left, top, left + width, top + height))
        scaled = crop.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return scaled.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if float(draws[-1]) < 0.5 else scaled


@dataclass(frozen=True)
class ResizeCentreCrop:
    """The shorter side scaled to `resize` pixels (bilinear), then the central square of `size`.

    Raises:
        DatasetError: the square is larger than the shorter side, or has no pixel.
    """

    resize: int = 256
    size: int = 224

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.resize:
            raise DatasetError(f"size={self.size}: the square has 1 to resize={self.resize} pixels a side")

    def apply(self, image: Image.Image) -> Image.Image:
        """Return the image scaled and cropped."""
        short = min(image.size)
        width, height = (self.resize if side == short else int(self.resize * side / short) for side in image.size)
        scaled = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        return scaled.crop((left, top, left + self.size, top + self.size))
