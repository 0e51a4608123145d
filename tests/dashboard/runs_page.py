"""The page of runs as tests open and read it, and processes that hold a run's lock as training does."""

import contextlib
import subprocess
import sys
from pathlib import Path

from streamlit.testing.v1 import AppTest

from .shown_pages import shown

APP = str(Path(__file__).parents[2] / "apps" / "dashboard.py")
HOLDER = """
import signal, sys, time
from pathlib import Path
from supsup_methods.run_lock import holding
signal.signal(signal.SIGTERM, signal.default_int_handler)
run = Path(sys.argv[1])
with holding(run / "lock", run):
    print("held", flush=True)
    time.sleep(120)
"""


def opened(*chosen):
    return shown(AppTest.from_file(APP, default_timeout=60), chosen)


def runs_table(page):
    (found,) = (each.value for each in page.dataframe if "progress" in each.value)
    return found.set_index("run")


def told(page):
    """Return what the page says in boxes and captions."""
    return "\n".join(each.value for kind in (page.info, page.error, page.warning, page.caption) for each in kind)


def buttons(page):
    return {each.key for each in page.button}


@contextlib.contextmanager
def held(folder):
    """Have another process hold a run's lock, as a training process does."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder.path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
