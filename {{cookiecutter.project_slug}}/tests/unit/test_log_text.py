"""Text for the log: escaped, bounded, without credentials."""

from __future__ import annotations

import pytest

from {{ cookiecutter.package_name }} import log_text

from ..conftest import token_of

UNSAFE = [
    *(chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))),
    *"\u2028\u2029\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff",
    *"\ud800\udbff\udc00\udfff",
]


@pytest.mark.parametrize("character", UNSAFE, ids=ascii)
def test_an_unsafe_character_is_escaped(character: str) -> None:
    escaped = log_text.escape(f"a{character}b")
    assert escaped.isprintable()
    assert escaped == f"a{ascii(character)[1:-1]}b"
    assert log_text.escape(escaped) == escaped


@pytest.mark.parametrize("text", ["", "plain", "Zoë 房间 😀 חדר", "C:\\new", "é'\""])
def test_other_text_is_unchanged(text: str) -> None:
    assert log_text.escape(text) == text


def test_a_long_text_is_shortened() -> None:
    assert log_text.shorten("x" * 8_192) == "x" * 8_192
    assert log_text.shorten("x" * 9_000) == "x" * 8_192 + "... (808 more)"


@pytest.mark.parametrize(
    "text",
    [
        "connecting to redis://:hunter2@10.0.0.5:6379/0",
        "connecting to redis://:hun/hunter2@ter#@10.0.0.5",
        "connecting to postgresql://chat:hunter2@10.0.0.5/chat",
        "connecting to postgresql+psycopg://chat:hunter2@10.0.0.5/chat",
        "connecting to rediss+sentinel://bob:hunter2@10.0.0.5,10.0.0.6/s",
        "unix://:hunter2@/run/redis.sock",
        "Authorization is Bearer hunter2hunter2",
        'GET /ws/chat/x?since=1&token=hunter2 HTTP/1.1" 200',
        "'query_string': b'token=hunter2&x=1'",
        'GET /?access_token=hunter2&password=hunter2"',
    ],
)
def test_a_credential_is_redacted_in_any_record(text: str) -> None:
    redacted = log_text.redact(text, headers=False)
    assert "hunter2" not in redacted
    assert "[redacted]" in redacted


@pytest.mark.parametrize(
    "text",
    [
        "GET /ws/chat/private-team~1795651200.hunter2hunter2hunter2h HTTP/1.1",
        "connected to 'chat_private-a b~1795651200.hunter2hunter2hunter2h'",
        "GET /ws/chat/x?since=1&ticket=hunter2&x=1",
        '127.0.0.1:1 - "GET /chat/login/callback?code=hunter2&state=hunter2 HTTP/1.1" 303',
    ],
)
def test_an_invitation_a_ticket_and_an_authorization_code_are_redacted(text: str) -> None:
    redacted = log_text.redact(text, headers=False)
    assert "hunter2" not in redacted
    assert "[redacted]" in redacted


def test_a_session_token_is_redacted() -> None:
    token = token_of("Alice")
    assert log_text.redact(f"session={token}; a=b", headers=False) == "session=[redacted]; a=b"


@pytest.mark.parametrize(
    "header",
    [
        "< cookie: session=hunter2",
        "< Authorization: Basic hunter2",
        "> set-cookie: session=hunter2; Path=/",
        "< sec-websocket-protocol: token, hunter2",
        "'subprotocols': ['hunter2']",
        "(b'cookie', b'session=hunter2')",
        "invalid HTTP header line: Cookie: hunter2",
    ],
)
def test_the_value_of_a_header_with_a_credential_is_redacted(header: str) -> None:
    assert "hunter2" not in log_text.redact(header, headers=True)


@pytest.mark.parametrize(
    "text",
    [
        'INFO:     127.0.0.1:1234 - "GET /static/chat/main.js HTTP/1.1" 200',
        '127.0.0.1:1234 - "GET /a?cookie: HTTP/1.1" 404',
        "connecting to redis://10.0.0.5:6379/0",
        "< host: chat.example.com",
    ],
)
def test_a_text_without_credentials_is_unchanged(text: str) -> None:
    assert log_text.redact(text, headers=False) == text


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    ["redis://", "eyJ", "-eyJ", "eyJa.", "bearer ", "?token=", "cookie:", "unix+", "a_", "a_token"],
)
def test_redaction_takes_linear_time(piece: str) -> None:
    # Quadratic time would take many minutes, and the test's timeout would end it.
    log_text.redact(piece * 200_000, headers=True)
