"""Figures as PNG and SVG files, through kaleido and whatever Chromium the machine has (extra `plots`)."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import plotly.graph_objects as go
from choreographer.errors import BrowserClosedError, BrowserDepsError, BrowserFailedError, ChromeNotFoundError
from kaleido import write_fig_from_object_sync
from kaleido.errors import KaleidoError

FORMATS: tuple[Literal["png", "svg"], ...] = ("png", "svg")
_WIDTH, _HEIGHT = 1000, 600  # pixels
_PNG_SCALE = 2.0  # for screens of many pixels
_SECONDS = 60  # for one image


@dataclass(frozen=True)
class NoImages:
    """No image was written, and why."""

    reason: str
    """In a line, with the way out."""


def write_images(figure: go.Figure, stem: Path) -> list[Path] | NoImages:
    """Write a figure as STEM.png and STEM.svg, and return where they are, or why there are none.

    Args:
        figure: to write.
        stem: folder and name of the files, without their ending; the folder is there.
    """
    return write_all_images({stem: figure})


def write_all_images(
    figures: Mapping[Path, go.Figure], formats: Sequence[Literal["png", "svg"]] = FORMATS
) -> list[Path] | NoImages:
    """Write several figures, as `write_images` does, with the seconds of a browser's start spent once.

    Figures are drawn without the network: formulas in TeX, which would be fetched, stay text.

    Args:
        figures: by the stems of their files.
        formats: of each.
    """
    jobs = [
        {
            "fig": figure,
            "path": stem.parent / f"{stem.name}.{ending}",
            "opts": {"width": _WIDTH, "height": _HEIGHT, "scale": _PNG_SCALE if ending == "png" else 1.0},
        }
        for stem, figure in figures.items()
        for ending in formats
    ]
    if not jobs:
        return []
    try:
        options = {"mathjax": False, "timeout": _SECONDS}
        write_fig_from_object_sync(jobs, kopts=options, cancel_on_error=True)
    except ChromeNotFoundError:
        return NoImages(_not_found())
    except (BrowserClosedError, BrowserDepsError, BrowserFailedError, KaleidoError, TimeoutError) as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        return NoImages(f"Chromium was found and drew nothing ({said}); try it by itself, or install another")
    return [job["path"] for job in jobs]


def _not_found() -> str:
    named = os.environ.get("BROWSER_PATH")
    return f"no Chromium at BROWSER_PATH={named}; correct it" if named else "no Chromium found; install one"
