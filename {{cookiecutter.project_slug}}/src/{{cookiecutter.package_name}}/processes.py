"""The number of processes that serve, from the settings and the server's command line."""

from __future__ import annotations

import ast
import logging
import os
import shlex
import sys
from itertools import pairwise
from pathlib import Path

from .settings import PACKAGE, Settings

logger = logging.getLogger(__name__)

# ASGI servers that accept a number of processes on their command line.
SERVERS = frozenset({"granian", "gunicorn", "hypercorn", "uvicorn"})
GUNICORN_CONFIGURATION = "gunicorn.conf.py"
# Errors of a file that cannot be read as a Python program.
UNREADABLE = (OSError, SyntaxError, ValueError)


def check_processes(settings: Settings) -> str:
    """Warn if several processes serve without a backend in common: rooms would not be shared.

    The number of processes is the largest of ``APP_WORKERS`` or ``WEB_CONCURRENCY`` and the option of the
    server's command. uvicorn with ``--reload`` is always one process.

    Returns:
        The warning, which is logged too; empty if there is none.
    """
    program = Path(sys.argv[0])
    server = program.parent.name if program.name == "__main__.py" else program.stem
    arguments = sys.argv[1:]
    processes = settings.workers
    if server == "uvicorn" and "--reload" in arguments:
        processes = 1
    elif server == "gunicorn":
        processes = max(processes, gunicorn_workers(arguments))
    elif server in SERVERS or any(part.startswith(f"{PACKAGE}.asgi") for part in arguments):
        processes = max(processes, workers_option(arguments))
    if processes == 1 or settings.backend_url.get_secret_value():
        return ""
    warning = (
        f"{processes} processes serve, and each has rooms of its own: set APP_BACKEND_URL,"
        " or serve with one process"
    )
    logger.critical(warning)
    return warning


def gunicorn_workers(arguments: list[str]) -> int:
    """Return the number of workers that Gunicorn is configured with; 0 if it is not given.

    As in Gunicorn the command line takes precedence over ``GUNICORN_CMD_ARGS``, and this over the
    configuration file (https://docs.gunicorn.org/en/stable/configure.html). From the file only an
    assignment of a number is read, such as ``workers = 4``, because the file is a program.
    """
    try:
        more = shlex.split(os.environ.get("GUNICORN_CMD_ARGS", ""))
    except ValueError:  # an unclosed quote, which Gunicorn refuses as well
        more = []
    if given := workers_option(arguments) or workers_option(more):
        return given
    path = option(arguments, "-c", "--config") or option(more, "-c", "--config")
    try:
        text = Path(path.removeprefix("file:") or GUNICORN_CONFIGURATION).read_bytes()
        statements = ast.parse(text).body
    except UNREADABLE:
        return 0
    workers = 0
    for statement in statements:
        match statement:
            case ast.Assign([ast.Name("workers")], ast.Constant(int(number))):
                workers = number
    return workers


def workers_option(arguments: list[str]) -> int:
    """Return the value of ``-w`` or ``--workers``; 0 if it is not given."""
    value = option(arguments, "-w", "--workers")
    return int(value) if value.isdecimal() else 0


def option(arguments: list[str], short: str, long: str) -> str:
    """Return the last value of a command-line option; empty if it is not given."""
    value = ""
    for argument, following in pairwise([*arguments, ""]):
        if argument in (short, long):
            value = following
        elif argument.startswith(f"{long}="):
            value = argument.removeprefix(f"{long}=")
        elif argument.startswith(short) and not argument.startswith("--"):
            value = argument.removeprefix(short).removeprefix("=")
    return value
