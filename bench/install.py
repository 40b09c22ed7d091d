"""What the servers need: packages from npm and loops in C, installed and compiled into ``build/bench/``."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from .child import python

ROOT = Path(__file__).resolve().parent.parent
FRAMEWORK = ROOT / "{{cookiecutter.project_slug}}" / "src"
# Compiled files and npm packages.
BUILD = ROOT / "build" / "bench"
NODE_PACKAGES = {"bun": "1", "socket.io": "4", "ws": "8"}
# The package of Bun contains its program.
BUN = BUILD / "node_modules" / ".bin" / "bun"
BUILD_SECONDS = 180
VERSION_SECONDS = 10
NO_RING = "the kernel, or a container's profile, does not permit io_uring"


class Unavailable(Exception):
    """A server that cannot run here, with the reason."""


def compiled(name: str) -> Path:
    """Return the path of a compiled loop of ``bench/servers``."""
    return BUILD / f"{name}.so"


@functools.cache
def compile_loop(name: str) -> None:
    """Compile a loop in C, and prepare it as far as it needs that.

    Raises:
        Unavailable: There is no C compiler, it fails, or the kernel does not permit what the loop needs.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise Unavailable("there is no C compiler, cc")
    BUILD.mkdir(parents=True, exist_ok=True)
    source = ROOT / "bench" / "servers" / f"{name}.c"
    # NOTE: another run may have loaded the file, which must not change then.
    new = BUILD / f"{name}.{os.getpid()}.so"
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(new), str(source)]
    finished = subprocess.run(command, timeout=BUILD_SECONDS, capture_output=True)
    if finished.returncode != 0:
        raise Unavailable("cc could not compile it")
    new.replace(compiled(name))
    library = ctypes.CDLL(str(compiled(name)))
    if hasattr(library, "prepare") and not library.prepare():
        raise Unavailable(NO_RING)


@functools.cache
def check_package(name: str) -> None:
    """Check that a package of Python can be imported.

    Raises:
        Unavailable: It is not installed, or its library is for other platforms.
    """
    if importlib.util.find_spec(name) is None:
        raise Unavailable(f"{name} is not installed; make bench installs it")
    command = python("-c", f"import {name}")
    finished = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS)
    if finished.returncode != 0:
        *_, reason = finished.stderr.strip().splitlines() or ["no message"]
        raise Unavailable(f"{name} cannot be imported here: {reason}")


@functools.cache
def check_ring() -> None:
    """Check that the framework can use io_uring.

    Raises:
        Unavailable: The kernel, or a container's profile, does not permit it.
    """
    command = python("-c", "from falcon_pachinko.uvicorn.ring import Ring; Ring().close()")
    finished = subprocess.run(
        command, capture_output=True, timeout=BUILD_SECONDS, env=environment()
    )
    if finished.returncode != 0:
        raise Unavailable(NO_RING)


@functools.cache
def install_node_packages() -> None:
    """Install the packages of the servers on Node and Bun, once.

    Raises:
        Unavailable: There is no Node, or npm fails.
    """
    npm = shutil.which("npm")
    if shutil.which("node") is None or npm is None:
        raise Unavailable("there is no node with npm")
    if all((BUILD / "node_modules" / name).is_dir() for name in NODE_PACKAGES):
        return
    BUILD.mkdir(parents=True, exist_ok=True)
    # NOTE: without a package.json here npm works on the nearest project above.
    (BUILD / "package.json").write_text("{}\n", encoding="utf-8")
    flags = ("--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--silent")
    packages = [f"{name}@{version}" for name, version in NODE_PACKAGES.items()]
    finished = subprocess.run([npm, "install", *flags, *packages], cwd=BUILD, timeout=BUILD_SECONDS)
    if finished.returncode != 0:
        shutil.rmtree(BUILD / "node_modules", ignore_errors=True)
        raise Unavailable("npm could not install it")


@functools.cache
def check_bun() -> None:
    """Check that the program in the package of Bun runs.

    Raises:
        Unavailable: npm has no program for this platform, or did not run the script that puts it into its place.
    """
    if program_version(str(BUN)) is not None:
        return
    script = BUILD / "node_modules" / "bun" / "install.js"
    subprocess.run(
        ["node", str(script)], cwd=script.parent, timeout=BUILD_SECONDS, capture_output=True
    )
    if program_version(str(BUN)) is None:
        raise Unavailable("npm has no program of Bun that runs here")


def program_version(program: str) -> str | None:
    """Return what a program prints with ``--version``; ``None`` if it does not run."""
    found = shutil.which(program)
    if found is None:
        return None
    try:
        finished = subprocess.run(
            [found, "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return finished.stdout.strip().removeprefix("v") if finished.returncode == 0 else None


def environment() -> dict[str, str]:
    """Return the environment of the processes, with the framework and the npm packages."""
    return os.environ | {
        "NODE_PATH": str(BUILD / "node_modules"),
        "PYTHONPATH": str(FRAMEWORK),
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(BUILD / "pycache"),
    }
