"""What a bank's folder says of itself: the network that its masks belong to, and the shards that hold them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from supsup_core.errors import CorruptBank, NetworkMismatch
from supsup_core.frozen_network import FrozenNetwork

MANIFEST = "manifest.json"
_FORMAT = "supsup-mask-bank"
_VERSION = 2
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
                    "state_dict of the module that they were learned with, and build the network on that"
                )
            raise NetworkMismatch(
                f"{path}: its masks belong to a network with fingerprint {found.fingerprint[:12]} (seed {found.seed}), "
                f"this one has {self.fingerprint[:12]} (seed {self.seed}); build the network with the same module, "
                "seed and dtype"
            )
        # The fingerprint covers the parameters too; that they differ means that somebody edited the manifest.
        if (found.parameters, found.buffers, found.buffer_dtype) != (self.parameters, self.buffers, self.buffer_dtype):
            raise NetworkMismatch(
                f"{path}: it keeps other running statistics than this bank; use the same module and buffer_dtype"
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
        return json.dumps(content, indent=1) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a bank's folder.

    Raises:
        CorruptBank: there is none, or it is not as it was written.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise CorruptBank(f"{path}: there is no such file, so the folder is not a mask bank; check the path") from None
    except ValueError as error:
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
        int(content["seed"]),
        parameters,
        buffers,
        dtypes[content["buffer_dtype"]],
        tuple((str(name), str(values)) for name, values in content.get("unseeded", ())),
    )
    shards = tuple(Shard(str(each["file"]), int(each["tasks"]), int(each["bytes"])) for each in content["shards"])
    if any(Path(shard.file).name != shard.file or shard.tasks < 1 for shard in shards):
        raise ValueError("a shard is a file of the same folder, with at least one task")
    if not isinstance(content["compact"], bool):
        raise TypeError("compact is true or false")
    return Manifest(header, content["compact"], shards)


def _named_shapes(content: Sequence[Sequence[Any]]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((str(name), tuple(int(axis) for axis in shape)) for name, shape in content)
