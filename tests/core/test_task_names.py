"""Names of tasks: unique, moved with their tasks, written with the masks, and never wrong without notice."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from safetensors import safe_open
from supsup_core import CorruptBank, FolderInUse, InvalidArgument, MaskBank, salvage
from supsup_core.task_names import from_bytes, to_bytes

from .networks import random_masks, small_network

both_forms = pytest.mark.parametrize("compact", [False, True])
NAMES = ("alma", None, "zoë 2", "任务", None)
texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)


def named_bank(names=NAMES):
    net = small_network()
    bank = MaskBank(net)
    for seed, name in enumerate(names):
        bank.append(random_masks(net, seed), name=name)
    return net, bank


@given(st.lists(st.none() | texts, min_size=1))
def test_names_come_back_from_their_bytes(names):
    assert from_bytes(*to_bytes(tuple(names))) == tuple(names)


@pytest.mark.parametrize(("text", "ends"), [(b"abc", [1, 2]), (b"abc", [4]), (b"abc", [2, 1, 3]), (b"abc", [-1, 3])])
def test_what_no_names_gave_is_refused(text, ends):
    with pytest.raises(ValueError, match="do not lie in their text"):
        from_bytes(text, ends)


@both_forms
def test_names_are_written_with_the_masks_and_continued(tmp_path, compact):
    net, bank = named_bank()
    bank.save(tmp_path, compact=compact)
    again = MaskBank.open(tmp_path, net)
    assert tuple(again.names) == NAMES
    assert again.names.index("任务") == 3
    again.append(random_masks(net, 9), name="last")
    again.save(tmp_path, compact=compact)
    assert tuple(MaskBank.open(tmp_path, net).names) == (*NAMES, "last")


def test_a_name_stays_with_its_task_when_others_go():
    net, bank = named_bank()
    masks = bank.masks(bank.names.index("任务"))
    bank.remove(1)
    bank.remove(bank.names.index("alma"))
    assert tuple(bank.names) == ("zoë 2", "任务", None)
    assert all(torch.equal(mask, masks[name]) for name, mask in bank.masks(bank.names.index("任务")).items())
    bank.replace(bank.names.index("zoë 2"), random_masks(net, 7))
    assert bank.names.index("zoë 2") == 0
    assert bank.append(random_masks(net, 8), name="alma") == 3, "what is gone may come again"
    assert list(bank.to(net).names) == list(bank.names)


@given(st.data())
def test_a_bank_is_a_list_of_named_tasks(data):
    net = small_network()
    bank, model = MaskBank(net), []
    for step in range(data.draw(st.integers(1, 12))):
        if model and data.draw(st.booleans()):
            place = data.draw(st.integers(0, len(model) - 1))
            bank.remove(place)
            del model[place]
        else:
            name = data.draw(
                st.none() | st.sampled_from([name for name in "abcdef" if (name not in dict(model))] or [None])
            )
            bank.append(random_masks(net, step), name=name)
            model.append((name, step))
        assert tuple(bank.names) == tuple(name for name, _ in model)
        for place, (name, seed) in enumerate(model):
            assert name is None or bank.names.index(name) == place
            expected = random_masks(net, seed)
            assert all(torch.equal(mask, expected[layer]) for layer, mask in bank.masks(place).items())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("alma", "name='alma': another task has it; choose another, or remove that task"),
        ("", "name='': a name is a line of text; pass one, or None"),
        ("two\nlines", "name='two\\nlines': a name is a line of text; pass one, or None"),
        ("\ud800", "name='\\ud800': a name is a line of text; pass one, or None"),
        (7, "name=7: a name is a line of text; pass one, or None"),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_a_name_that_cannot_be_is_refused_and_changes_nothing(name, message):
    net, bank = named_bank()
    with pytest.raises(InvalidArgument) as refused:
        bank.append(random_masks(net, 9), name=name)
    assert str(refused.value) == message
    assert (len(bank), tuple(bank.names)) == (5, NAMES)
    assert bank.append(random_masks(net, 9), name="new") == 5


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"], ["a", "a"], "abc"])
@pytest.mark.usefixtures("as_users_call")
def test_packed_tasks_take_a_name_each(names):
    _, bank = named_bank(())
    _, other = named_bank()
    with pytest.raises(InvalidArgument, match="name"):
        bank.append_rows(other.rows[:2], names=names)
    assert len(bank) == 0
    bank.append_rows(other.rows[:2], names=["a", None])
    assert tuple(bank.names) == ("a", None)


def test_an_unknown_name_is_refused_with_one_that_is_near():
    _, bank = named_bank()
    with pytest.raises(InvalidArgument, match=r"^name='alms': no task of this bank has it; did you mean 'alma'\?$"):
        bank.names.index("alms")
    with pytest.raises(InvalidArgument, match=r"^name='x': no task of this bank has it; append names a task$"):
        bank.names.index("x")


def test_an_unknown_name_among_very_many_is_compared_with_none():
    """A server is asked for whatever its clients spell."""
    net = small_network()
    bank = MaskBank(net)
    names = [f"customer {number}" for number in range(1000)]
    bank.append_rows(torch.zeros(1000, bank.row_bytes, dtype=torch.uint8), names=names)
    with pytest.raises(InvalidArgument, match="no task of this bank has it; append names a task"):
        bank.names.index("customer 1000")
    for _ in range(3):
        bank.remove(10)
    assert bank.names.index("customer 13") == 10
    assert "customer 12" not in bank.names


def test_banks_whose_names_differ_do_not_continue_each_other(tmp_path):
    _, bank = named_bank()
    bank.save(tmp_path)
    _, other = named_bank(("alma", None, "another", "任务", None))
    with pytest.raises(FolderInUse, match="it holds these tasks under other names"):
        other.save(tmp_path)


def test_without_names_no_byte_is_spent_on_them(tmp_path):
    net, bank = named_bank((None, None))
    bank.save(tmp_path)
    (shard,) = tmp_path.glob("*.safetensors")
    with safe_open(shard, framework="pt") as file:
        assert sorted(file.keys()) == ["buffers", "crc32", "rows"]
    assert tuple(MaskBank.open(tmp_path, net).names) == (None, None)


def flipped(shard, place):
    content = bytearray(shard.read_bytes())
    content[place] ^= 1
    shard.write_bytes(content)


@both_forms
def test_no_flip_anywhere_changes_a_name_without_notice(tmp_path, compact):
    net, bank = named_bank()
    bank.save(tmp_path, compact=compact)
    (shard,) = tmp_path.glob("*.safetensors")
    kept = 0
    for place in range(shard.stat().st_size):
        flipped(shard, place)
        try:
            opened = MaskBank.open(tmp_path, net)
        except CorruptBank:
            opened = None
        assert opened is None or tuple(opened.names) == NAMES
        try:
            found = salvage(tmp_path, net)
        except CorruptBank:
            pass
        else:
            assert all(name in (None, NAMES[task]) for task, name in zip(found.tasks, found.bank.names, strict=True))
            kept += len(found.tasks) == 5 and set(found.bank.names) == {None}
        flipped(shard, place)
    assert kept > 20, "damaged names cost no mask"
    assert tuple(MaskBank.open(tmp_path, net).names) == NAMES


def test_two_tasks_of_one_name_are_a_damaged_bank(tmp_path, monkeypatch):
    net, bank = named_bank(("a", "b"))
    monkeypatch.setattr(bank._names, "_names", ["a", "a"])
    bank.save(tmp_path)
    with pytest.raises(CorruptBank, match="it gives several tasks one name"):
        MaskBank.open(tmp_path, net)


def test_tasks_are_renamed_in_place():
    _, bank = named_bank()
    bank.names[0], bank.names[1] = None, "alma"
    bank.names[2] = "zoë 2"
    assert tuple(bank.names) == (None, "alma", "zoë 2", "任务", None)
    assert (bank.names.index("alma"), "alma" in bank.names, "zoe" in bank.names) == (1, True, False)
    with pytest.raises(InvalidArgument, match="another task has it"):
        bank.names[3] = "alma"
    with pytest.raises(InvalidArgument, match="the bank holds tasks 0 to 4"):
        bank.names[5] = "new"
    assert tuple(bank.names) == (None, "alma", "zoë 2", "任务", None)


def test_new_names_go_to_a_new_folder(tmp_path):
    net, bank = named_bank()
    bank.save(tmp_path / "old")
    bank.names[1] = "new"
    with pytest.raises(FolderInUse, match=r"it holds these tasks under other names; choose another folder"):
        bank.save(tmp_path / "old")
    bank.save(tmp_path / "new")
    assert MaskBank.open(tmp_path / "old", net).names[1] is None
    assert MaskBank.open(tmp_path / "new", net).names[1] == "new"


@pytest.mark.parametrize("name", ["👩\u200d💻", "می\u200cخواهم", "a\xa0b", "\U0001fae8", "customer 42"])
def test_a_name_is_any_line_of_text_and_a_file_that_was_written_is_read(tmp_path, monkeypatch, name):
    net, bank = named_bank((name,))
    bank.save(tmp_path)
    monkeypatch.setattr("unicodedata.category", lambda sign: "Cc")  # of a Python that knows none of these signs
    assert MaskBank.open(tmp_path, net).names.index(name) == 0


def test_names_can_be_changed_and_not_moved(tmp_path):
    bank = named_bank()[1]
    assert not {"append", "remove", "pop", "insert"} & set(dir(bank.names))
    with pytest.raises(InvalidArgument, match="names='xyz': that is one name; pass a list with one for each task"):
        bank.append_rows(bank.rows[:3], names="xyz")
    assert tuple(bank.names) == NAMES
