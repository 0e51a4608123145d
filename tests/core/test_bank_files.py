import contextlib
import json
import shutil

import pytest
import torch
from supsup_core import (
    CorruptBank,
    FolderInUse,
    FrozenNetwork,
    MaskBank,
    NetworkMismatch,
    atomic_files,
    bank_files,
    keep_weights,
)
from torch import nn

from .networks import filled_bank, random_masks, small_network


def saved(folder, tasks=3):
    net = small_network()
    bank = filled_bank(net, tasks)
    bank.save(folder)
    return net, bank


def test_a_bank_comes_back_from_its_folder(tmp_path):
    net, bank = saved(tmp_path / "new" / "bank")
    again = MaskBank.open(tmp_path / "new" / "bank", net)
    assert torch.equal(again.rows, bank.rows)
    uniform = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert torch.equal(net.flatten(again.blend(uniform)), net.flatten(bank.blend(uniform)))


def test_an_empty_bank_comes_back_empty(tmp_path):
    net, _ = saved(tmp_path, tasks=0)
    assert len(MaskBank.open(tmp_path, net)) == 0


def test_saving_again_adds_new_tasks_and_touches_no_earlier_file(tmp_path):
    net, bank = saved(tmp_path)
    (shard,) = tmp_path.glob("*.safetensors")
    before = (shard.read_bytes(), shard.stat().st_mtime_ns)
    bank.save(tmp_path)
    bank.append(random_masks(net, 9))
    bank.save(tmp_path)
    assert (shard.read_bytes(), shard.stat().st_mtime_ns) == before
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    assert torch.equal(MaskBank.open(tmp_path, net).rows, bank.rows)


def test_a_large_bank_is_cut_into_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(bank_files, "_SHARD_BYTES", 40)  # two rows of 16 bytes
    net, bank = saved(tmp_path, tasks=5)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    assert torch.equal(MaskBank.open(tmp_path, net).rows, bank.rows)


def test_a_bank_is_refused_by_another_network(tmp_path):
    saved(tmp_path)
    with pytest.raises(
        NetworkMismatch, match=r"\(seed 0\), this one has .* \(seed 1\); build the network with the same"
    ):
        MaskBank.open(tmp_path, small_network(seed=1))


def test_a_bank_is_refused_where_other_parameters_are_maskable(tmp_path):
    module = nn.Linear(3, 3)
    MaskBank(FrozenNetwork(module, seed=0, init=keep_weights)).save(tmp_path)
    biases = FrozenNetwork(module, seed=0, init=keep_weights, select=lambda _, name: 3.0 if name == "bias" else None)
    with pytest.raises(NetworkMismatch):
        MaskBank.open(tmp_path, biases)


def test_a_bank_that_does_not_continue_the_folders_is_refused(tmp_path):
    net, _ = saved(tmp_path)
    other = filled_bank(net, 5, first_seed=50)
    with pytest.raises(FolderInUse, match="holds a bank of 3 tasks that this one of 5 does not continue"):
        other.save(tmp_path)
    with pytest.raises(FolderInUse, match="3 tasks that this one of 2"):
        filled_bank(net, 2).save(tmp_path)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(FolderInUse, match="it holds files that are not a mask bank"):
        saved(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_folders_place_is_left_alone(tmp_path):
    (tmp_path / "bank").write_text("precious")
    with pytest.raises(FolderInUse, match="it is a file"):
        saved(tmp_path / "bank")


def test_every_flipped_byte_of_a_mask_is_found_and_named(tmp_path):
    net, bank = saved(tmp_path)
    (shard,) = tmp_path.glob("*.safetensors")
    content = shard.read_bytes()
    start = content.index(bank.rows.numpy().tobytes())
    for position in range(start, start + bank.context_bytes):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        shard.write_bytes(damaged)
        task = (position - start) // bank.row_bytes
        with pytest.raises(CorruptBank, match=f"the bits of task {task} do not match their checksum"):
            MaskBank.open(tmp_path, net)


def test_a_flip_anywhere_else_in_a_shard_is_found(tmp_path):
    net, bank = saved(tmp_path)
    (shard,) = tmp_path.glob("*.safetensors")
    content = shard.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x01
        shard.write_bytes(damaged)
        try:
            again = MaskBank.open(tmp_path, net)
        except CorruptBank:
            continue
        assert torch.equal(again.rows, bank.rows), f"byte {position} changed a mask without notice"


@pytest.mark.parametrize("keep", [0, 1, 7, 100, -1])
def test_a_truncated_shard_is_found(tmp_path, keep):
    net, _ = saved(tmp_path)
    (shard,) = tmp_path.glob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(CorruptBank, match=r"masks-00000000-000003.safetensors: \d+ bytes where \d+ were written"):
        MaskBank.open(tmp_path, net)


def test_a_missing_shard_is_found(tmp_path):
    net, _ = saved(tmp_path)
    next(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(CorruptBank, match="the manifest names this file and it is missing"):
        MaskBank.open(tmp_path, net)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not readable as JSON"),
        (b"\xff\xfe", "not readable as JSON"),
        (b"[]", "not the manifest of a mask bank"),
        (b'{"format": "supsup-mask-bank", "version": 99}', "format version 99, this supsup-core reads version 1"),
        (
            b'{"format": "supsup-mask-bank", "version": 1, "seed": 0}',
            "buffer_dtype, buffers, fingerprint, parameters, shards missing",
        ),
    ],
)
def test_a_damaged_manifest_is_found(tmp_path, content, message):
    net, _ = saved(tmp_path)
    (tmp_path / bank_files.MANIFEST).write_bytes(content)
    with pytest.raises(CorruptBank, match=message):
        MaskBank.open(tmp_path, net)


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": None},
        {"parameters": 3},
        {"buffers": [["x"]]},
        {"buffer_dtype": "float8"},
        {"seed": None},
        {"shards": [{"name": "x"}]},
        {"shards": [{"file": "../elsewhere", "tasks": 1, "bytes": 1}]},
        {"shards": {}, "parameters": {"a": 1}},
    ],
)
def test_a_manifest_of_the_wrong_shape_is_named(tmp_path, changes):
    net, _ = saved(tmp_path)
    content = json.loads((tmp_path / bank_files.MANIFEST).read_text())
    (tmp_path / bank_files.MANIFEST).write_text(json.dumps(content | changes))
    with pytest.raises(CorruptBank, match=r"manifest\.json: not as it was written"):
        MaskBank.open(tmp_path, net)


