"""The process that runs the jobs of a queue: one at a time on each device, in the order in which they were asked for.

It is started by whoever adds a job, lives until none is left, and needs no dashboard. Its jobs are processes of their own, which
outlive it where it is killed; the next runner finds them by their locks. Run by `python -m`, with the folder and the number of an
open file that holds the runner's lock.
"""

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

from supsup_dashboard.queueing.jobs import (
    COMMANDS,
    VISIBLE_DEVICES,
    Job,
    JobQueue,
    give_back,
    lock_patiently,
    try_lock,
)

_LOOK_SECONDS = 0.2


def main() -> None:
    """Run the jobs of the queue in the folder that is named, until none waits or runs."""
    runner = QueueRunner(Path(sys.argv[1]))
    with open(int(sys.argv[2]), "ab") as lock:
        while True:
            runner.work()
            fcntl.flock(lock, fcntl.LOCK_UN)
            # Somebody may have added a job after the last look and before the lock was free, and have started nobody.
            if not runner.queue.is_awaited or not lock_patiently(lock):
                return  # nothing is left, or another runner is at work


class QueueRunner:
    """Starts the jobs of a queue and notes how they end.

    Args:
        folder: of the queue.
    """

    def __init__(self, folder: Path) -> None:
        self.queue = JobQueue(folder)
        self.children: dict[int, subprocess.Popen[bytes]] = {}
        """Processes that this runner started, by the number of their job."""

    def work(self) -> None:
        """Run jobs until none waits or runs."""
        while self.look():
            time.sleep(_LOOK_SECONDS)

    def look(self) -> bool:
        """Note which jobs ended, start those whose device is free, and tell whether one waits or runs."""
        jobs = self.queue.open_jobs()
        running = [job for job in jobs if job.state == "running" and not self._note_end(job)]
        waiting = [job for job in jobs if job.state == "waiting"]
        taken = {device for job in running for device in _devices(job)}
        for job in waiting:
            wanted = _devices(job)
            if not wanted & taken:
                self._start(job)
            taken |= wanted  # a job that waits for two devices is not overtaken by those that need one
        return bool(running or waiting)

    def _start(self, job: Job) -> None:
        name, *arguments = job.command
        with open(self.queue.log_path(job.number), "ab") as log, open(self.queue.lock_path(job.number), "ab") as lock:
            # The lock is the open file's, so that it lasts as long as the process; it is there before the job counts as running.
            if not try_lock(lock) or not self.queue.note(job.number, "state = 'running'", "state = 'waiting'"):
                return  # somebody looks at the lock; or it was cancelled a moment ago
            child = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", COMMANDS[name], *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(job),
                pass_fds=(lock.fileno(),),
                start_new_session=True,
            )
        self.children[job.number] = child
        self.queue.note(job.number, f"pid = {child.pid}", "state = 'running'")

    def _note_end(self, job: Job) -> bool:
        """Note whether and how a job that ran has ended, and tell whether it has."""
        child = self.children.get(job.number)
        if child is None:
            if self.queue.is_alive(job.number):  # it was started by a runner that was killed
                return False
            self.queue.note(job.number, "state = 'ended'", "state = 'running'")
        else:
            status = child.poll()
            if status is None:
                return False
            del self.children[job.number]
            state = "died" if status < 0 else "ended"
            self.queue.note(job.number, f"state = '{state}', status = {status}", "state = 'running'")
        give_back(job)
        return True


def _environment(job: Job) -> dict[str, str]:
    """Return the environment of a job's process: the runner's own, but GPUs count as where the job was asked for."""
    environment = {name: value for name, value in os.environ.items() if name != VISIBLE_DEVICES}
    if job.visible_devices is not None:
        environment[VISIBLE_DEVICES] = job.visible_devices
    return {**environment, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # as nvidia-smi counts, which named the devices


def _devices(job: Job) -> set[str]:
    """Return the devices that a job needs, GPUs by what `CUDA_VISIBLE_DEVICES` calls them: cuda:0 is not the same everywhere."""
    devices = set(job.device.split(",")) - {""}
    if job.visible_devices is None:
        return devices
    visible = {f"cuda:{number}": f"cuda:{name.strip()}" for number, name in enumerate(job.visible_devices.split(","))}
    return {visible.get(device, device) for device in devices}


if __name__ == "__main__":
    main()
