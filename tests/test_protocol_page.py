"""docs/protocol.md of a project: its tables, figures and examples agree with the code."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import falcon_pachinko
from falcon_pachinko import History, Limits, RouteConfig, ServerLimits, close_codes, messages
from falcon_pachinko.client.options import Options
from falcon_pachinko.client.policy import RETRYABLE_CODES, TERMINAL_CODES, is_terminal_code
from falcon_pachinko.client.positions import MAX_CONNECTION_IDS
from falcon_pachinko.client.requests import RETRIED_ERRORS
from falcon_pachinko.connection.joins import ClientJoin
from falcon_pachinko.messages import MAX_REF_CHARACTERS, MAX_TOKEN_CHARACTERS, SERVER_MESSAGES
from falcon_pachinko.routing import route

PROJECT = "{{cookiecutter.project_slug}}"
# Constants of close_codes.py that are not codes.
NO_CODES = {"MAX_REASON_BYTES"}
SOURCES = Path(falcon_pachinko.__file__).parent


@pytest.fixture
def page(root: Path) -> str:
    return (root / PROJECT / "docs/protocol.md").read_text("utf-8")


def section(page: str, heading: str) -> str:
    """Return the text below a heading, up to the next one of its level or above."""
    level = re.search(rf"^(#+) {re.escape(heading)}$", page, re.MULTILINE)
    assert level is not None, heading
    rest = page[level.end() :]
    return re.split(rf"^#{{1,{len(level[1])}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of the rows of all tables."""
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def test_the_table_of_close_codes_is_complete_and_says_who_retries(page: str) -> None:
    found: dict[int, str] = {}
    for codes, _, retry in rows(section(page, "Close codes")):
        for code in re.findall(r"\d{4}", codes):
            found[int(code)] = retry
    defined = {
        value
        for name, value in vars(close_codes).items()
        if name.isupper() and isinstance(value, int) and name not in NO_CODES
    }
    assert found.keys() == defined
    for code, retry in found.items():
        assert retry == ("no" if is_terminal_code(code) else "yes"), code


def test_the_rule_of_retries_is_that_of_the_clients(page: str) -> None:
    rule = re.search(r"useless for (.+?)\. A client MUST NOT", page, re.DOTALL)
    assert rule is not None
    useless, _, exceptions = rule[1].partition("except for")
    ranges = re.findall(r"(\d{4})(?: to (\d{4}))?", useless)
    excepted = set(map(int, re.findall(r"\d{4}", exceptions)))
    assert excepted == RETRYABLE_CODES
    assert {1002, 1003, *range(1007, 1011)} == TERMINAL_CODES
    for code in range(1000, 5000):
        inside = any(int(first) <= code <= int(last or first) for first, last in ranges)
        assert (inside and code not in excepted) is is_terminal_code(code), code


def test_refused_handshakes_are_retried_as_their_close_codes(page: str) -> None:
    for statuses, _, retry in list(rows(section(page, "Refused handshakes")))[1:]:
        for status in map(int, re.findall(r"\d{3}", statuses)):
            assert retry == ("no" if is_terminal_code(3000 + status) else "yes"), status


def test_the_examples_are_messages_of_the_framework_or_of_the_chat(page: str) -> None:
    blocks = [json.loads(each) for each in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]
    assert len(blocks) >= 9
    for block in blocks:
        kind, payload = block["type"], block["payload"]
        if kind in SERVER_MESSAGES:
            msgspec.convert({**payload, "type": kind}, SERVER_MESSAGES[kind])
        elif kind == "clientReply":
            msgspec.convert(block, messages.ClientReply)
        elif kind == "clientJoin":
            assert msgspec.convert(block, ClientJoin).payload.rooms[0].room == "general"
        elif kind == "clientRefreshSession":
            msgspec.convert(payload, messages.RefreshSession)
        else:
            assert kind in {"clientPing", "clientSendMessage"}


def test_every_message_of_the_framework_is_explained(page: str) -> None:
    for kind in (*SERVER_MESSAGES, *messages.RESERVED_CLIENT_TYPES):
        assert f"`{kind}`" in page or f'"{kind}"' in page, kind


def test_the_codes_of_errors_are_those_of_the_code(page: str) -> None:
    table = section(page, "Requests and replies").partition("### Once")[0]
    listed = {code for row in rows(table) for code in re.findall(r"`(\w+)`", row[0])}
    sources = "".join(path.read_text("utf-8") for path in SOURCES.rglob("*.py"))
    declared = re.search(r"An identifier for programs: (.+?) or one of the", sources, re.DOTALL)
    assert declared is not None
    assert set(re.findall(r"`(\w+)`", declared[1])) <= listed
    for code in listed - {"serverError"}:
        assert f'"{code}"' in sources, code
    assert set(re.findall(r"`(\w+)`", section(page, "Once"))) >= RETRIED_ERRORS


def figure(page: str, row: str) -> list[int]:
    """Return the numbers of the row of a bound."""
    [default] = [cells[1] for cells in rows(section(page, "Limits")) if cells[0].startswith(row)]
    units = {"": 1, " KiB": 1024, " MiB": 1024**2}
    numbers = re.findall(r"([\d,]+)( KiB| MiB|)", default)
    return [int(number.replace(",", "")) * units[unit] for number, unit in numbers]


def test_the_limits_are_the_defaults(page: str) -> None:
    limits, server_limits = Limits(), ServerLimits()
    assert figure(page, "size of a message") == [limits.max_message_bytes]
    assert figure(page, "messages of a user") == [limits.messages_per_second, limits.message_burst]
    assert figure(page, "messages that wait") == [limits.outbox_messages, limits.outbox_bytes]
    assert figure(page, "time of a handler") == [limits.handler_seconds]
    assert figure(page, "rooms of") == [limits.rooms_per_connection]
    assert figure(page, "connections of") == [server_limits.connections_per_user]
    assert figure(page, "characters of a `ref`") == [MAX_REF_CHARACTERS]
    assert figure(page, "bytes of a token") == [MAX_TOKEN_CHARACTERS]
    assert f"keeps a reply for {limits.once_seconds:.0f} s" in page
    history = History()
    assert f"{history.messages} messages and {history.seconds:.0f} s by default" in page


def test_the_times_are_those_of_the_clients(page: str) -> None:
    options = Options()
    backoff, liveness = section(page, "Back-off"), section(page, "Liveness")
    assert f"`min({options.max_delay_seconds:.0f} s, {options.base_delay_seconds} s * 2" in backoff
    assert f"lasted {options.stable_after_seconds:.0f} s is stable" in backoff
    assert f"more than {options.connect_timeout_seconds:.0f} s has failed" in backoff
    assert f"within {options.probe_timeout_seconds:.0f} s" in liveness
    interval = RouteConfig(history=History()).heartbeat_interval
    assert f'"heartbeatSeconds": {interval:.0f}' in page


def test_the_query_is_that_of_the_route(page: str) -> None:
    handshake = section(page, "Handshake")
    assert f"at most {route.MAX_POSITIONS}, further ones" in handshake
    assert f"at most {route.MAX_PREVIOUS_IDS}, further ones" in handshake
    assert f"SHOULD send its last {MAX_CONNECTION_IDS}" in handshake
    [client] = re.findall(r"[?]client=(\w+)", handshake)
    assert route.CLIENT_ID.fullmatch(client)


def test_the_page_has_short_cells(page: str) -> None:
    for cells in rows(page):
        assert max(len(cell.split()) for cell in cells) <= 40, cells
