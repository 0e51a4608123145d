"""What a bank's folder says of itself: the network that its masks belong to, and the shards that hold them."""

import hashlib
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from supsup_core.errors import CorruptBank, NetworkMismatch
from supsup_core.frozen_network import FrozenNetwork

MANIFEST = "manifest.json"
_FORMAT = "supsup-mask-bank"
_VERSION = 2
_CHECKSUM = "crc32"
SHARD_NAME = r"masks-(\d{8,})-\d{6,}\.safetensors"
"""Of a shard's file: its first task, and how many there are."""
BUFFER_DTYPES = {torch.float16: "float16", torch.float32: "float32", torch.float64: "float64"}


@dataclass(frozen=True)
class Header:
    """What ties tasks to a network: its fingerprint, and what a row of bits and one of running statistics cover, in order.

    `unseeded` is there for people whose network is another one: `FrozenNetwork.unseeded`, which the fingerprint covers.
    """

    fingerprint: str
    seed: int
    parameters: tuple[tuple[str, tuple[int, ...]], ...]
    buffers: tuple[tuple[str, tuple[int, ...]], ...]
    buffer_dtype: torch.dtype
    unseeded: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, net: FrozenNetwork, buffer_dtype: torch.dtype) -> "Header":
        """Describe a network, and how its running statistics are kept."""
        parameters, buffers = (
            tuple((entry.name, entry.shape) for entry in part) for part in (net.maskable, net.task_buffers)
        )
        return cls(net.fingerprint, net.seed, parameters, buffers, buffer_dtype, tuple(net.unseeded.items()))

    @property
    def digest(self) -> str:
        """A name for all of it, short enough for every shard to carry."""
        content = {key: value for key, value in self.to_json().items() if key != "unseeded"}
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the maskable parameters, in order."""
        return tuple(shape for _, shape in self.parameters)

    def to_json(self) -> dict[str, Any]:
        """Return the header as the manifest holds it."""
        return {**asdict(self), "buffer_dtype": BUFFER_DTYPES[self.buffer_dtype]}

    def refuse_other(self, found: "Header", path: Path) -> None:
        """Compare with what the folder `path` says.

        Raises:
            NetworkMismatch: the folder's tasks are not for this network, or keep other statistics.
        """
        if found.fingerprint != self.fingerprint:
            then = dict(found.unseeded)
            others = [name for name, values in self.unseeded if then.get(name, values) != values]
            if others and (found.seed, found.parameters) == (self.seed, self.parameters):
                names = ", ".join(map(repr, others[:3])) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
                raise NetworkMismatch(
                    f"{path}: its masks belong to a network where {names} had other values, which no seed decides; load the "
                    "state_dict of the module that they were learned with, and build the network on that, with the same init"
                )
            raise NetworkMismatch(f"{path}: its masks belong to another network: {self._difference(found)}")
        # The fingerprint covers the parameters too; that they differ means that somebody edited the manifest.
        if (found.parameters, found.buffers, found.buffer_dtype) != (self.parameters, self.buffers, self.buffer_dtype):
            raise NetworkMismatch(
                f"{path}: it keeps other running statistics than this bank; use the same module and buffer_dtype"
            )

    def _difference(self, found: "Header") -> str:
        """Say in what the network of a folder's masks differs from this one, and the way out."""
        if found.seed != self.seed:
            return f"one of seed {found.seed}, and this one has {self.seed}; build it with that seed"
        for what, theirs, ours in (
            ("maskable weights", dict(found.parameters), dict(self.parameters)),
            ("other parameters or constants", dict(found.unseeded), dict(self.unseeded)),
        ):
            lacking, more = ([*(set(a) - set(b))] for a, b in ((theirs, ours), (ours, theirs)))
            if lacking or more:
                sides = (f"without {min(lacking)!r}" if lacking else "", f"with {min(more)!r}" if more else "")
                return (
                    f"this one is {' and '.join(filter(None, sides))} among its {what}; build it with the same module"
                )
        for name, shape in self.parameters:
            if (theirs_shape := dict(found.parameters)[name]) != shape:
                return f"{name!r} is of shape {theirs_shape}, and this one's of {shape}; build it with the same module"
        if found.parameters != self.parameters:
            return "its weights came in another order; build this one with the same module"
        return (
            "its frozen weights have other values; build this one with the same init and dtype, on the state_dict of the "
            "module that they were learned with where the seed does not decide them"
        )


