"""Install the project and optional requirements into ``.venv``; an environment that works is never lost.

``python tools/environment.py`` installs the project, ``python tools/environment.py dev browser`` its extras
``dev`` and ``browser`` too, with uv if it is installed, else with pip. It runs in the project's folder.

- Nothing is installed while ``.venv`` has what a successful installation has left there for the same
  requirements. This compares the distributions that are installed now, so it notices `uv sync`.
- A change of ``pyproject.toml`` installs into the existing environment.
- An environment of another Python, that does not run, or that was moved is kept until its successor is
  complete, and is restored if the installation fails.
- An environment that another program has created is used, or refused with one sentence. It is never removed.

The file runs with any Python 3.8 up to the check of its version. Where that Python is too old, it goes on with that
of ``.venv``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# What the last installation was for, and what it has left: in the environment.
RECORD = "installed.json"
# The file that tells our environments, complete or not, from those of others.
CREATED_HERE = "created-by-make"
FAILURES = (OSError, subprocess.TimeoutExpired)
UNREADABLE = (OSError, ValueError)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def oldest_python(pyproject: str) -> tuple[int, int]:
    """Return the oldest Python of ``requires-python``."""
    found = re.search(r'^requires-python = ">=(\d+)\.(\d+)', pyproject, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else (3, 0)


def dotted(version: Sequence[Any]) -> str:
    return f"{version[0]}.{version[1]}"


class Wanted:
    """The requirements of a project with some of its extras, and the metadata that an installation copies."""

    def __init__(self, pyproject: str, extras: set[str]) -> None:
        import tomllib

        self.pyproject = pyproject
        declared = tomllib.loads(pyproject)
        self.project: dict[str, Any] = declared.pop("project")
        optional = self.project.pop("optional-dependencies", {})
        if unknown := sorted(extras - optional.keys()):
            sys.exit(f"pyproject.toml has no extra {unknown[0]}: it has {', '.join(optional)}")
        self.extras = extras
        self.all_extras = set(optional)
        self.requirements: list[str] = self.project.pop("dependencies", [])
        for extra in sorted(extras):
            self.requirements = self.requirements + optional[extra]
        build = [declared.get("build-system"), declared.get("tool", {}).get("hatch")]
        metadata = json.dumps([self.project, *build], sort_keys=True)
        self.metadata = hashlib.sha256(metadata.encode()).hexdigest()

    def names(self) -> set[str]:
        """Return the names of the distributions that every system needs."""
        required = [line for line in self.requirements if ";" not in line]
        return {normalized(re.split(r"[^A-Za-z0-9._-]", line)[0]) for line in required}


class Environment:
    """A virtual environment: its Python, and the distributions in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        windows = os.name == "nt"
        self.python = folder / ("Scripts/python.exe" if windows else "bin/python")
        self.version = self.read_version()
        library = "Lib" if windows else f"lib/python{dotted(self.version or (3, 0))}"
        self.packages = folder / library / "site-packages"

    def read_version(self) -> tuple[int, int] | None:
        """Return the version of the environment's Python, such as 3 and 11; None if it does not run."""
        command = [str(self.python), "-c", "import sys; print(*sys.version_info[:2], sys.prefix)"]
        try:
            finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except FAILURES:
            return None
        if finished.returncode != 0:
            return None
        major, minor, prefix = finished.stdout.strip().split(" ", 2)
        in_place = Path(prefix).resolve() == self.folder.resolve()
        return (int(major), int(minor)) if in_place else None

    def distributions(self) -> set[str]:
        """Return the installed distributions, such as ``falcon-4.4.0``."""
        return {folder.stem for folder in self.packages.glob("*.dist-info")}

    def record(self) -> dict[str, Any]:
        """Return what the last complete installation has written; empty if there is none."""
        try:
            written: dict[str, Any] = json.loads((self.folder / RECORD).read_text("utf-8"))
        except UNREADABLE:
            return {}
        return written

    def write_record(self, wanted: Wanted) -> None:
        content = {
            "folder": str(Path.cwd()),
            "extras": sorted(wanted.extras),
            "requirements": wanted.requirements,
            "metadata": wanted.metadata,
            "distributions": sorted(self.distributions()),
        }
        (self.folder / RECORD).write_text(json.dumps(content, indent=1) + "\n", "utf-8")

    def has(self, wanted: Wanted) -> bool:
        """Return whether nothing has to be installed."""
        record = self.record()
        return (
            bool(record)
            and record["folder"] == str(Path.cwd())
            and record["metadata"] == wanted.metadata
            and set(wanted.requirements) <= set(record["requirements"])
            and set(record["distributions"]) <= self.distributions()
        )

    def created_here(self) -> bool:
        return (self.folder / CREATED_HERE).exists()

    def install(self, wanted: Wanted, uv: str) -> bool:
        """Install the project and the extras, and return whether it succeeded."""
        project = f".[{','.join(sorted(wanted.extras))}]" if wanted.extras else "."
        shown = wanted.project["name"] + project[1:]
        say(f"Installing {shown} into {self.folder} with {'uv' if uv else 'pip'} ...")
        started = time.monotonic()
        # Both show progress on a terminal.
        quiet = [] if sys.stderr.isatty() else ["--quiet"]
        if uv:
            command = [uv, "pip", "install", *quiet, "--python", str(self.python)]
        else:
            pip = [str(self.python), "-m", "pip", "--disable-pip-version-check"]
            # An environment of uv has none, one whose creation was interrupted has a part of it.
            if subprocess.run([*pip, "--version"], capture_output=True).returncode != 0:
                subprocess.run([str(self.python), "-m", "ensurepip"], stdout=sys.stderr)
            command = [*pip, "install", *quiet]
        # A user's default of pip, which refuses to apply it to a virtual environment.
        variables = os.environ | {"PIP_USER": "0"}
        command += ["-e", project]
        succeeded = subprocess.run(command, stdout=sys.stderr, env=variables).returncode == 0
        if succeeded:
            self.write_record(wanted)
            say(f"Installed in {time.monotonic() - started:.0f} s.")
        return succeeded


