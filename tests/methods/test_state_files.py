"""Files of methods that keep tensors: what is whole comes back bit for bit, and what is not is named and learned again."""

import os
import threading

import pytest
import torch
from supsup_core import CorruptBank
from supsup_methods import state_files
from supsup_methods.state_files import (
    TaskFiles,
    open_sequence,
    open_tasks,
    read_state,
    read_tensors,
    write_shared,
    write_task,
)

CPU = torch.device("cpu")


def tensors(number: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    return {
        "b": torch.randn(2, 3, generator=generator),
        "a": torch.randn(5, generator=generator, dtype=torch.float64),
        "c.weight": torch.randn(4, generator=generator).to(torch.bfloat16),
        "d": torch.randint(0, 256, (7,), generator=generator, dtype=torch.uint8),
        "e": torch.tensor(number),
        "f": torch.rand(3, generator=generator) > 0.5,
        "g": torch.empty(0, 4),
    }


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


def filled(folder, tasks: int = 4, shared_after: int | None = 4):
    for task in range(tasks):
        write_task(folder, task, tensors(task))
    if shared_after is not None:
        write_shared(folder, shared_after, tensors(100))
    return folder


def task_file(folder, task: int):
    return folder / f"task-{task:06d}.safetensors"


def flip(path, position: int = -3) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_tensors_of_every_type_come_back_bit_for_bit(tmp_path):
    state = read_state(filled(tmp_path / "new" / "folder", shared_after=3), CPU)
    assert same(state.shared, tensors(100))
    assert (state.shared_after, state.damage, len(state.tasks)) == (3, None, 4)
    assert all(same(state.tasks[task], tensors(task)) for task in range(4))


def test_parts_of_one_tensor_and_transposed_ones_are_written_as_they_look(tmp_path):
    flat = torch.arange(12.0)
    written = {"a": flat[:6].view(2, 3), "b": flat[6:].view(3, 2).T}
    write_task(tmp_path, 0, written)
    (read,) = read_state(tmp_path, CPU).tasks
    assert same(read, written)


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    for state, notes in (open_tasks(tmp_path / "no", CPU), open_sequence(tmp_path / "no", CPU, task_files=True)):
        assert (state.shared, state.shared_after, state.tasks, notes) == (None, 0, (), ())
    assert not (tmp_path / "no").exists()


def test_what_was_read_does_not_hang_on_the_file(tmp_path):
    write_task(tmp_path, 0, tensors(0))
    (read,) = read_state(tmp_path, CPU).tasks
    with open(task_file(tmp_path, 0), "r+b") as file:
        file.truncate(1)  # would kill a process that still has the file mapped
    assert same(read, tensors(0))


def test_a_file_is_opened_once_as_a_run_may_replace_it_meanwhile(tmp_path):
    write_task(tmp_path, 7, tensors(7))
    content, pipe = task_file(tmp_path, 7).read_bytes(), tmp_path / "pipe"
    os.mkfifo(pipe)  # what is read from it is gone
    writer = threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True)
    writer.start()
    back, number = read_tensors(pipe, CPU)
    writer.join()
    assert number == 7
    assert same(back, tensors(7))


def test_no_flipped_bit_of_a_file_goes_unnoticed(tmp_path):
    """In the header as well: it says after how many tasks the content was so, and which values are which."""
    write_shared(tmp_path, 3, {"weight": torch.arange(4.0), "other": torch.ones(2, 2)})
    path = tmp_path / "shared.safetensors"
    content, harmless = path.read_bytes(), []
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        state = read_state(tmp_path, CPU)
        if state.damage is None:
            harmless.append(position)
            assert state.shared_after == 3
            assert same(state.shared, {"weight": torch.arange(4.0), "other": torch.ones(2, 2)})
        else:
            assert state.shared is None
            assert str(path) in state.damage
    # JSON has white space, which the library uses to align the data.
    assert all(content[position : position + 1] == b" " for position in harmless)


def test_a_damaged_task_is_set_aside_with_all_behind_it(tmp_path):
    folder = filled(tmp_path, shared_after=1)
    flip(task_file(folder, 2))
    state, (note,) = open_tasks(folder, CPU)
    assert len(state.tasks) == 2
    assert same(state.shared, tensors(100))
    assert "task-000002.safetensors: its content differs from its checksum" in note
    assert "tasks kept before it: 2" in note
    aside = [f"task-{task:06d}.safetensors.damaged-1" for task in (2, 3)]
    assert all(name in note for name in aside)
    assert {path.name for path in folder.glob("task*")} == {
        "task-000000.safetensors",
        "task-000001.safetensors",
        *aside,
    }
    assert open_tasks(folder, CPU)[1] == ()  # what is left is whole


def test_what_is_set_aside_never_replaces_what_was(tmp_path):
    for number in (1, 2, 3):
        write_task(tmp_path, 0, tensors(number))
        flip(task_file(tmp_path, 0))
        _, (note,) = open_tasks(tmp_path, CPU)
        assert f"task-000000.safetensors.damaged-{number}" in note
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("left", [0, 7, 100, -1])
def test_a_truncated_task_is_found(tmp_path, left):
    folder = filled(tmp_path)
    path = task_file(folder, 3)
    path.write_bytes(path.read_bytes()[:left])
    state, notes = open_tasks(folder, CPU)
    assert len(state.tasks) == 3
    assert len(notes) == 1