@dataclass(frozen=True)
class Shard:
    """One file of consecutive tasks."""

    file: str
    tasks: int
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """A manifest's content.

    Attributes:
        compact: whether the masks are entropy-coded.
    """

    header: Header
    compact: bool
    shards: tuple[Shard, ...]

    @property
    def tasks(self) -> int:
        """How many tasks all shards hold."""
        return sum(shard.tasks for shard in self.shards)

    def to_text(self) -> str:
        """Return the manifest as its file holds it."""
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            **self.header.to_json(),
            "compact": self.compact,
            "shards": [asdict(shard) for shard in self.shards],
        }
        return json.dumps({**content, _CHECKSUM: _checksum(content)}, indent=1) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a bank's folder.

    Raises:
        CorruptBank: there is none, or it is not as it was written.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise CorruptBank(f"{path}: there is no such file, so the folder is not a mask bank; check the path") from None
    except (ValueError, RecursionError) as error:
        raise CorruptBank(
            f"{path}: not readable as JSON ({error}); restore it from a copy, or keep its tasks by salvage()"
        ) from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise CorruptBank(f"{path}: not the manifest of a mask bank; check the path")
    if content.get("version") != _VERSION:
        raise CorruptBank(
            f"{path}: format version {content.get('version')}, this supsup-core reads version {_VERSION}; "
            "use the release that wrote it"
        )
    if content.pop(_CHECKSUM, None) not in (None, _checksum(content)):  # earlier releases wrote none
        raise CorruptBank(
            f"{path}: it does not match its checksum; restore it from a copy, or keep the bank's tasks by salvage()"
        )
    missing = {"fingerprint", "seed", "parameters", "buffers", "buffer_dtype", "compact", "shards"} - set(content)
    if missing:
        raise CorruptBank(f"{path}: {', '.join(sorted(missing))} missing; restore it from a copy")
    try:
        return _from_json(content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorruptBank(
            f"{path}: not as it was written ({type(error).__name__}: {error}); restore it from a copy"
        ) from None


def _from_json(content: dict[str, Any]) -> Manifest:
    """Return the manifest; whatever does not have the right shape raises."""
    parameters, buffers = (_named_shapes(content[key]) for key in ("parameters", "buffers"))
    dtypes = {name: dtype for dtype, name in BUFFER_DTYPES.items()}
    header = Header(
        content["fingerprint"].lower(),
        _whole(content["seed"]),
        parameters,
        buffers,
        dtypes[content["buffer_dtype"]],
        tuple((str(name), str(values)) for name, values in content.get("unseeded", ())),
    )
    shards = tuple(Shard(each["file"], _whole(each["tasks"]), _whole(each["bytes"])) for each in content["shards"])
    if not all(re.fullmatch(SHARD_NAME, shard.file) and shard.tasks > 0 for shard in shards):
        raise ValueError("a shard is a file of the same folder, with at least one task")
    if not isinstance(content["compact"], bool):
        raise TypeError("compact is true or false")
    return Manifest(header, content["compact"], shards)


def _named_shapes(content: Sequence[Sequence[Any]]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((str(name), tuple(_whole(axis) for axis in shape)) for name, shape in content)


def _whole(value: object) -> int:
    """Return a number from 0 up as JSON holds it: no text, no fraction, no infinity."""
    if type(value) is not int or value < 0:
        raise TypeError(f"{value!r} where a whole number belongs")
    return value


def _checksum(content: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(content).encode()):08x}"
