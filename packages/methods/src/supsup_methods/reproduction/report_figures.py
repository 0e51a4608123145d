"""The figures of REPRODUCTION.md: SVG files that say which numbers they were drawn from, so that stale ones are found."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from supsup_core.atomic_files import make_folder, replace_file

from supsup_methods.errors import UsageError
from supsup_methods.reporting.images import NoImages, write_all_images
from supsup_methods.reproduction.ledger import Ledger, Section
from supsup_methods.reproduction.record_figures import Drawing, drawings

FIGURES = "figures"
"""Their folder, in that of the reproduction."""
_STAMP = "<!-- drawn by supsup-reproduce report from numbers with SHA-256 {} -->\n"


def shown(section: Section) -> list[Drawing]:
    """Return the drawings of a section that show more than its table does."""
    return [drawing for drawing in drawings(section) if not drawing.points]


def file_name(section: Section, drawing: Drawing) -> str:
    """Return the name of a drawing's file."""
    return f"{section.name}-{drawing.name}.svg"


def stale_figures(ledger: Ledger, folder: Path) -> list[str]:
    """Return the names of files that are missing, that were drawn from other numbers, or that no number has any more."""
    drawn = _by_name(ledger)
    old = [name for name, drawing in drawn.items() if not _is_current(folder / name, drawing)]
    return old + [path.name for path in _stamped(folder) if path.name not in drawn]


def write_figures(ledger: Ledger, folder: Path) -> list[Path]:
    """Draw what is missing or stale, remove what no number has any more, and return what was written.

    Raises:
        UsageError: there is no Chromium to draw with, or a file of the same name was not written by this command.
    """
    drawn = _by_name(ledger)
    for name in drawn:
        if (folder / name).exists() and not _stamp_of(folder / name):
            raise UsageError(
                f"{folder / name}: it was not written by this command and is not overwritten; move it away"
            )
    stale = [name for name in stale_figures(ledger, folder) if name in drawn]
    with TemporaryDirectory() as place:  # so that none appears without its stamp, whatever stops this
        images = {Path(place, name).with_suffix(""): drawn[name].figure for name in stale}
        written = write_all_images(images, ("svg",))
        if isinstance(written, NoImages):
            raise UsageError(f"{folder}: {len(stale)} figures are to be drawn: {written.reason}")
        make_folder(folder)
        for name, image in zip(stale, written, strict=True):
            replace_file(folder / name, image.read_bytes() + b"\n" + _stamp(drawn[name]))
    for path in _stamped(folder):
        if path.name not in drawn:
            path.unlink()
    return [folder / name for name in stale]


def _by_name(ledger: Ledger) -> Mapping[str, Drawing]:
    return {file_name(section, drawing): drawing for section in ledger.sections for drawing in shown(section)}


def _stamp(drawing: Drawing) -> bytes:
    numbers = drawing.rows.to_csv(index=False).encode()
    return _STAMP.format(hashlib.sha256(numbers).hexdigest()).encode()


def _stamp_of(path: Path) -> bytes:
    """Return the last line of a file, where it is a stamp."""
    last = path.read_bytes().splitlines(keepends=True)[-1:]
    return last[0] if last and last[0].startswith(_STAMP.partition("{")[0].encode()) else b""


def _is_current(path: Path, drawing: Drawing) -> bool:
    return path.exists() and _stamp_of(path) == _stamp(drawing)


def _stamped(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.glob("*.svg")) if _stamp_of(path))
