import math

import pytest
import torch
from supsup_core import CorruptBank, FrozenNetwork, MaskBank, bank_shards, byte_ledger, density_budget, top_k_mask
from torch import nn

from .networks import filled_bank, random_masks, small_network


@pytest.mark.parametrize("compact", [False, True])
def test_a_ledger_accounts_for_every_byte_of_the_folder(tmp_path, compact):
    net = FrozenNetwork(nn.Sequential(nn.Linear(70, 50), nn.BatchNorm1d(50, affine=False)), seed=0)
    bank = MaskBank(net, buffer_dtype=torch.float16)
    for task in range(5):
        generator = torch.Generator().manual_seed(task)
        scores = torch.randn(50, 70, generator=generator)
        bank.append({"0.weight": top_k_mask(scores, 70, key=task)}, net.fresh_buffers())
    bank.save(tmp_path, compact=compact)
    ledger = byte_ledger(tmp_path, net)
    assert ledger.total == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert ledger.buffers == bank.buffer_bytes == 5 * 100 * 2
    assert ledger.manifest == (tmp_path / "manifest.json").stat().st_size
    p = 70 / 3500
    assert math.isclose(ledger.order_0, 5 * 3500 * -(p * math.log2(p) + (1 - p) * math.log2(1 - p)) / 8)
    if compact:
        assert ledger.contexts < 1.1 * ledger.order_0  # five small masks: a few bytes each for the coder's state
    else:
        assert ledger.contexts == bank.context_bytes


def test_the_masks_of_a_sparse_network_take_their_entropy(tmp_path):
    module = nn.Sequential(nn.Conv2d(80, 160, 3, bias=False), nn.Conv2d(160, 160, 3, bias=False))
    net = FrozenNetwork(module, seed=0)
    budget = density_budget(net, 0.0014)
    bank = MaskBank(net)
    for task in range(20):
        generator = torch.Generator().manual_seed(task)
        scores = {entry.name: torch.rand(entry.shape, generator=generator) for entry in net.maskable}
        bank.append({name: top_k_mask(score, budget[name], key=task) for name, score in scores.items()})
    bank.save(tmp_path, compact=True)
    ledger = byte_ledger(tmp_path, net)
    assert ledger.contexts <= 1.03 * ledger.order_0
    assert ledger.bookkeeping <= 20 * 16 + 600  # a checksum and a place for each task, and one shard's header


def test_dense_masks_gain_nothing_by_coding(tmp_path):
    net = small_network()
    filled_bank(net, 3).save(tmp_path, compact=True)
    assert byte_ledger(tmp_path, net).contexts >= byte_ledger(tmp_path, net).order_0


def test_a_bank_that_is_saved_meanwhile_is_accounted_for_as_it_is_then(tmp_path, monkeypatch):
    net = small_network()
    bank, tensor_bytes = filled_bank(net, 3), bank_shards.tensor_bytes
    bank.save(tmp_path)

    def saving(path, shard):
        monkeypatch.setattr(bank_shards, "tensor_bytes", tensor_bytes)
        bank.append(random_masks(net, 9))
        bank.save(tmp_path)
        assert not path.exists()
        return tensor_bytes(path, shard)

    monkeypatch.setattr(bank_shards, "tensor_bytes", saving)
    ledger = byte_ledger(tmp_path, net)
    assert ledger.contexts == 4 * bank.row_bytes
    assert ledger.total == sum(path.stat().st_size for path in tmp_path.iterdir())
    (shard,) = tmp_path.glob("*.safetensors")
    shard.unlink()
    with pytest.raises(CorruptBank, match="it is missing"):
        byte_ledger(tmp_path, net)


@pytest.mark.parametrize("name", [".", "nowhere"])
def test_a_folder_that_is_no_bank_has_no_ledger(tmp_path, name):
    with pytest.raises(CorruptBank, match="there is no such file, so the folder is not a mask bank"):
        byte_ledger(tmp_path / name, small_network())
