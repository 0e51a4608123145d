"""Which classes make which task: consecutive, drawn from a seed, or read from a file."""

import re
from collections.abc import Iterable, Sequence
from numbers import Integral
from pathlib import Path

from supsup_datasets.errors import DatasetError, DataUnavailable
from supsup_datasets.seeds import permutation
from supsup_datasets.task_stream import check_seed, check_tasks

Partition = tuple[tuple[int, ...], ...]


def consecutive_partition(num_classes: int, tasks: int, classes_per_task: int) -> Partition:
    """Return tasks (0, 1, ...), (classes_per_task, ...), and so on: digit pairs, for example.

    Raises:
        DatasetError: there are not so many classes, or a number is below 1.
    """
    return _cut(range(num_classes), tasks, classes_per_task)


def random_partition(num_classes: int, tasks: int, classes_per_task: int, seed: int) -> Partition:
    """Return tasks of classes drawn without replacement, the same on every machine for one seed.

    Raises:
        DatasetError: there are not so many classes, a number is below 1, or the seed is negative.
    """
    check_seed(seed)
    return _cut(permutation(seed, "class partition", 0, num_classes).tolist(), tasks, classes_per_task)


def read_partition(path: Path, num_classes: int, class_names: Sequence[str] = ()) -> Partition:
    """Return the partition in a text file: a task a line, its classes between spaces or commas; # begins a comment.

    Classes are written as their names where the data set has names, else as numbers from 0. Where a name holds a space, as "Ankle
    boot" does, classes stand between commas alone.

    Raises:
        DataUnavailable: the file is missing or cannot be read.
        DatasetError: a line names an unknown class or one that was named before, or there is no task in the file.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataUnavailable(f"{path}: no such file; name a partition file, a task a line") from None
    except OSError as error:
        raise DataUnavailable(f"{path}: not readable ({error.strerror}); check its permissions") from None
    except UnicodeDecodeError:
        raise DatasetError(f"{path}: not UTF-8 text; write a task a line, its classes between spaces") from None
    numbers = {name: number for number, name in enumerate(class_names or map(str, range(num_classes)))}
    between = "commas" if any(re.search(r"\s", name) for name in numbers) else "spaces or commas"
    word = re.compile(r"[^,]*[^\s,]" if between == "commas" else r"[^\s,]+")
    partition: list[tuple[int, ...]] = []
    seen: dict[str, int] = {}
    for line, content in enumerate(text.splitlines(), start=1):
        names = [name.strip() for name in word.findall(content.split("#", maxsplit=1)[0])]
        for name in names:
            if name not in numbers:
                known = f"{next(iter(numbers))} … {list(numbers)[-1]}"
                raise DatasetError(
                    f"{path}, line {line}: no class {name!r}; the data set has {known}; write classes between {between}"
                )
            if name in seen:
                raise DatasetError(f"{path}, line {line}: class {name!r} stands in line {seen[name]} too; name it once")
            seen[name] = line
        if names:
            partition.append(tuple(numbers[name] for name in names))
    if not partition:
        raise DatasetError(f"{path}: there is no task in it; write a task a line, its classes between spaces")
    return tuple(partition)


def checked_partition(partition: Sequence[Sequence[int]], num_classes: int) -> Partition:
    """Return a partition as tuples; raise DatasetError unless it has tasks, each of classes that exist, and none twice."""
    check_tasks(len(partition))
    seen: dict[int, int] = {}
    for task, classes in enumerate(partition):
        if len(classes) == 0:
            raise DatasetError(f"partition: task {task} has no classes; give it one or leave it out")
        for number in classes:
            if not isinstance(number, Integral) or isinstance(number, bool) or not 0 <= number < num_classes:
                raise DatasetError(f"partition: task {task} names class {number!r}; classes are 0 to {num_classes - 1}")
            if number in seen:
                raise DatasetError(f"partition: class {number} is in tasks {seen[number]} and {task}; put it in one")
            seen[number] = task
    return tuple(tuple(int(number) for number in classes) for classes in partition)


def _cut(classes: Iterable[int], tasks: int, classes_per_task: int) -> Partition:
    order = tuple(classes)
    check_tasks(tasks)
    if classes_per_task < 1:
        raise DatasetError(f"classes_per_task={classes_per_task}: a task has at least one class; ask for more")
    if tasks * classes_per_task > len(order):
        raise DatasetError(
            f"tasks={tasks}, classes_per_task={classes_per_task}: they need {tasks * classes_per_task} classes and the data "
            f"has {len(order)}; ask for fewer"
        )
    return tuple(
        order[start : start + classes_per_task] for start in range(0, tasks * classes_per_task, classes_per_task)
    )
