"""What a run depends on beside its recipe, and whether a resumed one finds it again."""

from collections.abc import Sequence
from pathlib import Path

import torch
from supsup_datasets import AnyDataset

from supsup_methods.devices import describe_machine
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import TEST_ORDER
from supsup_methods.machine_loops import arithmetic
from supsup_methods.result_records import installed_versions
from supsup_methods.run_folder import Environment


def describe_environment(
    device: torch.device,
    dataset: AnyDataset,
    data_root: Path | None,
    tasks_at_once: int = 1,
    others: Sequence[torch.device] = (),
) -> Environment:
    """Return what a run started now depends on beside its recipe.

    Args:
        device: of the tests, and of the training.
        dataset: the data.
        data_root: where it lies.
        tasks_at_once: that are trained side by side, in each process.
        others: devices that train as well; there is a process for each of them and for the first then, and they share the
            threads.
    """
    root = None if data_root is None else str(data_root.resolve())
    return Environment(
        device=",".join(str(each) for each in (device, *others)),
        threads=max(1, torch.get_num_threads() // (1 + len(others))),
        data_name=dataset.name,
        data_digest=dataset.digest,
        data_root=root,
        versions=installed_versions(),
        tasks_at_once=tasks_at_once,
        arithmetic=arithmetic(),
        test_order=TEST_ORDER,
        machine=describe_machine(device, others),
    )


def adopt_environment(recorded: Environment, current: Environment) -> None:
    """Take over the recorded number of threads; everything else must be as it was.

    Raises:
        UsageError: devices, data, group size, torch, its machine loops or the test order differ, so the run could not
            end with the same bits.
    """
    for what, then, now in (
        ("--device", recorded.device, current.device),
        (
            "data",
            f"{recorded.data_name} {recorded.data_digest[:12]}",
            f"{current.data_name} {current.data_digest[:12]}",
        ),
        ("--tasks-at-once", recorded.tasks_at_once, current.tasks_at_once),
        ("torch", recorded.versions.get("torch"), current.versions["torch"]),
        ("arithmetic", recorded.arithmetic, current.arithmetic),
        ("test order", recorded.test_order, current.test_order),
    ):
        if then != now:
            raise UsageError(
                f"{what} {now}: the run was started with {then} and goes on only with that; start a new run"
            )
    torch.set_num_threads(recorded.threads)