def test_a_missing_task_is_reported_where_later_ones_are_there(tmp_path):
    folder = filled(tmp_path)
    task_file(folder, 1).unlink()
    state, (note,) = open_tasks(folder, CPU)
    assert len(state.tasks) == 1
    assert "task-000001.safetensors: it is missing, and task 3 is there" in note
    assert open_tasks(folder, CPU)[1] == ()


def test_a_task_under_another_number_is_found(tmp_path):
    folder = filled(tmp_path)
    task_file(folder, 3).replace(task_file(folder, 2))
    state, (note,) = open_tasks(folder, CPU)
    assert len(state.tasks) == 2
    assert "task-000002.safetensors: it holds task 3" in note


def test_a_first_task_that_is_saved_between_two_looks_is_whole(tmp_path, monkeypatch):
    look = state_files._task_paths

    def saved_before(folder):
        if not (folder / "shared.safetensors").exists():
            filled(folder, tasks=1, shared_after=1)
        return look(folder)

    monkeypatch.setattr(state_files, "_task_paths", saved_before)
    state = read_state(tmp_path, CPU)
    assert same(state.shared, tensors(100))
    assert (state.shared_after, state.damage, len(state.tasks)) == (1, None, 1)


def test_shared_damage_loses_all_tasks_and_no_file(tmp_path):
    for number, reopened in enumerate(
        (open_tasks, lambda folder, device: open_sequence(folder, device, task_files=True))
    ):
        folder = filled(tmp_path / f"state{number}")
        flip(folder / "shared.safetensors")
        state, (note,) = reopened(folder, CPU)
        assert (state.shared, state.shared_after, state.tasks) == (None, 0, ())
        assert "all tasks are learned again" in note
        assert f"state{number}.damaged-1" in note
        assert not folder.exists()
        assert len(list((tmp_path / f"state{number}.damaged-1").iterdir())) == 5


def test_a_stop_between_a_tasks_file_and_the_shared_one_leaves_the_task_before(tmp_path):
    folder = filled(tmp_path, tasks=4, shared_after=3)
    state, notes = open_sequence(folder, CPU, task_files=True)
    assert (state.shared_after, len(state.tasks), notes) == (3, 3, ())
    flip(task_file(folder, 3))  # it is not needed: it will be learned and written again
    state, notes = open_sequence(folder, CPU, task_files=True)
    assert (state.shared_after, len(state.tasks), notes) == (3, 3, ())


@pytest.mark.parametrize("lost", [1, 3])
def test_a_sequence_without_the_file_of_a_task_starts_over(tmp_path, lost):
    folder = filled(tmp_path / "state")
    task_file(folder, lost).unlink()
    state, (note,) = open_sequence(folder, CPU, task_files=True)
    assert (state.shared, state.shared_after, state.tasks) == (None, 0, ())
    assert f"task-{lost:06d}.safetensors: it is missing" in note
    assert not folder.exists()


def test_a_sequence_without_files_of_tasks_is_its_shared_file(tmp_path):
    write_shared(tmp_path / "state", 7, tensors(0))
    state, notes = open_sequence(tmp_path / "state", CPU, task_files=False)
    assert same(state.shared, tensors(0))
    assert (state.shared_after, state.tasks, notes) == (7, (), ())


def test_damage_that_is_not_to_be_mended_is_an_error_and_changes_nothing(tmp_path):
    folder = filled(tmp_path / "a; strange name")
    flip(task_file(folder, 1))
    before = sorted(path.name for path in folder.iterdir())
    for reopened in (
        lambda: open_tasks(folder, CPU, mend=False),
        lambda: open_sequence(folder, CPU, task_files=True, mend=False),
    ):
        with pytest.raises(
            CorruptBank, match=r"a; strange name/task-000001.*differs from its checksum; resume the run"
        ):
            reopened()
    assert sorted(path.name for path in folder.iterdir()) == before


def test_only_new_tasks_are_written_and_those_that_went_missing(tmp_path):
    files = TaskFiles()
    files.write_new(tmp_path, [tensors(0), tensors(1)])
    kept = task_file(tmp_path, 0).stat().st_ino
    task_file(tmp_path, 1).unlink()
    files.write_new(tmp_path, [tensors(0), tensors(1), tensors(2)])
    assert task_file(tmp_path, 0).stat().st_ino == kept
    assert len(read_state(tmp_path, CPU).tasks) == 3
    files.write_new(tmp_path / "other", [tensors(0), tensors(1), tensors(2)])
    assert len(read_state(tmp_path / "other", CPU).tasks) == 3


def test_a_file_from_before_is_replaced_by_what_was_learned_since(tmp_path):
    """A stop left task 1 behind, and it was learned again: on another machine its last bits may differ."""
    filled(tmp_path, tasks=2, shared_after=1)
    TaskFiles(tmp_path, 1).write_new(tmp_path, [tensors(0), tensors(50)])
    assert same(read_state(tmp_path, CPU).tasks[1], tensors(50))
