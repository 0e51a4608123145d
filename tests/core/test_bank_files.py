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
    bank_files,
    bank_manifest,
    bank_shards,
    byte_ledger,
    kaiming_normal,
    keep_weights,
    mask_counts,
)
from torch import nn

from .networks import filled_bank, random_masks, rewrite_manifest, saved, small_network

both_forms = pytest.mark.parametrize("compact", [False, True])


@both_forms
def test_a_bank_comes_back_from_its_folder(tmp_path, compact):
    net, bank = saved(tmp_path / "new" / "bank", compact=compact)
    again = MaskBank.open(tmp_path / "new" / "bank", net)
    assert torch.equal(again.rows, bank.rows)
    uniform = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert torch.equal(net.flatten(again.blend(uniform)), net.flatten(bank.blend(uniform)))


@both_forms
def test_an_empty_bank_comes_back_empty(tmp_path, compact):
    net, _ = saved(tmp_path, tasks=0, compact=compact)
    assert len(MaskBank.open(tmp_path, net)) == 0


@both_forms
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_running_statistics_come_back_to_the_bit(tmp_path, compact, dtype):
    net = FrozenNetwork(nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5, affine=False)), seed=0)
    bank = MaskBank(net, buffer_dtype=dtype)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        statistics = {entry.name: torch.rand(entry.shape, generator=generator) for entry in net.task_buffers}
        bank.append(random_masks(net, seed), statistics)
    bank.save(tmp_path, compact=compact)
    again = MaskBank.open(tmp_path, net)
    assert torch.equal(again.buffers, bank.buffers)
    assert torch.equal(again.weights(2)["1.running_var"], bank.weights(2)["1.running_var"])


@both_forms
def test_a_bank_saved_after_each_task_is_the_bank_saved_at_once(tmp_path, compact):
    net = small_network()
    bank = MaskBank(net)
    for seed in range(40):
        bank.append(random_masks(net, seed))
        bank.save(tmp_path, compact=compact)
    assert torch.equal(MaskBank.open(tmp_path, net).rows, bank.rows)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1  # small shards are written together


def test_masks_with_much_in_common_come_back(tmp_path):
    net = FrozenNetwork(nn.Linear(100, 90), seed=0)
    shared = torch.rand(90, 100, generator=torch.Generator().manual_seed(0)) < 0.05
    bank = MaskBank(net)
    for seed in range(10):
        own = torch.rand(90, 100, generator=torch.Generator().manual_seed(seed)) < 0.001
        bank.append({"weight": shared | own})
    bank.save(tmp_path, compact=True)
    assert torch.equal(MaskBank.open(tmp_path, net).rows, bank.rows)
    assert byte_ledger(tmp_path, net).contexts < 0.5 * byte_ledger(tmp_path, net).order_0


def shard_sizes(folder):
    return [shard.tasks for shard in bank_manifest.read_manifest(folder).shards]


def test_each_task_is_written_again_only_as_its_shard_doubles(tmp_path, monkeypatch):
    monkeypatch.setattr(bank_files, "_SMALL_SHARD_BYTES", 0)
    monkeypatch.setattr(bank_files, "_SHARD_BYTES", 16 * 16)  # 16 rows of 16 bytes
    net = small_network()
    bank, written = MaskBank(net), 0
    for tasks in range(1, 51):
        bank.append(random_masks(net, tasks))
        before = set(tmp_path.glob("*.safetensors"))
        bank.save(tmp_path)
        new = set(tmp_path.glob("*.safetensors")) - before
        written += sum(int(path.stem.split("-")[2]) for path in new)
    assert shard_sizes(tmp_path) == [16, 16, 16, 2]
    assert written <= 50 * 5  # a task's shard doubles four times, from 1 to 16
    assert torch.equal(MaskBank.open(tmp_path, net).rows, bank.rows)


