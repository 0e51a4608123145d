"""Image folders on disk for the tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, width: int = 6, height: int = 5, mode: str = "RGB") -> Image.Image:
    shape = (height, width) if mode == "L" else (height, width, 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def make_folder(root: Path, parts=("train", "val"), classes=("ant", "bee", "cat"), images=4, **shape) -> Path:
    """Write root/part/class/N.png; an empty part name leaves that level out."""
    seed = 0
    for part in parts:
        for name in classes:
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(images):
                picture(seed, **shape).save(folder / f"{number}.png")
                seed += 1
    return root
