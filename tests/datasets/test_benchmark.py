import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "batches.py"


def test_the_benchmark_of_batches_runs_and_compares_the_same_bits():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--seconds", "0.01", "--threads", "1"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "ours, one task" in done.stdout
    assert "a stream of 2500 tasks takes" in done.stdout