def create(folder: Path, uv: str) -> Environment:
    """Create an environment with this Python.

    Raises:
        SystemExit: It cannot be created.
    """
    say(f"Creating {folder} with Python {dotted(sys.version_info)} ...")
    if uv:
        # With pip, for the commands of the documents.
        options = ["--quiet", "--seed", "--allow-existing", "--python", sys.executable]
        command = [uv, "venv", *options, str(folder)]
    else:
        command = [sys.executable, "-m", "venv", str(folder)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CREATED_HERE).touch()
    created = False
    try:
        created = subprocess.run(command, stdout=sys.stderr).returncode == 0
    finally:
        if not created:
            shutil.rmtree(folder, ignore_errors=True)
    if not created:
        sys.exit(f"{folder} cannot be created: the lines above have the reason.")
    return Environment(folder)


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def is_missing(folder: Path) -> bool:
    return not folder.exists() or not any(folder.iterdir())


def aside(folder: Path) -> Path:
    return folder.with_name(folder.name + ".replaced")


def clean_up(folder: Path) -> None:
    """Remove the environment that was put aside if its successor is complete, else restore it."""
    former, successor = Environment(aside(folder)), Environment(folder)
    if not former.created_here() or not (is_missing(folder) or successor.created_here()):
        return
    if successor.record():
        shutil.rmtree(former.folder)
        return
    shutil.rmtree(folder, ignore_errors=True)
    former.folder.rename(folder)


