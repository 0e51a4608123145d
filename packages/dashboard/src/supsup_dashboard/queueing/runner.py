"""The process that runs the jobs of a queue: one at a time on each device, in the order in which they were asked for.

It is started by whoever adds a job, lives until none is left, and needs no dashboard. Its jobs are processes of their own, which
outlive it where it is killed; the next runner finds them by their locks. Run by `python -m`, with the folder.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

from supsup_dashboard.queueing.jobs import COMMANDS, RUNNER_LOCK, Job, JobQueue, give_back, try_lock

_LOOK_SECONDS = 0.2


def main() -> None:
    """Run the jobs of the queue in the folder that is named, until none waits or runs."""
    runner = QueueRunner(Path(sys.argv[1]))
    while True:
        with open(runner.queue.folder / RUNNER_LOCK, "ab") as file:
            if not _patiently(file):
                return  # another runner is at work
            runner.work()
        # Somebody may have added a job after the last look and before the lock was free, and have started nobody.
        if not any(job.state == "waiting" for job in runner.queue.jobs()):
            return


def _patiently(file: BinaryIO) -> bool:
    """Take the runner's lock; whoever only looks whether it is held, holds it for a moment."""
    for _ in range(10):
        if try_lock(file):
            return True
        time.sleep(0.05)
    return False


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
        for job in self._in_state("running"):
            self._note_end(job)
        taken = {part for job in self._in_state("running") for part in _parts(job.device)}
        for job in sorted(self._in_state("waiting"), key=lambda each: each.number):
            wanted = _parts(job.device)
            if not wanted & taken:
                self._start(job)
            taken |= wanted  # a job that waits for two devices is not overtaken by those that need one
        return any(job.is_open for job in self.queue.jobs())

    def _in_state(self, state: str) -> list[Job]:
        return [job for job in self.queue.jobs() if job.state == state]

    def _start(self, job: Job) -> None:
        name, *arguments = job.command
        environment = {**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # as nvidia-smi counts, which named the devices
        with open(self.queue.log_path(job.number), "ab") as log, open(self.queue.lock_path(job.number), "ab") as lock:
            # The lock is the open file's, so that it lasts as long as the process; it is there before the job counts as running.
            if not try_lock(lock) or not self.queue.note(job.number, "state = 'running'", "state = 'waiting'"):
                return  # somebody looks at the lock; or it was cancelled a moment ago
            child = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", COMMANDS[name], *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=(lock.fileno(),),
                start_new_session=True,
            )
        self.children[job.number] = child
        self.queue.note(job.number, f"pid = {child.pid}", "state = 'running'")

    def _note_end(self, job: Job) -> None:
        child = self.children.get(job.number)
        if child is None:
            if not self.queue.is_alive(job.number):  # it was started by a runner that was killed
                self.queue.note(job.number, "state = 'ended'", "state = 'running'")
                give_back(job)
            return
        status = child.poll()
        if status is not None:
            del self.children[job.number]
            state = "died" if status < 0 else "ended"
            self.queue.note(job.number, f"state = '{state}', status = {status}", "state = 'running'")
            give_back(job)


def _parts(device: str) -> set[str]:
    return set(device.split(",")) - {""}


if __name__ == "__main__":
    main()
