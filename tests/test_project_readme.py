"""What a project's README tells people to do works as it is written."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BOUND_SECONDS = 600
PACKAGE = Path("src/chat_service")
RESOURCE = PACKAGE / "resources/chat_room.py"
MESSAGES = PACKAGE / "messages.py"

Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def project(baked: Callable[..., Path]) -> Path:
    return baked()


@pytest.fixture
def make(project: Path, environment: dict[str, str]) -> Make:
    """Run a command in the project as its owner does."""

    def make(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BOUND_SECONDS / 3,
        )

    return make


def code_of(project: Path, heading: str) -> list[str]:
    """The blocks of code below a heading of the README, without the indentation of a list."""
    readme = (project / "README.md").read_text(encoding="utf-8")
    section = readme.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^( *)```\w*\n(.*?)^ *```$", section, re.DOTALL | re.MULTILINE)
    return [re.sub(f"^{indent}", "", code, flags=re.MULTILINE) for indent, code in blocks]


def put(path: Path, anchor: str, text: str, *, after: bool = False) -> None:
    """Put text before or after the first place of an anchor."""
    before, found, rest = path.read_text(encoding="utf-8").partition(anchor)
    assert found, f"{path.name} has no {anchor!r}"
    written = before + (found + text if after else text + found) + rest
    path.write_text(written, encoding="utf-8")


@pytest.mark.timeout(BOUND_SECONDS)
def test_a_message_type_and_a_second_resource_are_added_as_the_readme_says(
    project: Path, make: Make
) -> None:
    installed = make("make", "install", f"PYTHON={sys.executable}")
    assert installed.returncode == 0, installed.stdout
    pytest_command = (".venv/bin/python", "-m", "pytest", "-q", "-x")

    structs, handler, command, wire_form, test, page = code_of(project, "Add a message type")
    put(project / MESSAGES, "# What the chat sends", structs + "\n\n")
    put(project / RESOURCE, "import falcon.asgi\n", "import secrets\n")
    put(project / RESOURCE, "    NoPayload,\n", "    RollDice,\n    ServerDiceRolled,\n")
    resource = project / RESOURCE
    resource.write_text(resource.read_text(encoding="utf-8") + "\n" + handler, encoding="utf-8")
    put(project / "tests/unit/test_messages.py", "WIRE_FORMS = [\n", wire_form, after=True)
    (project / "tests/integration/test_dice.py").write_text(test, encoding="utf-8")
    put(project / PACKAGE / "web/chat.js", '  opened.on("serverNewMessage"', page)
    assert make("make", "format").returncode == 0

    # What is sent and not declared fails by its name.
    undeclared = make(*pytest_command, "tests/integration/test_dice.py")
    assert undeclared.returncode == 1, undeclared.stdout
    assert "'serverDiceRolled' it does not declare" in undeclared.stdout
    put(project / MESSAGES, "SERVER_MESSAGES = (\n", "    ServerDiceRolled,\n", after=True)

    # What is declared and not written down fails too, and one command mends that.
    outdated = make(*pytest_command, "tests/unit/test_contract.py")
    assert outdated.returncode == 1, outdated.stdout
    assert "run: make asyncapi" in outdated.stdout
    assert command == "make asyncapi\n"
    written = make(*command.split())
    assert written.stdout == "wrote asyncapi.yaml\nwrote src/chat_service/web/realtime.d.ts\n"
    document = (project / "asyncapi.yaml").read_text(encoding="utf-8")
    assert "      name: serverDiceRolled\n" in document
    assert "      name: clientRollDice\n" in document
    types = (project / PACKAGE / "web/realtime.d.ts").read_text(encoding="utf-8")
    assert "  serverDiceRolled: ServerDiceRolled;\n" in types
    assert "  clientRollDice: RollDice;\n" in types

    commands, module, imported, route = code_of(project, "Add a second resource")
    scaffold, rest = commands.splitlines()
    assert make(*shlex.split(scaffold)).returncode == 0
    assert rest == "make check test", "as this test does at its end"
    assert "    address: /ws/games/{game_id}\n" in (project / "asyncapi.yaml").read_text(
        encoding="utf-8"
    )
    (project / PACKAGE / "resources/inbox.py").write_text(module, encoding="utf-8")
    put(project / PACKAGE / "app.py", "from .settings import", imported)
    put(project / PACKAGE / "app.py", '    app.add_route("/asyncapi.json"', route)
    assert make("make", "format").returncode == 0
    assert make("make", "asyncapi").returncode == 0
    assert "    address: /ws/inbox\n" in (project / "asyncapi.yaml").read_text(encoding="utf-8")

    tested = make(*pytest_command, "tests/unit", "tests/integration")
    assert tested.returncode == 0, tested.stdout
    checked = make("make", "check")
    assert checked.returncode == 0, checked.stdout