def test_saving_after_each_task_reads_no_earlier_shard(tmp_path, monkeypatch):
    net, bank = saved(tmp_path)
    monkeypatch.setattr(bank_files, "_open_shard", lambda *_: pytest.fail("a shard was read"))
    for seed in range(10, 15):
        bank.append(random_masks(net, seed))
        bank.save(tmp_path)
    monkeypatch.undo()
    assert bank_files.stored_tasks(tmp_path) == 8
    assert torch.equal(MaskBank.open(tmp_path, net).rows, bank.rows)


def test_saving_notices_what_others_did_to_the_folder(tmp_path):
    net, bank = saved(tmp_path)
    shutil.rmtree(tmp_path)
    filled_bank(net, 2, first_seed=70).save(tmp_path)
    bank.append(random_masks(net, 9))
    with pytest.raises(FolderInUse):
        bank.save(tmp_path)


def test_a_folder_that_vanished_is_written_anew(tmp_path):
    net, bank = saved(tmp_path / "bank")
    shutil.rmtree(tmp_path / "bank")
    bank.save(tmp_path / "bank")
    assert torch.equal(MaskBank.open(tmp_path / "bank", net).rows, bank.rows)


def test_a_changed_task_is_not_taken_for_the_saved_one(tmp_path):
    net, bank = saved(tmp_path)
    bank.replace(1, random_masks(net, 9))
    with pytest.raises(FolderInUse, match="does not continue"):
        bank.save(tmp_path)
    bank.save(tmp_path / "elsewhere")
    assert torch.equal(MaskBank.open(tmp_path / "elsewhere", net).rows, bank.rows)


def test_a_folder_without_a_bank_is_refused(tmp_path):
    with pytest.raises(CorruptBank, match="there is no such file, so the folder is not a mask bank"):
        MaskBank.open(tmp_path, small_network())


class PowerCut(Exception):
    pass


@pytest.mark.parametrize("cut_at", range(12))
def test_a_crash_at_any_moment_of_saving_leaves_the_old_or_the_new_bank(tmp_path, monkeypatch, cut_at):
    net, bank = saved(tmp_path)
    bank.append(random_masks(net, 7))
    bank.append(random_masks(net, 8))
    calls = 0

    def cut(function):
        def wrapped(*arguments, **keywords):
            nonlocal calls
            calls += 1
            if calls > cut_at:
                raise PowerCut
            return function(*arguments, **keywords)

        return wrapped

    with monkeypatch.context() as patched:
        for name in ("fsync", "replace", "open", "close"):
            patched.setattr(atomic_files.os, name, cut(getattr(atomic_files.os, name)))
        with contextlib.suppress(PowerCut):
            bank.save(tmp_path)
    again = MaskBank.open(tmp_path, net)
    assert len(again) in (3, 5)
    assert torch.equal(again.rows, bank.rows[: len(again)])
    bank.save(tmp_path)
    assert torch.equal(MaskBank.open(tmp_path, net).rows, bank.rows)


def test_what_a_crash_before_the_first_manifest_left_is_no_obstacle(tmp_path):
    net = small_network()
    (tmp_path / "masks-00000000-000003.safetensors").write_bytes(b"torn")
    (tmp_path / ".manifest.json.77.partial").write_bytes(b"{")
    bank = filled_bank(net, 3)
    bank.save(tmp_path)
    assert torch.equal(MaskBank.open(tmp_path, net).rows, bank.rows)


def test_files_hold_no_pickle(tmp_path):
    saved(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    json.loads((tmp_path / bank_files.MANIFEST).read_text())
