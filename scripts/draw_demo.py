"""Draw docs/demo.svg from a finished demo run: python scripts/draw_demo.py runs/demo-1 docs/demo.svg.

One test image, the uniform superposition of all masks, and the slope of the entropy along each of them. Nothing is made up:
every pixel and bar comes from the run.
"""

import base64
import io
import sys
from pathlib import Path

import torch
from PIL import Image
from supsup_core import entropy, one_shot
from supsup_datasets import ImagesInMemory
from supsup_methods.runs import Run, open_run
from torch import Tensor

TASK, IMAGE = 6, 520
INK, FRAME, BAR, WINNER = "#1a1a1a", "#999999", "#9ecae1", "#d55e00"


def main() -> None:
    """Read the run, write the picture."""
    run = open_run(sys.argv[1])
    view = run.stream[TASK].test
    if not isinstance(view, ImagesInMemory) or view.source_pixels is None:
        sys.exit(f"{sys.argv[1]}: its tasks do not move the pixels of images in memory; name a run of permuted digits")
    batch = view.batch(torch.tensor([IMAGE]))
    guess = one_shot(entropy, run.network, run.bank, batch.images)
    plain = view.base.images[IMAGE, 0]
    shuffled = plain.flatten()[view.source_pixels].view(28, 28)
    parts = [
        text(20, 28, f"an image of task {TASK}", bold=True),
        picture(20, 45, 84, 255 - plain),
        text(20, 150, "the digit", small=True),
        picture(124, 45, 84, 255 - shuffled),
        text(124, 150, "in the task's pixel order", small=True),
        text(300, 28, f"all {len(run.bank)} masks, blended", bold=True),
        picture(300, 45, 200, coverage(run)),
        text(300, 265, "share of masks that hold a weight", small=True),
        text(300, 281, "(100 × 100 weights of the first layer)", small=True),
        text(570, 28, "one gradient: −∂H/∂α", bold=True),
        *bars(-guess.slopes[0], 570, 45, 250, 200),
        text(570, 281, f"steepest at task {guess.task}: the batch goes to mask {guess.task}", small=True),
    ]
    body = "\n".join(parts)
    Path(sys.argv[2]).write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="860" height="300" viewBox="0 0 860 300" font-family="sans-serif">\n'
        f'<rect width="860" height="300" fill="white"/>\n{body}\n</svg>\n'
    )


def coverage(run: Run) -> Tensor:
    """Return a corner of the first layer's mean mask as grey values: dark where many masks hold the weight."""
    first = run.network.maskable[0].name
    mean = torch.stack([run.bank.masks(task)[first] for task in range(len(run.bank))]).float().mean(dim=0)
    return (255 * (1 - mean[:100, 300:400])).to(torch.uint8)


def picture(x: int, y: int, size: int, grey: Tensor) -> str:
    """Return an image element for a matrix of grey values."""
    buffer = io.BytesIO()
    Image.fromarray(grey.numpy()).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<image x="{x}" y="{y}" width="{size}" height="{size}" style="image-rendering:pixelated" '
        f'href="data:image/png;base64,{data}"/>'
        f'<rect x="{x}" y="{y}" width="{size}" height="{size}" fill="none" stroke="{FRAME}"/>'
    )


def bars(values: Tensor, x: int, y: int, width: int, height: int) -> list[str]:
    """Return a bar for each value around a zero line, the largest one marked."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    zero = y + height * high / (high - low)
    step = width / len(values)
    parts = []
    for task, value in enumerate(values.tolist()):
        top = zero - height * max(value, 0.0) / (high - low)
        size = height * abs(value) / (high - low)
        colour = WINNER if task == int(values.argmax()) else BAR
        parts.append(
            f'<rect x="{x + task * step + 2:.1f}" y="{top:.1f}" width="{step - 4:.1f}" height="{size:.1f}" fill="{colour}"/>'
        )
        parts.append(text(x + task * step + step / 2 - 4, y + height + 16, str(task), small=True))
    parts.append(f'<line x1="{x}" y1="{zero:.1f}" x2="{x + width}" y2="{zero:.1f}" stroke="{INK}"/>')
    return parts


def text(x: float, y: float, words: str, *, bold: bool = False, small: bool = False) -> str:
    """Return a text element."""
    size, weight = (12 if small else 15), ("bold" if bold else "normal")
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{INK}">{words}</text>'


if __name__ == "__main__":
    main()
