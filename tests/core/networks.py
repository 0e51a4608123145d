"""Small networks and masks for the tests of core."""

import json
from pathlib import Path

import torch
from supsup_core import FrozenNetwork, MaskBank
from torch import nn


def small_network(seed: int = 0, dtype: torch.dtype = torch.float64) -> FrozenNetwork:
    layers = nn.Sequential(nn.Linear(7, 5, bias=False), nn.ReLU(), nn.Linear(5, 6, bias=False))
    return FrozenNetwork(layers, seed).to(dtype=dtype)


def random_masks(net: FrozenNetwork, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {entry.name: torch.rand(entry.shape, generator=generator) < 0.5 for entry in net.maskable}


def filled_bank(net: FrozenNetwork, tasks: int, first_seed: int = 0) -> MaskBank:
    bank = MaskBank(net)
    for task in range(tasks):
        bank.append(random_masks(net, first_seed + task))
    return bank


def saved(folder: Path, tasks: int = 3, *, compact: bool = False) -> tuple[FrozenNetwork, MaskBank]:
    net = small_network()
    bank = filled_bank(net, tasks)
    bank.save(folder, compact=compact)
    return net, bank


def inputs(images: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(images, 7, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def rewrite_manifest(folder: Path, **changes: object) -> None:
    """Write a manifest that says something else, as an earlier release would, which wrote no checksum."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text()) | changes
    del content["crc32"]
    path.write_text(json.dumps(content))
