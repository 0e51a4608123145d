"""Several savers of one folder: nothing that was acknowledged is lost, and what crashed savers left goes."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from supsup_core import CorruptBank, FolderInUse, MaskBank, bank_files, bank_shards, salvage

from .networks import random_masks, rewrite_manifest, saved, small_network

PATIENCE = 300.0  # seconds until something that must happen counts as never happening


def test_a_save_waits_for_another_and_then_finds_tasks_that_are_not_its_own(tmp_path, monkeypatch):
    net, first = saved(tmp_path)
    second = MaskBank.open(tmp_path, net)
    first.append(random_masks(net, 100))
    second.append(random_masks(net, 200))
    wrote, go_on, write_shard = threading.Event(), threading.Event(), bank_files._write_shard

    def pausing(*arguments):
        shard = write_shard(*arguments)
        wrote.set()
        assert go_on.wait(PATIENCE)
        return shard

    with ThreadPoolExecutor(2) as pool:
        monkeypatch.setattr(bank_files, "_write_shard", pausing)
        earlier = pool.submit(first.save, tmp_path)
        assert wrote.wait(PATIENCE)
        monkeypatch.setattr(bank_files, "_write_shard", write_shard)
        later = pool.submit(second.save, tmp_path)
        assert not later.done()
        go_on.set()
        earlier.result(PATIENCE)
        with pytest.raises(FolderInUse, match="a bank of 4 tasks that this one of 4 does not continue"):
            later.result(PATIENCE)
    assert torch.equal(MaskBank.open(tmp_path, net).rows, first.rows)


SAVER = """
import sys, time
from pathlib import Path
from supsup_core import FolderInUse, MaskBank
from tests.core.networks import random_masks, small_network

folder, number = Path(sys.argv[1]), int(sys.argv[2])
net = small_network()
while not (folder.parent / "go").exists():
    time.sleep(0.001)
for seed in range(1000 * number, 1000 * number + 15):
    bank = MaskBank.open(folder, net)
    bank.append(random_masks(net, seed))
    try:
        bank.save(folder)
    except FolderInUse:
        continue
    print(seed, flush=True)
"""


def test_processes_that_save_to_one_folder_lose_no_task_that_was_acknowledged(tmp_path):
    net, _ = saved(tmp_path / "bank", tasks=1)
    savers = [
        subprocess.Popen(
            [sys.executable, "-c", SAVER, tmp_path / "bank", str(number)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in (1, 2)
    ]
    (tmp_path / "go").touch()
    acknowledged = [int(seed) for saver in savers for seed in saver.communicate(timeout=PATIENCE)[0].split()]
    assert [saver.returncode for saver in savers] == [0, 0]
    bank = MaskBank.open(tmp_path / "bank", net)
    bank.check()
    kept = [tuple(bank.masks(task)["0.weight"].flatten().tolist()) for task in range(1, len(bank))]
    expected = {tuple(random_masks(net, seed)["0.weight"].flatten().tolist()) for seed in acknowledged}
    assert len(kept) == len(acknowledged) >= 15
    assert set(kept) == expected


def test_a_reader_whose_file_is_replaced_between_two_looks_reads_the_bank_of_after(tmp_path, monkeypatch):
    net, bank = saved(tmp_path)
    looks = []

    def replaced_meanwhile(path, framework):
        looks.append(path)
        if len(looks) == 1:
            bank.append(random_masks(net, 9))
            bank.save(tmp_path)
        return safe_open(path, framework=framework)

    monkeypatch.setattr(bank_shards, "safe_open", replaced_meanwhile)
    assert len(MaskBank.open(tmp_path, net)) == 4
    assert len(looks) == 2


def test_the_next_save_removes_what_crashed_ones_left(tmp_path):
    net, bank = saved(tmp_path)
    (shard,) = tmp_path.glob("*.safetensors")
    orphan = tmp_path / "masks-00000003-000002.safetensors"
    orphan.write_bytes(shard.read_bytes())
    for name in (f".{orphan.name}.0123abcd.partial", ".manifest.json.0123abcd.partial"):
        (tmp_path / name).write_bytes(b"cut off")
    (tmp_path / "notes.txt").write_text("mine")
    bank.save(tmp_path)  # nothing is new
    bank.append(random_masks(net, 9))
    bank.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "manifest.json",
        "masks-00000000-000004.safetensors",
        "notes.txt",
    ]


def test_a_folder_without_locks_can_be_saved_to(tmp_path, monkeypatch):
    def no_locks(file, operation):
        raise OSError(bank_files.errno.ENOLCK, os.strerror(bank_files.errno.ENOLCK))

    monkeypatch.setattr(bank_files.fcntl, "flock", no_locks)
    net, bank = saved(tmp_path)
    assert torch.equal(MaskBank.open(tmp_path, net).rows, bank.rows)


def test_salvage_finds_the_shards_of_a_manifest_that_names_others(tmp_path):
    net, bank = saved(tmp_path, tasks=5)
    (shard,) = tmp_path.glob("*.safetensors")
    named = {"file": "masks-00000000-000031.safetensors", "tasks": 5, "bytes": shard.stat().st_size}
    rewrite_manifest(tmp_path, shards=[named])
    with pytest.raises(CorruptBank, match="it is missing"):
        MaskBank.open(tmp_path, net)
    found = salvage(tmp_path, net)
    assert torch.equal(found.bank.rows, bank.rows)
    assert (found.tasks, found.lost) == ((0, 1, 2, 3, 4), ())


def test_salvage_takes_no_task_from_a_save_that_was_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(bank_files, "_SMALL_SHARD_BYTES", 0)
    net, _ = saved(tmp_path, tasks=4)
    longer = MaskBank.open(tmp_path, net)
    longer.append(random_masks(net, 77))

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bank_files, "Manifest", crash)
        with pytest.raises(KeyboardInterrupt):
            longer.save(tmp_path)
    (tmp_path / "masks-00000000-000004.safetensors").write_bytes(b"damaged")
    with pytest.raises(CorruptBank, match="no task of this network's masks is intact"):
        salvage(tmp_path, net)


def test_a_header_whose_places_are_damaged_costs_its_own_tasks_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(bank_files, "_SHARD_BYTES", 4 * 16)
    net, bank = saved(tmp_path, tasks=12)
    damaged = sorted(tmp_path.glob("*.safetensors"))[1]
    content = damaged.read_bytes()
    place = content.index(b'"data_offsets":[') + len(b'"data_offsets":[')
    comma = content.index(b",", place)
    damaged.write_bytes(content[:comma] + b"." + content[comma + 1 :])
    found = salvage(tmp_path, net)
    assert found.tasks == (0, 1, 2, 3, 8, 9, 10, 11)
    assert torch.equal(found.bank.rows, torch.cat([bank.rows[:4], bank.rows[8:]]))


@pytest.mark.parametrize("ask", [MaskBank.open, salvage])
def test_a_file_is_no_bank(tmp_path, ask):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CorruptBank, match="file"):
        ask(tmp_path / "file", small_network())
