"""Prepare .venv: everything the project needs, at the versions of poetry.lock, with nothing but Python, pip and git.

Run by every make target; when nothing changed since the last time it returns at once. Poetry is installed into .tools for
this checkout alone, so it makes no difference whether one is on the PATH. Where the package index serves only the simple
API, Poetry's own access to it fails; a plugin makes Poetry read the index that pip is configured for.

Kept free of new syntax, so that a Python that is too old can still read the message about it.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from typing import NoReturn

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
VENV_PYTHON = os.path.join(VENV, "bin", "python")
TOOLS = os.path.join(ROOT, ".tools")
LOG = os.path.join(TOOLS, "setup.log")
STAMP = os.path.join(VENV, ".supsup-setup")
POETRY = ("poetry==2.5.1", "poetry-plugin-pypi-mirror==0.6.5")
OLDEST, NEWEST = (3, 11), (3, 14)
GIGABYTES = 9
ASK_PIP_FOR_ITS_INDEX = (
    "from pip._internal.commands import create_command; "
    "print(create_command('download').parser.parse_args([])[0].index_url)"
)


def main() -> None:
    python = find_python()
    wanted = fingerprint(python)
    if is_prepared(python, wanted):
        return
    os.makedirs(TOOLS, exist_ok=True)
    with open(os.path.join(TOOLS, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second call waits for the first, and then has nothing to do
        if not is_prepared(python, wanted):
            prepare(python)
            with open(STAMP, "w") as file:
                file.write(wanted)
            print("setup: done", flush=True)


def is_prepared(python: str, wanted: str) -> bool:
    """Tell whether .venv was made from just these files, and still runs the same Python."""
    return read(STAMP) == wanted and version_of(VENV_PYTHON) == version_of(python)


def prepare(python: str) -> None:
    with open(LOG, "w"):
        pass
    if version_of(VENV_PYTHON) != version_of(python):
        shutil.rmtree(VENV, ignore_errors=True)  # none, a broken one, or one of another Python
        refuse_full_disk()
    poetry = install_poetry(python)
    print("setup: installing the locked packages into .venv (about 3 GB to download, some minutes)", flush=True)
    if not os.path.exists(VENV_PYTHON):
        run([python, "-m", "venv", "--without-pip", VENV], "a virtual environment cannot be made")
    run([poetry, "sync", "--no-interaction", "--no-ansi"], "the packages cannot be installed", poetry_environment())


def version_of(python: str) -> "str | None":
    """Return the full version of an interpreter, or None if it does not run."""
    try:
        return subprocess.check_output(
            [python, "-c", "import sys; print(sys.version)"], stderr=subprocess.DEVNULL, universal_newlines=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def find_python() -> str:
    """Return an interpreter that the locked packages support: this one, or a named version on the PATH."""
    minors = range(NEWEST[1], OLDEST[1] - 1, -1)
    candidates = [sys.executable] + [shutil.which("python3.%d" % minor) for minor in minors]
    for candidate in candidates:
        if candidate and supported(candidate):
            return candidate
    fail(
        "python3 is version %s; Python %d.%d to %d.%d is needed (3.14.1 excepted): install one, or name it by "
        "make PYTHON=/path/to/python" % (".".join(map(str, sys.version_info[:3])), *(OLDEST + NEWEST))
    )


def supported(python: str) -> bool:
    code = "import sys; v = sys.version_info[:3]; sys.exit(not (%r <= v[:2] <= %r and v != (3, 14, 1)))" % (
        OLDEST,
        NEWEST,
    )
    return subprocess.call([python, "-c", code], stderr=subprocess.DEVNULL) == 0


def fingerprint(python: str) -> str:
    """Return what the environment is made from: lock file, project files, this script, interpreter, place."""
    digest = hashlib.sha256((python + "\n" + str(version_of(python)) + ROOT).encode())
    packages = os.path.join(ROOT, "packages")
    files = [os.path.join(packages, name, "pyproject.toml") for name in sorted(os.listdir(packages))]
    for path in [
        os.path.join(ROOT, "poetry.lock"),
        os.path.join(ROOT, "pyproject.toml"),
        os.path.abspath(__file__),
    ] + files:
        digest.update((read(path) or "").encode())
    return digest.hexdigest()


def refuse_full_disk() -> None:
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < GIGABYTES:
        fail("%.1f GB are free on the disk of %s; setup needs about %d GB: free some space" % (free, ROOT, GIGABYTES))


def install_poetry(python: str) -> str:
    home = os.path.join(TOOLS, "poetry")
    poetry, marker = os.path.join(home, "bin", "poetry"), os.path.join(home, ".complete")
    wanted = " ".join((python,) + POETRY)
    if read(marker) == wanted:
        return poetry
    print("setup: installing Poetry into .tools", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    run(
        [python, "-m", "venv", home],
        "a virtual environment cannot be made (on Debian and Ubuntu: apt install python3-venv)",
    )
    run([os.path.join(home, "bin", "python"), "-m", "pip", "install", *POETRY], "Poetry cannot be installed")
    with open(marker, "w") as file:
        file.write(wanted)
    return poetry


def poetry_environment() -> "dict[str, str]":
    """Return the environment for Poetry: its packages go to .venv, and come from where pip's come from."""
    left_out = ("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYTHONHOME", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    pip = os.path.join(TOOLS, "poetry", "bin", "python")
    index = subprocess.check_output([pip, "-c", ASK_PIP_FOR_ITS_INDEX], universal_newlines=True).strip()
    environment.setdefault("POETRY_PYPI_MIRROR_URL", index)
    environment["POETRY_VIRTUALENVS_IN_PROJECT"] = environment["POETRY_VIRTUALENVS_CREATE"] = "true"
    environment["POETRY_KEYRING_ENABLED"] = "false"
    if environment.get("PIP_CERT"):
        environment.setdefault("REQUESTS_CA_BUNDLE", environment["PIP_CERT"])
    return environment


def run(command: "list[str]", problem: str, environment: "dict[str, str] | None" = None) -> None:
    """Run a command with its output in the log; a failure is one line with its likely cause."""
    with open(LOG, "a") as log:
        start = log.tell()
        try:
            status = subprocess.call(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=environment)
        except OSError as error:
            fail("%s: %s: %s" % (problem, command[0], error.strerror))
    if status != 0:
        with open(LOG, errors="replace") as log:
            log.seek(start)
            fail(
                "%s: %s; everything it said is in %s" % (problem, likely_cause(log.read()), os.path.relpath(LOG, ROOT))
            )


def likely_cause(output: str) -> str:
    network = (
        "All attempts to connect",
        "ConnectTimeout",
        "ConnectionError",
        "Failed to establish a new connection",
        "ProxyError",
        "Temporary failure in name resolution",
        "from versions: none",  # all that pip says of an index that it may not try twice
    )
    if any(sign in output for sign in network):
        return "the package index cannot be reached; check the network, or pip's index settings"
    if "No space left on device" in output:
        return "the disk is full; free some space"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def read(path: str) -> "str | None":
    try:
        with open(path) as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None


def fail(line: str) -> NoReturn:
    sys.stderr.write("setup: error: %s\n" % line)
    sys.exit(2)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.stderr.write("setup: stopped; run it again to go on\n")
        sys.exit(130)
    except OSError as error:
        fail("%s: %s; check space and permissions" % (error.filename, error.strerror))
