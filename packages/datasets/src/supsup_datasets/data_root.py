"""The folder that data files lie in: checked before it is used, and downloaded into so that it is never half full."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from supsup_datasets.errors import DataUnavailable


def check_root(root: Path, inside: str) -> None:
    """Raise DataUnavailable unless `root` is a folder that can be read; `inside` is what it should hold."""
    if root.exists() and not root.is_dir():
        raise DataUnavailable(f"data root {root}: it is a file; name the folder that holds {inside}")
    if not root.is_dir():
        raise DataUnavailable(f"data root {root}: no such folder; create it, or name the one that holds {inside}")
    if not os.access(root, os.R_OK | os.X_OK):
        raise DataUnavailable(f"data root {root}: not readable; check its permissions")


def download_folder(root: Path, name: str, download: Callable[[Path], object], way_out: str) -> None:
    """Download into a folder beside the final one and rename it, so that a broken download leaves nothing behind.

    Args:
        root: where the data goes.
        name: the folder that `download` makes in the folder it is given.
        download: fetches and verifies; raises OSError or RuntimeError.
        way_out: what to do where it fails.

    Raises:
        DataUnavailable: the download failed.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as scratch:
            download(Path(scratch))
            os.replace(Path(scratch) / name, root / name)
    except (OSError, RuntimeError) as error:
        if (root / name).exists():  # another process was here first; what it downloaded is whole
            return
        reason = " ".join(str(error).split())
        raise DataUnavailable(
            f"data root {root}: it holds no {name} and the download failed ({reason}); {way_out}"
        ) from None
