"""The IDX format of MNIST and its relatives, read with every promise of the header checked.

A header is two zero bytes, a type code (8: unsigned bytes), the number of axes, and the length of each axis as a
big-endian 32-bit integer; the bytes follow. A gzipped file is read where the plain one is absent.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from supsup_datasets.errors import DataUnavailable

_UNSIGNED_BYTES = 8


def read_idx(path: Path, axes: int) -> npt.NDArray[np.uint8]:
    """Return the array of an IDX file of unsigned bytes with the given number of axes, from `path` or `path`.gz.

    Raises:
        DataUnavailable: the file is missing, unreadable, not IDX, of other axes, truncated or too long.
    """
    zipped = path.with_name(path.name + ".gz")
    if not path.exists() and zipped.exists():
        path = zipped
    content = _content(path)
    header = 4 + 4 * axes
    if len(content) < header or content[:4] != bytes([0, 0, _UNSIGNED_BYTES, axes]):
        raise DataUnavailable(f"{path}: not an IDX file of bytes with {axes} axes; replace it by the original file")
    shape = struct.unpack(f">{axes}I", content[4:header])
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise DataUnavailable(
            f"{path}: {len(content)} bytes where its header promises {expected}, so it is truncated or altered; "
            "replace it by the original file"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def idx_bytes(array: npt.NDArray[np.uint8]) -> bytes:
    """Return an array as the IDX file that holds it."""
    return bytes([0, 0, _UNSIGNED_BYTES, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataUnavailable(f"{path}: no such file; put it there, or remove its folder to download again") from None
    except OSError as error:
        raise DataUnavailable(f"{path}: not readable ({error.strerror}); check its permissions") from None
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataUnavailable(f"{path}: damaged ({error}); replace it by the original file") from None
