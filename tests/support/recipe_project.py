"""A baked project with recipes, its commands, its services and the servers that they need."""

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from falcon_pachinko import testing

from .blocks import steps_of, write_block
from .http_requests import request
from .processes import DEVELOPMENT, WAIT_SECONDS, running, wait_until

RECIPES = Path(__file__).parents[2] / "docs" / "recipes"
# In the order in which they are carried out in one project.
APPLICATION_RECIPES = (
    "postgresql",
    "sign-in",
    "direct-messages",
    "webhook",
    "private-rooms",
    "game-loop",
    "cursors",
    "language-model",
    "second-service",
    "migrating",
)
COMMAND_SECONDS = 240
# Runs a server of the project's own tests until its input ends, and prints how to reach it.
SERVER = """
import importlib, json, sys
from _pytest.outcomes import Skipped
module, function, expression = sys.argv[1:]
try:
    with getattr(importlib.import_module(module), function)() as server:
        print(json.dumps(eval(expression)), flush=True)
        sys.stdin.read()
except Skipped as reason:
    print(json.dumps({"skipped": str(reason)}), flush=True)
"""


def recipe_steps(name: str) -> list[tuple[str, str]]:
    """Return the steps of a recipe, each with its code block."""
    return steps_of((RECIPES / f"{name}.md").read_text("utf-8"))


def recipe_blocks(name: str, wanted: str) -> list[str]:
    """Return the blocks of a recipe that belong to a step, such as ``run``."""
    return [block for step, block in recipe_steps(name) if step == wanted]


class Service:
    """A running service of the project."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port, self.process, self.log = port, process, log

    def sign_in(self, name: str) -> str:
        """Return the token of a user who signs in by name."""
        response = request(self.port, "POST", "/session", {"name": name})
        assert response.status == 201, response
        token: str = json.loads(response.body)["token"]
        return token

    def connect(
        self, path: str, name: str = "", token: str = "", **options: Any
    ) -> AbstractAsyncContextManager[testing.Client]:
        """Connect a user, who signs in by name unless a token is given."""
        token = token or (self.sign_in(name) if name else "")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"ws://127.0.0.1:{self.port}{path}"
        return testing.connect(url, headers=headers, timeout_seconds=WAIT_SECONDS, **options)


class RecipeProject:
    """A project in which recipes are carried out.

    Args:
        folder: The project, which has the default answers.
        python: A Python with the dependencies of the project.
        environment: The environment of its commands and services.
    """

    def __init__(self, folder: Path, python: Path, environment: dict[str, str]) -> None:
        self.folder, self.python = folder, python
        self.environment = environment | {
            **DEVELOPMENT,
            "PYTHONPATH": str(folder / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        program = folder / ".venv" / "bin" / "python"
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\nexec "{python}" "$@"\n', "ascii")
        program.chmod(0o755)

    def apply(self, name: str) -> None:
        """Write all blocks of a recipe that belong into files."""
        for step, block in recipe_steps(name):
            write_block(self.folder, step, block)

    def tidy(self) -> None:
        """Do what `make format asyncapi` does."""
        self.module("ruff", "check", "--no-cache", "--fix", "--quiet")
        self.module("ruff", "format", "--no-cache", "--quiet")
        self.module("chat_service.contract_files")

    def copy(self, folder: Path) -> "RecipeProject":
        """Return a copy of the project."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns(".venv"))
        return RecipeProject(folder, self.python, self.environment)

    def module(self, *arguments: str) -> str:
        """Run a Python module in the folder, and return its output."""
        return self.command([str(self.python), "-m", *arguments])

    def shell(self, commands: str, **variables: str) -> str:
        """Run a block of commands in the folder, and return its output."""
        return self.command(["bash", "-euo", "pipefail", "-c", commands], **variables)

    def command(self, command: Sequence[str], **variables: str) -> str:
        finished = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        assert finished.returncode == 0, f"{command}: {finished.stdout}"
        return finished.stdout

    @contextlib.contextmanager
    def serve(self, folder: Path, **variables: str) -> Iterator[Service]:
        """Run the service on a free port, in a folder of its own."""
        folder.mkdir()
        command = [str(self.python), "-m", "chat_service"]
        log = folder / f"{self.python.name}.log"
        with running(command, folder, self.environment | {"APP_PORT": "0"} | variables) as process:
            pattern = re.compile(r"running on http://127\.0\.0\.1:(\d+)")
            found = wait_until(lambda: pattern.search(log.read_text("utf-8")), process, log)
            assert isinstance(found, re.Match)
            yield Service(int(found[1]), process, log)
        assert "Traceback" not in log.read_text("utf-8"), log.read_text("utf-8")

    @contextlib.contextmanager
    def test_server(self, module: str, function: str, expression: str) -> Iterator[Any]:
        """Run a server of the project's tests, such as PostgreSQL; yield what the expression says of ``server``."""
        with subprocess.Popen(
            [str(self.python), "-c", SERVER, module, function, expression],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                printed = json.loads(process.stdout.readline())
                if isinstance(printed, dict) and "skipped" in printed:
                    pytest.skip(printed["skipped"])
                yield printed
            finally:
                process.stdin.close()
                try:
                    process.wait(WAIT_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
