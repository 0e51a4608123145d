"""A save cut short at any of its moments, by a power cut or a full disk: the folder holds the old bank or the new one."""

import contextlib
import os

import pytest
import torch
from supsup_core import MaskBank, atomic_files, bank_files

from .networks import filled_bank, random_masks, saved, small_network

both_forms = pytest.mark.parametrize("compact", [False, True])


class PowerCut(Exception):
    pass


@both_forms
@pytest.mark.parametrize("cut_at", range(16))
def test_a_crash_at_any_moment_of_saving_leaves_the_old_or_the_new_bank(tmp_path, monkeypatch, cut_at, compact):
    net, bank = saved(tmp_path, compact=compact)
    bank.append(random_masks(net, 7))
    bank.append(random_masks(net, 8))
    calls, opened, open_file, close_file = 0, set[int](), os.open, os.close

    def cut(function):
        def wrapped(*arguments, **keywords):
            nonlocal calls
            calls += 1
            if calls > cut_at:
                raise PowerCut
            result = function(*arguments, **keywords)
            if function is open_file:
                opened.add(result)
            elif function is close_file:
                opened.discard(*arguments)
            return result

        return wrapped

    with monkeypatch.context() as patched:
        for name in ("fsync", "replace", "open", "close", "unlink"):
            patched.setattr(atomic_files.os, name, cut(getattr(atomic_files.os, name)))
        with contextlib.suppress(PowerCut):
            bank.save(tmp_path, compact=compact)
    for file in opened:  # as the kernel does for a process that ends
        os.close(file)
    again = MaskBank.open(tmp_path, net)
    assert len(again) in (3, 5)
    assert torch.equal(again.rows, bank.rows[: len(again)])
    bank.save(tmp_path, compact=compact)
    assert torch.equal(MaskBank.open(tmp_path, net).rows, bank.rows)


def test_what_a_crash_before_the_first_manifest_left_is_no_obstacle(tmp_path):
    net = small_network()
    (tmp_path / "masks-00000000-000003.safetensors").write_bytes(b"torn")
    (tmp_path / ".manifest.json.77.partial").write_bytes(b"{")
    bank = filled_bank(net, 3)
    bank.save(tmp_path)
    assert torch.equal(MaskBank.open(tmp_path, net).rows, bank.rows)


@pytest.mark.parametrize("fails_at", [0, 1, 2, 3])
@pytest.mark.parametrize("begun", [False, True])
def test_a_save_without_space_leaves_nothing_in_its_way(tmp_path, monkeypatch, fails_at, begun):
    net, bank = saved(tmp_path) if begun else (small_network(), filled_bank(small_network(), 3))
    before = sorted(tmp_path.iterdir())
    for task in range(6):
        bank.append(random_masks(net, 10 + task))
    monkeypatch.setattr(bank_files, "_SHARD_BYTES", 3 * bank.row_bytes)
    write, written = bank_files.replace_file, []

    def on_a_full_disk(path, content):
        if len(written) == fails_at:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        write(path, content)

    monkeypatch.setattr(bank_files, "replace_file", on_a_full_disk)
    files = 3 if begun else 4  # shards of three tasks, and the manifest
    if fails_at < files:
        with pytest.raises(OSError, match="No space left"):
            bank.save(tmp_path)
        assert sorted(tmp_path.iterdir()) == before
        assert len(written) == fails_at
    monkeypatch.setattr(bank_files, "replace_file", write)
    bank.save(tmp_path)
    assert len(MaskBank.open(tmp_path, net)) == 9


def test_a_manifest_that_was_written_keeps_its_shards_whatever_fails_then(tmp_path, monkeypatch):
    net, bank = saved(tmp_path)
    bank.append(random_masks(net, 9))
    write = bank_files.replace_file

    def and_then_fails(path, content):
        write(path, content)
        if path.name == "manifest.json":
            raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(bank_files, "replace_file", and_then_fails)
    with pytest.raises(OSError, match="Input/output error"):
        bank.save(tmp_path)
    assert len(MaskBank.open(tmp_path, net)) == 4
