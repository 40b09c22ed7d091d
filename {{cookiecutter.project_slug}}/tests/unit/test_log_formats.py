"""The two formats of the log: a line of text, and a JSON object per line."""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Any

import pytest

from {{ cookiecutter.package_name }} import log_formats, logs

FORGED = 'a"}\r\n{"level": "error"}\x1b[31m\u2028\x85\u202e\ud800 password=hunter2'
ESCAPED = r'a"}\r\n{"level": "error"}\x1b[31m\u2028\x85\u202e\ud800 password=[redacted]'


def record(message: str, *args: object, exc_info: Any = None, **extra: object) -> logging.LogRecord:
    """Make a record as a logger does."""
    made = logs.OneLineRecord("chat", logging.INFO, __file__, 1, message, args, exc_info)
    vars(made).update(extra)
    return made


def as_json(each: logging.LogRecord) -> dict[str, Any]:
    """Format a record as JSON, and decode the line."""
    line = log_formats.JSONFormatter().format(each)
    assert line.isprintable()
    decoded: dict[str, Any] = json.loads(line)
    return decoded


def as_text(each: logging.LogRecord) -> str:
    """Format a record as text."""
    return log_formats.TextFormatter().format(each)


def test_a_record_is_an_object_with_time_level_logger_and_message() -> None:
    content = as_json(record("%s joined", "Alice"))
    assert list(content) == ["time", "level", "logger", "message"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", content.pop("time"))
    assert content == {"level": "info", "logger": "chat", "message": "Alice joined"}


def test_fields_follow_as_values_of_json() -> None:
    content = as_json(record("x", connection_id="c1", close_code=None, seconds=1.5, ok=True))
    content.pop("time")
    assert content == {
        "level": "info",
        "logger": "chat",
        "message": "x",
        "connection_id": "c1",
        "seconds": 1.5,
        "ok": True,
    }
    assert as_json(record("x", rate=float("inf")))["rate"] == "inf"
    assert as_json(record("x", error=ValueError("y")))["error"] == "y"


def test_no_text_breaks_a_line_forges_a_field_or_brings_a_credential() -> None:
    content = as_json(record("%s", FORGED, user_id=FORGED, level=FORGED))
    assert (content["message"], content["user_id"], content["level"]) == (ESCAPED, ESCAPED, "info")
    line = as_text(record("%s", FORGED, user_id=FORGED))
    assert line.isprintable()
    assert "hunter2" not in line
    assert line == f"INFO:     chat - {ESCAPED} [user_id={json.dumps(ESCAPED)}]"


def test_fields_with_the_name_of_a_secret_and_those_inside_of_values_are_not_written() -> None:
    headers = {"Authorization": "Basic abc", "x": "y"}
    line = json.dumps(
        as_json(
            record(
                "%s of https://user:pw@host/",
                {"client_secret": "zzz"},
                access_token="t0k",
                Password="hunter2",
                headers=headers,
            )
        )
    )
    for secret in ("zzz", "t0k", "hunter2", "Basic abc", "user:pw"):
        assert secret not in line
    assert line.count("[redacted]") == 5


def test_a_value_has_a_bounded_length() -> None:
    assert len(as_json(record("x", user_id="y" * 100_000))["user_id"]) < 8_300


def test_an_exception_is_one_text() -> None:
    try:
        raise ValueError("a\nb token=hunter2hunter2")
    except ValueError:
        content = as_json(record("failed", exc_info=sys.exc_info()))
    lines = content["exception"].split("\n")
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2:] == ["ValueError: a", "b token=[redacted]"]


def test_a_line_of_text_ends_with_the_fields_of_its_connection() -> None:
    each = record("x", connection_id="c1", user_id="Al Ice", route="/ws/{room}", seconds=1)
    fields = '[connection_id=c1 user_id="Al Ice" route=/ws/{room}]'
    assert as_text(each) == f"INFO:     chat - x {fields}"
    assert as_text(record("x")) == "INFO:     chat - x"


def test_the_exception_follows_a_line_of_text() -> None:
    try:
        raise ValueError
    except ValueError:
        lines = as_text(record("x", exc_info=sys.exc_info(), room="r")).split("\n")
    assert lines[0] == "INFO:     chat - x [room=r]"
    assert all(line.startswith("    | ") for line in lines[1:])


def test_a_broken_value_raises_nothing() -> None:
    class Broken:
        def __str__(self) -> str:
            raise ValueError

    assert "Broken" in as_json(record("x", value=Broken()))["value"]


@pytest.mark.parametrize(
    ("environment", "given", "expected"),
    [
        ("production", "", "json"),
        ("development", "", "text"),
        ("test", "", "text"),
        ("production", "text", "text"),
        ("development", "json", "json"),
    ],
)
def test_production_writes_json_by_default(
    make_settings: Any, environment: str, given: str, expected: str
) -> None:
    settings = make_settings(environment=environment, log_format=given)
    assert logs.format_of(settings) == expected
    assert (logs.uvicorn_log_config(settings) is None) == (expected == "json")
