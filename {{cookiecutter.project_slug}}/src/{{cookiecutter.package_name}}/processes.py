"""Several processes without a backend in common: found by the server's command, or by a shared socket."""

from __future__ import annotations

import ast
import os
import shlex
import sys
from itertools import pairwise
from pathlib import Path

from falcon_pachinko import ConfigurationError

from .settings import PACKAGE
from .siblings import count_siblings

# ASGI servers that accept a number of processes on their command line, each with the variable of its default.
SERVERS = {
    "granian": "GRANIAN_WORKERS",
    "gunicorn": "WEB_CONCURRENCY",
    "hypercorn": "",
    "uvicorn": "WEB_CONCURRENCY",
}
GUNICORN_CONFIGURATION = "gunicorn.conf.py"
# Errors of a file that cannot be read as a Python program.
UNREADABLE = (OSError, SyntaxError, ValueError)


def check_processes() -> None:
    """Refuse to serve as one of several processes; for a service without a backend in common.

    Raises:
        ConfigurationError: The server's command starts several processes, or has started another one.
    """
    processes = max(count_by_command(), 1 + count_siblings())
    if processes > 1:
        raise ConfigurationError(
            f"{processes} processes would serve, and each would have rooms of its own: set APP_BACKEND_URL,"
            " or serve with one process"
        )


def count_by_command() -> int:
    """Return the number of processes that the server's command line and environment ask for; 0 if unknown."""
    program = Path(sys.argv[0])
    server = program.parent.name if program.name == "__main__.py" else program.stem
    arguments = sys.argv[1:]
    if server == "uvicorn" and "--reload" in arguments:
        return 1
    if server == "gunicorn":
        return gunicorn_workers(arguments) or default_workers(server)
    if server in SERVERS or any(part.startswith(f"{PACKAGE}.asgi") for part in arguments):
        return workers_option(arguments) or default_workers(server)
    return 0


def default_workers(server: str) -> int:
    """Return the number of processes that a server's variable in the environment sets; 0 if it sets none."""
    value = os.environ.get(SERVERS.get(server, ""), "")
    return int(value) if value.isdecimal() else 0


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
