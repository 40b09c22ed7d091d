"""The generated files of the contract agree with the code."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from falcon_pachinko.handlers import HandlerTable

import {{ cookiecutter.package_name }}.resources.{{ cookiecutter.__resource_module }} as chat
from {{ cookiecutter.package_name }} import contract, contract_files, messages
from {{ cookiecutter.package_name }}.app import create_app

if TYPE_CHECKING:
    from ..conftest import MakeSettings

HANDLERS = HandlerTable.of(chat.{{ cookiecutter.__resource_class }})
CHAT_MODULES = sorted(contract_files.TYPES.parent.glob("chat/*.js"))
# Messages that the framework adds: errors, positions in a room with history, changes of a large room, checks
# of the connection, the refresh of a session, the reply to a request.
ADDED = {
    *("serverError", "serverPosition", "serverPresenceChanged", "clientPing", "serverPong"),
    *("clientRefreshSession", "serverSessionExpiring", "serverSessionRefreshed"),
    *("clientReply", "serverAck"),
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = contract_files.published()
    return loaded


def channel_of(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["channels"]["{{ cookiecutter.__channel }}"]
    return found


def test_the_generated_files_are_up_to_date() -> None:
    found = [str(path.relative_to(contract_files.PROJECT)) for path in contract_files.outdated()]
    assert found == [], "run: make asyncapi"


@pytest.mark.slow
def test_the_command_writes_only_outdated_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    types = tmp_path / "realtime.d.ts"
    own = contract_files.TYPES.read_text(encoding="utf-8").partition(contract_files.TYPES_HEADER)[0]
    types.write_text(own, encoding="utf-8")
    monkeypatch.setattr(contract_files, "PROJECT", tmp_path)
    monkeypatch.setattr(contract_files, "DOCUMENT", tmp_path / "asyncapi.yaml")
    monkeypatch.setattr(contract_files, "TYPES", types)
    contract_files.main()
    assert capsys.readouterr().out == "wrote asyncapi.yaml\nwrote realtime.d.ts\n"
    assert contract_files.outdated() == {}
    contract_files.main()
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_the_service_does_not_need_pyyaml() -> None:
    code = "import sys; sys.modules['yaml'] = None; import {{ cookiecutter.package_name }}.asgi"
    environment = {**os.environ, "PYTHONPATH": str(contract_files.PROJECT / "src")}
    command = [sys.executable, "-B", "-c", code]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50)
    assert finished.returncode == 0, finished.stderr


def references_in(node: Any) -> Iterator[str]:
    """Yield every reference below a node."""
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from references_in(value)


def test_all_references_resolve(document: dict[str, Any]) -> None:
    references = set(references_in(document))
    assert references
    for reference in references:
        start, *parts = reference.split("/")
        assert start == "#", reference
        place = document
        for part in parts:
            assert part in place, reference
            place = place[part]


def test_the_channel_matches_the_route(document: dict[str, Any], websocket_path: str) -> None:
    channel = channel_of(document)
    assert channel["address"] == websocket_path + "/{room_name}"
    assert channel["parameters"]["room_name"]["examples"] == ["general"]
    for code, meaning in messages.CLOSE_CODES.items():
        assert channel["x-close-codes"][str(code)] == meaning


def test_every_message_is_described(document: dict[str, Any]) -> None:
    sent = {str(each.__struct_config__.tag) for each in messages.SERVER_MESSAGES}
    described = channel_of(document)["messages"].keys()
    assert described == HANDLERS.by_type.keys() | sent | ADDED
    for message in document["components"]["messages"].values():
        assert message["summary"].endswith((".", "!", "?")), message["name"]


def test_the_handlers_accept_the_examples(document: dict[str, Any]) -> None:
    for name in HANDLERS.by_type:
        [example] = document["components"]["messages"][name]["examples"]
        envelope = HANDLERS.decoder.decode(msgspec.json.encode(example["payload"]))
        # NOTE: each call of the table wraps the handlers that ask for authorization.
        found = [HANDLERS.entries[type(envelope)].handler, HANDLERS.by_type[name]]
        assert inspect.unwrap(found[0]) is inspect.unwrap(found[1])


@pytest.mark.parametrize(
    ("given", "server"),
    [
        ({}, {"host": "127.0.0.1:8000", "protocol": "ws"}),
        ({"host": "0.0.0.0", "port": 80}, {"host": "localhost:80", "protocol": "ws"}),
        ({"host": "::1"}, {"host": "[::1]:8000", "protocol": "ws"}),
        ({"host": "chat.local"}, {"host": "chat.local:8000", "protocol": "ws"}),
        (
            {"public_origin": "https://Chat.example.com:443"},
            {"host": "chat.example.com", "protocol": "wss"},
        ),
        (
            {"public_origin": "http://chat.example.com:8080"},
            {"host": "chat.example.com:8080", "protocol": "ws"},
        ),
    ],
)
def test_the_server_object_follows_the_settings(
    make_settings: MakeSettings, given: dict[str, Any], server: dict[str, str]
) -> None:
    settings = make_settings(environment="production", **given)
    described = contract.describe(create_app(settings), settings)
    [(name, found)] = described["servers"].items()
    assert name == "production"
    assert {key: found[key] for key in ("host", "protocol")} == server


def test_the_page_uses_the_declared_messages(document: dict[str, Any]) -> None:
    """A misspelt type in a script of the page would be ignored without an error."""
    script = "\n".join(path.read_text(encoding="utf-8") for path in CHAT_MODULES)
    handled = set(re.findall(r'\.on\("(\w+)"', script))
    sent = set(re.findall(r'\.send\("(\w+)"', script))
    declared = {str(each.__struct_config__.tag) for each in messages.SERVER_MESSAGES}
    assert handled
    assert handled <= declared | ADDED
    assert sent
    assert sent <= HANDLERS.by_type.keys()
    length = re.search(r"MAX_TEXT_CHARACTERS = ([\d_]+);", script)
    schema = document["components"]["schemas"]["SendMessage"]["properties"]["text"]
    assert length is not None
    assert int(length[1]) == schema["maxLength"]
