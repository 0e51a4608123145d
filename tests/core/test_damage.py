"""Files that are not what was written: every damage is found and named, and what is intact can be kept."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from supsup_core import (
    CorruptBank,
    FolderInUse,
    FrozenNetwork,
    MaskBank,
    NetworkMismatch,
    bank_files,
    bank_manifest,
    bank_shards,
    salvage,
)
from torch import nn

from .networks import filled_bank, random_masks, rewrite_manifest, saved, small_network

both_forms = pytest.mark.parametrize("compact", [False, True])


def flips(path):
    """Yield each position of a file, with the file damaged there; it is whole again afterwards."""
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        yield position
    path.write_bytes(content)


def test_every_flipped_bit_of_a_mask_is_found_and_named_before_the_mask_is_used(tmp_path):
    net, bank = saved(tmp_path)
    (shard,) = tmp_path.glob("*.safetensors")
    start = shard.read_bytes().index(bank.rows.numpy().tobytes())
    for position in flips(shard):
        if not start <= position < start + bank.context_bytes:
            continue
        damaged = (position - start) // bank.row_bytes
        again = MaskBank.open(tmp_path, net)
        for task in range(3):
            if task != damaged:
                assert torch.equal(again.masks(task)["0.weight"], bank.masks(task)["0.weight"])
        named = f"the bits of task {damaged} do not match their checksum"
        with pytest.raises(CorruptBank, match=named):
            again.weights(damaged)
        with pytest.raises(CorruptBank, match=named):
            again.blend(torch.full((3,), 1 / 3, dtype=torch.float64))
        with pytest.raises(CorruptBank, match=named):
            again.blend(torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64))
        with pytest.raises(CorruptBank, match=named):
            again.slopes(dict(net.frozen))


@both_forms
def test_no_flip_anywhere_changes_a_mask_without_notice(tmp_path, compact):
    net, bank = saved(tmp_path, compact=compact)
    (shard,) = tmp_path.glob("*.safetensors")
    for position in flips(shard):
        try:
            rows = MaskBank.open(tmp_path, net).rows
        except CorruptBank:
            continue
        assert torch.equal(rows, bank.rows), f"byte {position} changed a mask without notice"


def test_no_flip_of_the_counts_changes_a_blend_without_notice(tmp_path, monkeypatch):
    monkeypatch.setattr(bank_shards, "_TASKS_WORTH_COUNTING", 3)
    net, bank = saved(tmp_path)
    uniform = torch.full((3,), 1 / 3, dtype=torch.float64)
    expected = net.flatten(bank.blend(uniform))
    (shard,) = tmp_path.glob("*.safetensors")
    for position in flips(shard):
        try:
            blended = net.flatten(MaskBank.open(tmp_path, net).blend(uniform))
        except CorruptBank:
            continue
        assert torch.equal(blended, expected), f"byte {position} changed a blend without notice"


def test_all_tasks_can_be_compared_with_their_checksums_at_once(tmp_path):
    net, bank = saved(tmp_path)
    MaskBank.open(tmp_path, net).check()
    bank.check()
    (shard,) = tmp_path.glob("*.safetensors")
    for position in flips(shard):
        if position == shard.stat().st_size - bank.row_bytes:
            with pytest.raises(CorruptBank, match="the bits of task 2 do not match"):
                MaskBank.open(tmp_path, net).check()


def test_a_task_is_compared_with_its_checksum_once(tmp_path, monkeypatch):
    net, _ = saved(tmp_path)
    again = MaskBank.open(tmp_path, net)
    again.slopes(dict(net.frozen))
    monkeypatch.setattr("supsup_core.checked_tasks.checksum", lambda *_: pytest.fail("compared again"))
    again.slopes(dict(net.frozen))
    again.weights(1)


@pytest.mark.parametrize("worth_counting", [3, 1000])
def test_a_damaged_task_can_be_replaced_and_removed(tmp_path, monkeypatch, worth_counting):
    monkeypatch.setattr(bank_shards, "_TASKS_WORTH_COUNTING", worth_counting)
    net, bank = saved(tmp_path)
    (shard,) = tmp_path.glob("*.safetensors")
    content = bytearray(shard.read_bytes())
    start = content.index(bank.rows.numpy().tobytes())
    content[start + bank.row_bytes] ^= 1
    content[start + 2 * bank.row_bytes] ^= 1
    shard.write_bytes(content)
    again = MaskBank.open(tmp_path, net)
    again.replace(2, random_masks(net, 2))
    again.remove(1)
    bank.remove(1)
    assert torch.equal(again.rows, bank.rows)
    uniform = torch.full((2,), 0.5, dtype=torch.float64)
    assert torch.equal(net.flatten(again.blend(uniform)), net.flatten(bank.blend(uniform)))


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
        (b"[" * 100_000, "not readable as JSON"),
        (b"[]", "not the manifest of a mask bank"),
        (b'{"format": "supsup-mask-bank", "version": 99}', "format version 99, this supsup-core reads version 2"),
        (
            b'{"format": "supsup-mask-bank", "version": 2, "seed": 0}',
            "buffer_dtype, buffers, compact, fingerprint, parameters, shards missing",
        ),
    ],
)
def test_a_damaged_manifest_is_found(tmp_path, content, message):
    net, _ = saved(tmp_path)
    (tmp_path / bank_manifest.MANIFEST).write_bytes(content)
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
        {"compact": "yes"},
        {"seed": math.inf},
        {"seed": "0"},
        {"parameters": [["0.weight", [5, 7.0]]]},
        {"shards": [{"file": "masks-00000000-000003.safetensors", "tasks": math.inf, "bytes": 1}]},
        {"shards": [{"file": "masks-00000000-000003.safetensors", "tasks": 0, "bytes": 1}]},
        {"shards": [{"file": "masks-0\0-3.safetensors", "tasks": 3, "bytes": 1}]},
        {"shards": [{"file": "masks-00000000-\ud800.safetensors", "tasks": 3, "bytes": 1}]},
        {"shards": [{"file": 300 * "a", "tasks": 3, "bytes": 1}]},
        {"shards": [{"file": None, "tasks": 3, "bytes": 1}]},
    ],
)
def test_a_manifest_of_the_wrong_shape_is_named(tmp_path, changes):
    net, _ = saved(tmp_path)
    rewrite_manifest(tmp_path, **changes)
    with pytest.raises(CorruptBank, match=r"manifest\.json: not as it was written"):
        MaskBank.open(tmp_path, net)


def test_a_manifest_that_counts_otherwise_than_the_shard_is_found(tmp_path):
    net, _ = saved(tmp_path)
    (shard,) = bank_manifest.read_manifest(tmp_path).shards
    rewrite_manifest(tmp_path, shards=[{**asdict(shard), "tasks": 4}])
    with pytest.raises(CorruptBank, match="does not match the manifest's 4 tasks"):
        MaskBank.open(tmp_path, net)


def test_a_shard_of_another_layout_is_found(tmp_path):
    net, _ = saved(tmp_path)
    (shard,) = bank_manifest.read_manifest(tmp_path).shards
    header = bank_manifest.Header.of(net, torch.float16)  # the file's statistics are float32
    with pytest.raises(CorruptBank, match="not the layout of a shard of this bank"):
        bank_shards.read_shard(tmp_path / shard.file, shard, header)


def test_a_bank_is_not_continued_in_a_damaged_folder(tmp_path):
    net, _ = saved(tmp_path)
    (shard,) = tmp_path.glob("*.safetensors")
    shard.write_bytes(shard.read_bytes().replace(b"crc32", b"crc33"))
    with pytest.raises(CorruptBank, match="not a shard of a mask bank"):
        filled_bank(net, 4).save(tmp_path)


@both_forms
def test_the_intact_tasks_of_a_damaged_bank_can_be_kept(tmp_path, compact):
    net, bank = saved(tmp_path, tasks=5, compact=compact)
    (shard,) = tmp_path.glob("*.safetensors")
    lost_somewhere, whole_files = set(), 0
    content = shard.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    of_tasks = json.loads(content[8:header])["streams" if compact else "rows"]["data_offsets"]
    for position in flips(shard):
        try:
            found = salvage(tmp_path, net)
        except CorruptBank:
            whole_files += 1  # the file's own header: nothing tells where the tasks lie
            continue
        assert set(found.tasks) | set(found.lost) == set(range(5))
        may_go = 1 if not compact or position - header in range(*of_tasks) else 5  # what all streams need is there too
        assert len(found.lost) <= may_go, f"byte {position} took {found.lost}"
        assert torch.equal(found.bank.rows, bank.rows[list(found.tasks)])
        lost_somewhere |= set(found.lost)
    assert lost_somewhere == set(range(5))
    assert whole_files <= header + (0 if not compact else 16 * 2)  # and the codec's table, where all streams need it


@both_forms
@pytest.mark.parametrize("lost_bytes", [17, 40])
def test_the_tasks_before_a_truncation_can_be_kept(tmp_path, compact, lost_bytes):
    net, bank = saved(tmp_path, tasks=5, compact=compact)
    (shard,) = tmp_path.glob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-lost_bytes])
    found = salvage(tmp_path, net)
    assert 0 < len(found.tasks) < 5
    assert torch.equal(found.bank.rows, bank.rows[list(found.tasks)])
    assert found.bank.append(random_masks(net, 9)) == len(found.tasks)


def test_tasks_can_be_kept_where_a_shard_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(bank_files, "_SHARD_BYTES", 2 * 16)
    net, bank = saved(tmp_path, tasks=5)
    sorted(tmp_path.glob("*.safetensors"))[1].unlink()
    found = salvage(tmp_path, net)
    assert (found.tasks, found.lost) == ((0, 1, 4), (2, 3))
    assert torch.equal(found.bank.rows, bank.rows[[0, 1, 4]])


@both_forms
@pytest.mark.parametrize("content", [None, b"", b"{"])
def test_all_tasks_can_be_kept_where_only_the_manifest_is_damaged(tmp_path, compact, content):
    net, bank = saved(tmp_path, compact=compact)
    (tmp_path / bank_manifest.MANIFEST).unlink()
    if content is not None:
        (tmp_path / bank_manifest.MANIFEST).write_bytes(content)
    found = salvage(tmp_path, net)
    assert (found.tasks, found.lost) == ((0, 1, 2), ())
    assert torch.equal(found.bank.rows, bank.rows)


def test_a_shard_left_by_a_crash_beside_its_successor_counts_once(tmp_path):
    net, bank = saved(tmp_path)
    (shard,) = tmp_path.glob("*.safetensors")
    content = shard.read_bytes()
    bank.append(random_masks(net, 9))
    bank.save(tmp_path)
    shard.write_bytes(content)
    (tmp_path / bank_manifest.MANIFEST).write_bytes(b"torn")
    found = salvage(tmp_path, net)
    assert found.tasks == (0, 1, 2, 3)
    assert torch.equal(found.bank.rows, bank.rows)


def test_float16_statistics_are_kept_where_the_manifest_is_damaged(tmp_path):
    net = FrozenNetwork(nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5, affine=False)), seed=0)
    filled = MaskBank(net, buffer_dtype=torch.float16)
    filled.append(random_masks(net, 0), net.fresh_buffers())
    filled.save(tmp_path)
    (tmp_path / bank_manifest.MANIFEST).unlink()
    assert salvage(tmp_path, net).bank.buffers.dtype == torch.float16


def test_another_networks_tasks_are_not_kept(tmp_path):
    saved(tmp_path)
    with pytest.raises(NetworkMismatch):
        salvage(tmp_path, small_network(seed=1))
    (tmp_path / bank_manifest.MANIFEST).unlink()
    with pytest.raises(CorruptBank, match="no task of this network's masks is intact in it"):
        salvage(tmp_path, small_network(seed=1))


def test_a_folder_that_is_not_there_holds_nothing_to_keep(tmp_path):
    with pytest.raises(CorruptBank, match="there is no such folder"):
        salvage(tmp_path / "nowhere", small_network())


def test_a_file_with_a_name_of_ours_and_another_content_is_passed_over(tmp_path):
    net, _ = saved(tmp_path)
    (tmp_path / bank_manifest.MANIFEST).unlink()
    (tmp_path / "masks-none.safetensors").write_bytes(b"")
    (tmp_path / "masks-00000009-000001.safetensors").write_bytes(b"short")
    assert salvage(tmp_path, net).tasks == (0, 1, 2)


def test_every_flipped_bit_of_a_manifest_is_found_and_costs_no_task(tmp_path):
    net, bank = saved(tmp_path)
    for _ in flips(tmp_path / bank_manifest.MANIFEST):
        try:
            opened = MaskBank.open(tmp_path, net)
        except CorruptBank:
            pass
        else:
            assert torch.equal(opened.rows, bank.rows), "the checksum's own name, or a space"
        found = salvage(tmp_path, net)
        assert torch.equal(found.bank.rows, bank.rows)
        assert (found.tasks, found.lost) == ((0, 1, 2), ())


def test_a_folder_in_the_place_of_a_manifest_is_none(tmp_path):
    net, bank = saved(tmp_path)
    (tmp_path / bank_manifest.MANIFEST).unlink()
    (tmp_path / bank_manifest.MANIFEST).mkdir()
    with pytest.raises(CorruptBank, match="the folder is not a mask bank"):
        MaskBank.open(tmp_path, net)
    assert torch.equal(salvage(tmp_path, net).bank.rows, bank.rows)


CHANGES = {
    "fractions": lambda array: array.astype(np.float64),
    "one number": lambda array: array.reshape(-1)[:1].reshape(()),
    "another axis": lambda array: array[None],
    "nothing": lambda array: array.reshape(-1)[:0],
    "huge": lambda array: np.full_like(array, 2**62) if array.dtype == np.int64 else array,
    "below zero": lambda array: np.full_like(array, -1) if array.dtype == np.int64 else array,
}


@both_forms
@pytest.mark.parametrize("change", CHANGES)
def test_a_shard_that_somebody_wrote_otherwise_is_refused_as_a_damaged_one_is(tmp_path, compact, change):
    net = FrozenNetwork(nn.Sequential(nn.Linear(9, 8), nn.BatchNorm1d(8, affine=False)), seed=0)
    bank = MaskBank(net)
    for task in range(3):
        bank.append(random_masks(net, task), net.fresh_buffers(), name=f"task {task}")
    bank.save(tmp_path, compact=compact)
    (path,) = tmp_path.glob("*.safetensors")
    written = path.read_bytes()
    (shard,) = bank_manifest.read_manifest(tmp_path).shards
    metadata = {"bank": bank_manifest.Header.of(net, torch.float32).digest}
    for name, array in load(written).items():
        other = np.array(CHANGES[change](array), order="C")
        content = save({**load(written), name: other}, metadata=metadata)
        path.write_bytes(content)
        rewrite_manifest(tmp_path, shards=[{**asdict(shard), "bytes": len(content)}], crc32=None)
        for ask in (lambda: MaskBank.open(tmp_path, net).check(), lambda: bank.save(tmp_path, compact=compact)):
            try:
                ask()
            except (CorruptBank, FolderInUse):
                continue
        try:
            found = salvage(tmp_path, net)
        except CorruptBank:
            continue
        for place, task in enumerate(found.tasks):
            assert torch.equal(found.bank.rows[place], bank.rows[task])


def test_files_that_are_not_a_banks_own_stay_whatever_they_are_called(tmp_path):
    net = small_network()
    foreign = [tmp_path / name for name in ("masks-segmentation.safetensors", "video.mp4.partial")]
    for path in foreign:
        path.write_bytes(b"mine")
    with pytest.raises(FolderInUse, match="it holds files that are not a mask bank"):
        filled_bank(net, 1).save(tmp_path)
    folder = tmp_path / "bank"
    bank = filled_bank(net, 1)
    bank.save(folder)
    own = [folder / name for name in ("masks-backup-of-monday.safetensors", "video.mp4.partial")]
    for path in own:
        path.write_bytes(b"mine")
    (folder / "masks-00000000-000009.safetensors").mkdir()
    bank.append(random_masks(net, 9))
    bank.save(folder)
    assert len(MaskBank.open(folder, net)) == 2
    assert [path.read_bytes() for path in (*foreign, *own)] == [b"mine"] * 4


def test_tasks_whose_manifest_is_gone_are_not_lost_to_a_bank_that_lacks_them(tmp_path):
    net, bank = saved(tmp_path, 6)
    (tmp_path / bank_manifest.MANIFEST).unlink()
    for other in (filled_bank(net, 1, first_seed=50), filled_bank(net, 1), filled_bank(small_network(seed=1), 9)):
        with pytest.raises(FolderInUse, match=r"holds tasks that this bank does not, and their manifest\.json is gone"):
            other.save(tmp_path)
    assert salvage(tmp_path, net).tasks == tuple(range(6))
    bank.append(random_masks(net, 6))
    bank.save(tmp_path)
    assert torch.equal(MaskBank.open(tmp_path, net).rows, bank.rows)


def test_what_is_in_the_place_of_a_folder_above_is_told(tmp_path):
    (tmp_path / "afile").write_text("")
    with pytest.raises(FolderInUse, match="afile is a file; a bank is a folder"):
        filled_bank(small_network(), 1).save(tmp_path / "afile" / "bank")


def test_numbers_of_tasks_that_are_nonsense_do_not_keep_salvage_from_the_rest(tmp_path):
    net, bank = saved(tmp_path)
    (shard,) = tmp_path.glob("*.safetensors")
    (tmp_path / "masks-9999999999-000003.safetensors").write_bytes(shard.read_bytes())
    rewrite_manifest(tmp_path, tasks=10**12)
    found = salvage(tmp_path, net)
    assert (found.tasks, found.lost) == ((0, 1, 2), ())
    (tmp_path / bank_manifest.MANIFEST).unlink()
    found = salvage(tmp_path, net)
    assert (found.tasks, found.lost) == ((0, 1, 2), ())
    assert torch.equal(found.bank.rows, bank.rows)


def header_of(change):
    """Return a shard whose header was changed, with the rest of it."""

    def changed(content):
        size = int.from_bytes(content[:8], "little")
        header = change(content[8 : 8 + size])
        return len(header).to_bytes(8, "little") + header + content[8 + size :]

    return changed


def with_end(end):
    def change(header):
        fields = json.loads(header)
        fields["rows"]["data_offsets"][1] = end
        return json.dumps(fields).encode()

    return change


@pytest.mark.parametrize(
    "change",
    [with_end(10**15), with_end(10**30), lambda header: b'{"__metadata__":' + b"[" * 100_000 + header],
    ids=["much", "more than any number", "deep"],
)
def test_a_shard_that_promises_nonsense_does_not_keep_salvage_from_the_others(tmp_path, monkeypatch, change):
    monkeypatch.setattr(bank_files, "_SHARD_BYTES", 2 * filled_bank(small_network(), 0).row_bytes)
    net, bank = saved(tmp_path, 4)
    first, _ = sorted(tmp_path.glob("*.safetensors"))
    first.write_bytes(header_of(change)(first.read_bytes()))
    found = salvage(tmp_path, net)
    assert (found.tasks, found.lost) == ((2, 3), (0, 1))
    assert torch.equal(found.bank.rows, bank.rows[2:])


def test_counts_of_another_length_are_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(bank_shards, "_TASKS_WORTH_COUNTING", 3)
    net, _ = saved(tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    (shard,) = bank_manifest.read_manifest(tmp_path).shards
    tensors = load(path.read_bytes())
    for length in (1, 20):
        counts = np.ones(length, dtype=np.uint16)
        crc = np.array([bank_shards.checksum(torch.from_numpy(counts))], dtype=np.uint32)
        content = save(
            {**tensors, "counts": counts, "counts_crc32": crc},
            metadata={"bank": bank_manifest.Header.of(net, torch.float32).digest},
        )
        path.write_bytes(content)
        rewrite_manifest(tmp_path, shards=[{**asdict(shard), "bytes": len(content)}], crc32=None)
        with pytest.raises(CorruptBank, match="its counts do not match"):
            MaskBank.open(tmp_path, net)