def test_files_of_full_shards_are_never_touched_again(tmp_path, monkeypatch):
    monkeypatch.setattr(bank_files, "_SHARD_BYTES", 3 * 16)
    net, bank = saved(tmp_path)
    (shard,) = tmp_path.glob("*.safetensors")
    before = (shard.read_bytes(), shard.stat().st_mtime_ns)
    bank.save(tmp_path)
    for seed in range(5):
        bank.append(random_masks(net, seed))
        bank.save(tmp_path)
    assert (shard.read_bytes(), shard.stat().st_mtime_ns) == before
    assert shard_sizes(tmp_path) == [3, 3, 2]


def test_an_open_bank_goes_on_when_its_files_are_merged_and_deleted(tmp_path):
    net, bank = saved(tmp_path)
    mapped = MaskBank.open(tmp_path, net)
    bank.append(random_masks(net, 9))
    bank.save(tmp_path)
    assert shard_sizes(tmp_path) == [4]
    assert torch.equal(mapped.rows, bank.rows[:3])


def test_a_mapped_bank_is_saved_on_to_its_own_folder(tmp_path):
    net, bank = saved(tmp_path)
    mapped = MaskBank.open(tmp_path, net)
    for grown in (mapped, bank):
        grown.append(random_masks(net, 9))
    mapped.save(tmp_path)
    assert torch.equal(MaskBank.open(tmp_path, net).rows, bank.rows)


def test_changing_a_mapped_bank_leaves_its_files_alone(tmp_path):
    net, bank = saved(tmp_path)
    content = {path: path.read_bytes() for path in tmp_path.iterdir()}
    mapped = MaskBank.open(tmp_path, net)
    mapped.replace(0, random_masks(net, 9))
    mapped.remove(1)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == content
    bank.replace(0, random_masks(net, 9))
    bank.remove(1)
    assert torch.equal(mapped.rows, bank.rows)


def test_a_large_shard_holds_its_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(bank_shards, "_TASKS_WORTH_COUNTING", 3)
    monkeypatch.setattr(bank_files, "_SHARD_BYTES", 4 * 16)
    net, bank = saved(tmp_path, tasks=9)  # shards of 4, 4 and 1: the last has no counts
    counted = []
    counting = mask_counts.count_ones
    monkeypatch.setattr(mask_counts, "count_ones", lambda rows, bits: counted.append(len(rows)) or counting(rows, bits))
    uniform = torch.full((9,), 1 / 9, dtype=torch.float64)
    blended = MaskBank.open(tmp_path, net).blend(uniform)
    assert counted == [1]
    assert torch.equal(net.flatten(blended), net.flatten(bank.blend(uniform)))


@both_forms
def test_the_two_forms_do_not_mix(tmp_path, compact):
    net, bank = saved(tmp_path, compact=compact)
    bank.append(random_masks(net, 9))
    with pytest.raises(FolderInUse, match=f"it holds a bank with compact={compact}; save it so"):
        MaskBank.save(filled_bank(net, 4), tmp_path, compact=not compact)


def test_a_reader_that_meets_a_save_reads_the_bank_of_after(tmp_path, monkeypatch):
    net, bank = saved(tmp_path)
    read_shard, saves = bank_files.read_shard, []

    def interrupted(path, shard, header):
        if not saves:
            saves.append(bank.append(random_masks(net, 9)))
            bank.save(tmp_path)  # deletes the shard that was about to be read
        return read_shard(path, shard, header)

    monkeypatch.setattr(bank_files, "read_shard", interrupted)
    assert len(MaskBank.open(tmp_path, net)) == 4


def test_a_bank_is_refused_by_another_network(tmp_path):
    saved(tmp_path)
    with pytest.raises(NetworkMismatch, match="belong to another network: one of seed 0, and this one has 1; build it"):
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


def test_saving_after_each_task_reads_no_shard(tmp_path, monkeypatch):
    net, bank = saved(tmp_path)
    monkeypatch.setattr(bank_shards, "_mapped", lambda *_: pytest.fail("a shard was read"))
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


