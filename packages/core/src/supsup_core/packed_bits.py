"""Bits packed eight to a byte, lowest bit first, in rows of whole 64-bit words."""

import ctypes
import zlib
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int32, UInt8
from torch import Tensor

_WORD_BYTES = 8
_ONE_A_BYTE = 0x0101_0101_0101_0101
_CACHED_FLOATS = 2**21
_CACHED_BYTES = 2**20
_COUNTER_LIMIT = 255  # rows that a counter of one byte can count


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


def count_ones(rows: UInt8[Tensor, "rows bytes"], num_bits: int) -> Int32[Tensor, " bits"]:
    """Return how many rows have each bit set, without unpacking: eight counters to a 64-bit word."""
    counts = torch.zeros((8, rows.shape[1]), dtype=torch.int32, device=rows.device)
    bytes_at_once = max(8, _CACHED_BYTES // max(1, min(len(rows), _COUNTER_LIMIT)) // 8 * 8)
    for some in rows.split(_COUNTER_LIMIT):
        for columns, counted in zip(some.split(bytes_at_once, dim=1), counts.split(bytes_at_once, dim=1), strict=True):
            words = columns.contiguous().view(torch.int64)
            for bit in range(8):
                counted[bit] += ((words >> bit).bitwise_and_(_ONE_A_BYTE)).sum(dim=0).view(torch.uint8)
    return counts.T.flatten()[:num_bits]


def raw_bytes(values: Tensor) -> bytes:
    """Return the bytes of a tensor; not through numpy, which only files need."""
    content = values.detach().cpu().contiguous()
    return ctypes.string_at(content.data_ptr(), content.numel() * content.element_size())


def as_compared(values: Tensor) -> Tensor:
    """Return a parameter or buffer as networks are compared by it: in float32, but complex and larger whole numbers as is."""
    if values.is_floating_point():
        return values.to(torch.float32)
    if values.is_complex():
        return torch.view_as_real(values)
    narrow = values.to(torch.float32)
    return narrow if torch.equal(narrow.to(values.dtype), values) else values


def checksum(*parts: Tensor) -> int:
    """Return the CRC-32 of the bytes of all parts, one after the other."""
    crc = 0
    for part in parts:
        content = part.detach().cpu().contiguous()
        if content.numel():  # an empty tensor lies nowhere, and zlib takes nowhere as a wish to start again
            view = (ctypes.c_char * (content.numel() * content.element_size())).from_address(content.data_ptr())
            crc = zlib.crc32(view, crc)
    return crc


def unpack_to(rows: UInt8[Tensor, "*rows bytes"], num_bits: int, dtype: torch.dtype) -> Float[Tensor, "*rows bits"]:
    """Undo `pack`, as floating-point zeros and ones: each byte looks its eight up."""
    table = _eight_of_byte(dtype, rows.device)
    return table.index_select(0, rows.flatten().int()).view(*rows.shape[:-1], 8 * rows.shape[-1])[..., :num_bits]


def unpack_into(row: UInt8[Tensor, " bytes"], out: Float[Tensor, " bits"]) -> Float[Tensor, " bits"]:
    """Do as `unpack_to`, into memory that is in use already: for large networks, fresh memory takes half of the time."""
    whole = len(out) // 8
    torch.index_select(_eight_of_byte(out.dtype, row.device), 0, row[:whole].int(), out=out[: 8 * whole].view(-1, 8))
    out[8 * whole :] = unpack(row[whole:], len(out) - 8 * whole)
    return out


@lru_cache(maxsize=16)
def _eight_of_byte(dtype: torch.dtype, device: torch.device) -> Float[Tensor, "256 8"]:
    return unpack(torch.arange(256, dtype=torch.uint8, device=device).unsqueeze(-1), 8).to(dtype)


def inner_products(
    rows: UInt8[Tensor, "tasks bytes"], vectors: Float[Tensor, "vectors bits"]
) -> Float[Tensor, "vectors tasks"]:
    """Return sum_j bit_ij v_j of every row of bits and every vector, through floats that stay within the cache."""
    products = vectors.new_zeros((len(vectors), len(rows)))
    bytes_at_once = max(8, _CACHED_FLOATS // (8 * max(1, len(rows))) // 8 * 8)
    for start in range(0, rows.shape[1], bytes_at_once):
        some = vectors[:, 8 * start : 8 * (start + bytes_at_once)]
        bits = unpack_to(rows[:, start : start + bytes_at_once], some.shape[1], vectors.dtype)
        products.addmm_(some, bits.mT)
    return products
