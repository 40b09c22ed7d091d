"""The steps in a project's guide work as written."""

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import WITH_UV

BOUND_SECONDS = 1200
PACKAGE = Path("src/chat_service")
RESOURCE = PACKAGE / "resources/chat_room.py"
MESSAGES = PACKAGE / "messages.py"


@pytest.fixture
def project(baked: Callable[..., Path]) -> Path:
    return baked()


def code_of(project: Path, heading: str) -> list[str]:
    """Return the code blocks below a heading of docs/guide.md, without the indentation of a list."""
    guide = (project / "docs/guide.md").read_text(encoding="utf-8")
    section = guide.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^( *)```\w*\n(.*?)^ *```$", section, re.DOTALL | re.MULTILINE)
    return [re.sub(f"^{indent}", "", code, flags=re.MULTILINE) for indent, code in blocks]


def put(path: Path, anchor: str, text: str, *, after: bool = False) -> None:
    """Insert text before or after the first occurrence of an anchor."""
    before, found, rest = path.read_text(encoding="utf-8").partition(anchor)
    assert found, f"{path.name} has no {anchor!r}"
    written = before + (found + text if after else text + found) + rest
    path.write_text(written, encoding="utf-8")


@pytest.mark.timeout(BOUND_SECONDS)
def test_steps_of_the_guide_add_a_message_type_and_a_resource(
    project: Path, run: Callable[..., str]
) -> None:
    run(project, "make", "install", f"PYTHON={sys.executable}", WITH_UV)
    pytest_command = (".venv/bin/python", "-m", "pytest", "-q", "-x")

    structs, handler, command, wire_form, test, page = code_of(project, "Add a message type")
    put(project / MESSAGES, "# What the chat sends", structs + "\n\n")
    put(project / RESOURCE, "import falcon.asgi\n", "import secrets\n")
    put(project / RESOURCE, "    NoPayload,\n", "    RollDice,\n    ServerDiceRolled,\n")
    resource = project / RESOURCE
    resource.write_text(resource.read_text(encoding="utf-8") + "\n" + handler, encoding="utf-8")
    put(project / "tests/unit/test_messages.py", "WIRE_FORMS = [\n", wire_form, after=True)
    (project / "tests/integration/test_dice.py").write_text(test, encoding="utf-8")
    put(project / PACKAGE / "web/chat/main.js", '  client.on("serverNewMessage"', page)
    run(project, "make", "format")

    # An undeclared message fails, and the error names it.
    undeclared = run(project, *pytest_command, "tests/integration/test_dice.py", status=1)
    assert "'serverDiceRolled' it does not declare" in undeclared
    put(project / MESSAGES, "SERVER_MESSAGES = (\n", "    ServerDiceRolled,\n", after=True)

    # A declared message missing in the contract fails too, until one command updates the contract.
    outdated = run(project, *pytest_command, "tests/unit/test_contract.py", status=1)
    assert "run: make asyncapi" in outdated
    assert command == "make asyncapi\n"
    assert (
        run(project, *command.split())
        == "wrote asyncapi.yaml\nwrote src/chat_service/web/realtime.d.ts\n"
    )
    document = (project / "asyncapi.yaml").read_text(encoding="utf-8")
    assert "      name: serverDiceRolled\n" in document
    assert "      name: clientRollDice\n" in document
    types = (project / PACKAGE / "web/realtime.d.ts").read_text(encoding="utf-8")
    assert "  serverDiceRolled: ServerDiceRolled;\n" in types
    assert "  clientRollDice: RollDice;\n" in types

    commands, module, imported, route = code_of(project, "Add a second resource")
    scaffold, rest = commands.splitlines()
    run(project, *shlex.split(scaffold))
    assert rest == "make check test", "as this test does at its end"
    assert "    address: /ws/games/{game_id}\n" in (project / "asyncapi.yaml").read_text(
        encoding="utf-8"
    )
    (project / PACKAGE / "resources/inbox.py").write_text(module, encoding="utf-8")
    put(project / PACKAGE / "app.py", "from .settings import", imported)
    put(project / PACKAGE / "app.py", '    app.add_route("/asyncapi.json"', route)
    run(project, "make", "format")
    run(project, "make", "asyncapi")
    assert "    address: /ws/inbox\n" in (project / "asyncapi.yaml").read_text(encoding="utf-8")

    run(project, "make", "quick", "check")