def test_files_hold_no_pickle(tmp_path):
    saved(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    json.loads((tmp_path / bank_manifest.MANIFEST).read_text())


class Classified(nn.Module):
    """A layer, and a parameter of its own that no seed decides."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(8))
        self.layer = nn.Linear(8, 6)

    def forward(self, x):
        return self.layer(x + self.token)


def test_a_bank_says_which_parameters_that_no_seed_decides_had_other_values(tmp_path):
    torch.manual_seed(0)
    module = Classified()
    filled_bank(FrozenNetwork(module, seed=0), 2).save(tmp_path)
    another = Classified()
    with pytest.raises(NetworkMismatch, match=r"a network where 'token' had other values, .*; load the state_dict"):
        MaskBank.open(tmp_path, FrozenNetwork(another, seed=0))
    with pytest.raises(NetworkMismatch, match="one of seed 0, and this one has 1; build it with that seed"):
        MaskBank.open(tmp_path, FrozenNetwork(another, seed=1))
    another.load_state_dict(module.state_dict())
    assert len(MaskBank.open(tmp_path, FrozenNetwork(another, seed=0))) == 2
    # The manifest of a bank that was written before it named them.
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [name for name, _ in manifest["unseeded"]] == ["token", "layer.bias"]
    rewrite_manifest(tmp_path, unseeded=[])
    assert len(MaskBank.open(tmp_path, FrozenNetwork(module, seed=0))) == 2
    with pytest.raises(NetworkMismatch, match="its masks belong to another network"):
        MaskBank.open(tmp_path, FrozenNetwork(Classified(), seed=0))


@both_forms
def test_the_bank_that_wrote_a_folder_cannot_change_its_form_either(tmp_path, compact):
    net, bank = saved(tmp_path, compact=compact)
    for _ in range(2):
        with pytest.raises(FolderInUse, match=f"it holds a bank with compact={compact}; save it so"):
            bank.save(tmp_path, compact=not compact)
        bank.append(random_masks(net, 9))
    bank.save(tmp_path, compact=compact)
    assert len(MaskBank.open(tmp_path, net)) == 5


def lenet(*, hidden=12, bias=False, seed=0, **keywords):
    layers = nn.Sequential(nn.Linear(8, hidden, bias=bias), nn.ReLU(), nn.Linear(hidden, 5, bias=False))
    return FrozenNetwork(layers, seed, **keywords)


@pytest.mark.parametrize(
    ("net", "difference"),
    [
        (lenet(seed=3), "one of seed 0, and this one has 3; build it with that seed"),
        (
            lenet(hidden=13),
            r"'0.weight' is of shape \(12, 8\), and this one's of \(13, 8\); build it with the same module",
        ),
        (lenet(bias=True), "this one is with '0.bias' among its other parameters or constants; build it"),
        (
            FrozenNetwork(nn.Sequential(nn.Flatten(), *lenet().module), 0),
            "without '0.weight' and with '1.weight' among",
        ),
        (
            FrozenNetwork(nn.Sequential(nn.Linear(8, 12, bias=False)), 0),
            "this one is without '2.weight' among its maskable",
        ),
        (
            lenet(init=kaiming_normal),
            "its frozen weights have other values; build this one with the same init and dtype",
        ),
    ],
)
def test_a_bank_says_in_what_a_network_is_not_its_own(tmp_path, net, difference):
    filled_bank(lenet(), 2).save(tmp_path)
    with pytest.raises(NetworkMismatch, match=difference):
        MaskBank.open(tmp_path, net)


def test_an_entropy_coded_bank_saved_after_each_task_codes_each_a_few_times(tmp_path, monkeypatch):
    net = FrozenNetwork(nn.Linear(200, 200, bias=False), 0)
    bank, coded, shard_bytes = MaskBank(net), [], bank_files.shard_bytes

    def counting(header, rows, *rest, **keywords):
        coded.append(len(rows))
        return shard_bytes(header, rows, *rest, **keywords)

    monkeypatch.setattr(bank_files, "shard_bytes", counting)
    monkeypatch.setattr(bank_files, "_SMALL_SHARD_BYTES", 4 * bank.row_bytes)
    for task in range(64):
        bank.append({"weight": torch.zeros(200, 200, dtype=torch.bool).index_fill(0, torch.tensor(task), True)})
        bank.save(tmp_path, compact=True)
    assert sum(coded) <= 64 * 8, "a shard is coded again as it doubles, and not at each save"
    assert torch.equal(MaskBank.open(tmp_path, net).rows, bank.rows)
