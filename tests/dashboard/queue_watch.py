"""What tests of the queue have in common: commands that are asked for, and patience."""

import time

SLEEP, SAY, FAIL = ("supsup-train", "sleep"), ("supsup-train", "say"), ("supsup-train", "fail")
PATIENCE = 120  # seconds until something that must happen counts as never happening


def until(true, look=lambda: None):
    """Wait for something to become true."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it did not come"
        look()
        time.sleep(0.02)


def states(waiting_queue):
    return {job.number: job.state for job in waiting_queue.jobs()}