def replace(folder: Path, wanted: Wanted, uv: str, reason: str) -> None:
    """Create an environment in place of one that cannot be used, which is removed afterwards.

    Raises:
        SystemExit: The new one cannot be completed; the former one is in its place again.
    """
    say(f"{folder} {reason}: a new one replaces it once it is complete.")
    folder.rename(aside(folder))
    try:
        if not create(folder, uv).install(wanted, uv):
            sys.exit(f"The installation failed: {folder} is as it was.")
    finally:
        clean_up(folder)


def unusable(environment: Environment, oldest: tuple[int, int], *, this_python: bool) -> str:
    """Return why an environment cannot be used; nothing if it can."""
    version = environment.version
    if version is None:
        return "does not run here"
    if version < oldest or (this_python and version != sys.version_info[:2]):
        return f"has Python {dotted(version)}, not {dotted(sys.version_info)}"
    here = str(Path.cwd())
    if environment.record().get("folder", here) != here and environment.created_here():
        return "was moved"
    return ""


def check_python(environment: Environment, oldest: tuple[int, int], reason: str) -> None:
    """Run this program with the environment's Python if this one is too old.

    Args:
        environment: The environment.
        oldest: The oldest Python of the project.
        reason: Why the environment cannot be used; nothing if it can.

    Raises:
        SystemExit: This Python is too old: there is no other one, or that one has run this program.
    """
    if sys.version_info[:2] >= oldest:
        return
    if not reason:
        sys.exit(subprocess.run([str(environment.python), *sys.argv]).returncode)
    sys.exit(
        f"Python {dotted(oldest)} or newer is needed, but {sys.executable} is"
        f" {dotted(sys.version_info)}: name a newer one, such as make PYTHON=python3.14 ..."
    )


def with_extras_of(environment: Environment, wanted: Wanted) -> Wanted:
    """Return what is wanted with the extras that are installed: one resolution chooses all versions."""
    installed = set(environment.record().get("extras", ()))
    return Wanted(wanted.pyproject, wanted.extras | installed & wanted.all_extras)


def update(environment: Environment, wanted: Wanted, uv: str) -> None:
    """Install what is missing into an environment that works.

    Raises:
        SystemExit: The installation failed, and requirements are missing.
    """
    if environment.has(wanted) or environment.install(with_extras_of(environment, wanted), uv):
        return
    failure = f"The installation failed: {environment.folder} is as it was"
    names = {normalized(each.partition("-")[0]) for each in environment.distributions()}
    if missing := sorted(wanted.names() - names):
        sys.exit(f"{failure}, without {', '.join(missing)}.")
    say(f"{failure}. It has every requirement, perhaps in another version, and is used.")


def main() -> None:
    """Install what the arguments name."""
    parser = argparse.ArgumentParser(description="Install the project and extras into .venv.")
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help="an extra of pyproject.toml")
    parser.add_argument("--venv", type=Path, default=Path(".venv"), help="the environment")
    uv = shutil.which("uv") or ""
    parser.add_argument("--uv", default=uv, help="the program uv; empty for pip")
    purpose = "replace an environment that has another Python than the one that runs this"
    parser.add_argument("--this-python", action="store_true", help=purpose)
    given = parser.parse_args()
    pyproject = Path("pyproject.toml").read_text(encoding="utf-8")
    oldest = oldest_python(pyproject)
    folder: Path = given.venv
    clean_up(folder)
    environment = Environment(folder)
    reason = unusable(environment, oldest, this_python=given.this_python)
    check_python(environment, oldest, reason)
    wanted = Wanted(pyproject, set(given.extras))
    if is_missing(folder):
        if not create(folder, given.uv).install(wanted, given.uv):
            sys.exit(f"The installation failed: {folder} is incomplete; the next run continues.")
    elif not reason:
        update(environment, wanted, given.uv)
    elif environment.created_here():
        replace(folder, with_extras_of(environment, wanted), given.uv, reason)
    else:
        sys.exit(f"{folder} {reason}, and was not created by this program: rename or delete it.")


if __name__ == "__main__":
    main()
