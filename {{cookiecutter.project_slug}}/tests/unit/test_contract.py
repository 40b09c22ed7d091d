"""What others read of the contract, asyncapi.yaml and the web client's types, says what the program does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml

import {{ cookiecutter.package_name }}.resources.{{ cookiecutter.__resource_module }} as chat
from {{ cookiecutter.package_name }} import contract, contract_files, messages
from {{ cookiecutter.package_name }}.app import create_app

from ..falcon_pachinko.asyncapi_rules import as_json, problems_of

if TYPE_CHECKING:
    from ..conftest import MakeSettings

HANDLERS = chat.{{ cookiecutter.__resource_class }}.handler_table()
CHAT_JS = contract_files.TYPES.with_name("chat.js")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(contract_files.DOCUMENT.read_text(encoding="utf-8"))
    return loaded


def channel_of(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["channels"]["{{ cookiecutter.__channel }}"]
    return found


def test_the_files_are_up_to_date() -> None:
    found = [str(path.relative_to(contract_files.PROJECT)) for path in contract_files.outdated()]
    assert found == [], "run: make asyncapi"


def test_the_command_writes_what_is_out_of_date_and_nothing_else(
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


def test_the_service_does_without_the_tools_of_development() -> None:
    code = "import sys; sys.modules['yaml'] = None; import {{ cookiecutter.package_name }}.asgi"
    environment = {**os.environ, "PYTHONPATH": str(contract_files.PROJECT / "src")}
    command = [sys.executable, "-B", "-c", code]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50)
    assert finished.returncode == 0, finished.stderr


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    assert problems_of(document) == []


def test_the_channel_is_the_one_that_is_served(
    document: dict[str, Any], websocket_path: str
) -> None:
    channel = channel_of(document)
    assert channel["address"] == websocket_path + "/{room_name}"
    assert channel["parameters"]["room_name"]["examples"] == ["general"]
    for code, meaning in messages.CLOSE_CODES.items():
        assert channel["x-close-codes"][str(code)] == meaning


def test_it_names_every_message_and_says_what_it_is_for(document: dict[str, Any]) -> None:
    sent = {str(each.__struct_config__.tag) for each in messages.SERVER_MESSAGES}
    described = channel_of(document)["messages"].keys()
    assert described == HANDLERS.by_type.keys() | sent | {"serverError"}
    for message in document["components"]["messages"].values():
        assert message["summary"].endswith((".", "!", "?")), message["name"]


def test_its_examples_are_understood(document: dict[str, Any]) -> None:
    for name in HANDLERS.by_type:
        [example] = document["components"]["messages"][name]["examples"]
        assert HANDLERS.decode(msgspec.json.encode(example["payload"]).decode()) is not None


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
def test_the_server_is_where_the_settings_say(
    make_settings: MakeSettings, given: dict[str, Any], server: dict[str, str]
) -> None:
    settings = make_settings(environment="production", **given)
    described = as_json(contract.describe(create_app(settings), settings))
    assert problems_of(described) == []
    [(name, found)] = described["servers"].items()
    assert name == "production"
    assert {key: found[key] for key in ("host", "protocol")} == server


def test_the_page_speaks_the_same_language(document: dict[str, Any]) -> None:
    """A type that chat.js misspells would never come, or be refused, and nobody would be told."""
    script = CHAT_JS.read_text(encoding="utf-8")
    heard = set(re.findall(r'\.on\("(\w+)"', script))
    said = set(re.findall(r'\.send\("(\w+)"', script))
    sent = {str(each.__struct_config__.tag) for each in messages.SERVER_MESSAGES} | {"serverError"}
    assert heard
    assert heard <= sent
    assert said
    assert said <= HANDLERS.by_type.keys()
    length = re.search(r"MAX_TEXT_CHARACTERS = ([\d_]+);", script)
    schema = document["components"]["schemas"]["SendMessage"]["properties"]["text"]
    assert length is not None
    assert int(length[1]) == schema["maxLength"]
