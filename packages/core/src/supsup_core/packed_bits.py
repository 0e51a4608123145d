"""Bits packed eight to a byte, lowest bit first, in rows of whole 64-bit words."""

import ctypes
import zlib

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

_WORD_BYTES = 8


def row_bytes(num_bits: int) -> int:
    """Return the bytes of a row that holds `num_bits` bits: a multiple of 8."""
    return -(-num_bits // (8 * _WORD_BYTES)) * _WORD_BYTES


def pack(bits: Bool[Tensor, "*rows bits"]) -> UInt8[Tensor, "*rows bytes"]:
    """Pack the last axis; bit j of byte b is element 8b + j, and the padding is 0."""
    num_bits = bits.shape[-1]
    padded = torch.nn.functional.pad(bits.to(torch.uint8), (0, 8 * row_bytes(num_bits) - num_bits))
    weights = 2 ** torch.arange(8, dtype=torch.uint8, device=bits.device)
    return (padded.unflatten(-1, (-1, 8)) * weights).sum(dim=-1, dtype=torch.uint8)


def unpack(rows: UInt8[Tensor, "*rows bytes"], num_bits: int) -> Bool[Tensor, "*rows bits"]:
    """Undo `pack`."""
    weights = 2 ** torch.arange(8, dtype=torch.uint8, device=rows.device)
    return rows.unsqueeze(-1).bitwise_and(weights).ne(0).flatten(-2)[..., :num_bits]


def raw_bytes(values: Tensor) -> bytes:
    """Return the bytes of a tensor; not through numpy, which only files need."""
    content = values.detach().cpu().contiguous()
    return ctypes.string_at(content.data_ptr(), content.numel() * content.element_size())


def checksum(*parts: Tensor) -> int:
    """Return the CRC-32 of the bytes of all parts, one after the other."""
    crc = 0
    for part in parts:
        crc = zlib.crc32(raw_bytes(part), crc)
    return crc


def unpack_to(rows: UInt8[Tensor, "*rows bytes"], num_bits: int, dtype: torch.dtype) -> Float[Tensor, "*rows bits"]:
    """Undo `pack`, as floating-point zeros and ones."""
    return unpack(rows, num_bits).to(dtype)
