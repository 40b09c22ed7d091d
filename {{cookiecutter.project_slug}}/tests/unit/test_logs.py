"""Records of the log: one line each, and tracebacks with a prefix."""

from __future__ import annotations

import logging
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
from uvicorn.logging import AccessFormatter, DefaultFormatter

from {{ cookiecutter.package_name }} import logs

FORGED = "a\r\nINFO:     forged\x1b[31m\u2028\x85\u202e\ud800"
ESCAPED = r"a\r\nINFO:     forged\x1b[31m\u2028\x85\u202e\ud800"


def record(
    message: object, *args: object, level: int = logging.INFO, exc_info: Any = None, stack: str = ""
) -> logging.LogRecord:
    """Make a record as a logger does."""
    return logs.OneLineRecord("chat", level, __file__, 1, message, args, exc_info, None, stack)


def formatted(each: logging.LogRecord) -> str:
    """Format a record like the root logger."""
    return logging.Formatter("%(levelname)s:     %(name)s - %(message)s").format(each)


class Text:
    """An object whose texts have line ends."""

    def __str__(self) -> str:
        return FORGED

    __repr__ = __str__


@pytest.mark.parametrize(
    "each",
    [
        record("%s", FORGED),
        record("%s", Text()),
        record("%r", Text()),
        record("%s", ValueError(FORGED)),
        record(FORGED),
        record(Text()),
        record(FORGED + "%d", 7),
        record("%(text)s", {"text": FORGED}),
        record("%.500s", FORGED),
    ],
    ids=["text", "object", "repr", "exception", "message", "other", "template", "dict", "width"],
)
def test_a_record_is_one_line_without_unsafe_characters(each: logging.LogRecord) -> None:
    line = formatted(each)
    assert line.isprintable()
    assert line.startswith(f"INFO:     chat - {ESCAPED}")


def test_ordinary_records_are_unchanged() -> None:
    assert formatted(record("100 %% of %r", "x")) == "INFO:     chat - 100 % of 'x'"
    assert formatted(record("%d %.1f %s", 7, 0.25, Decimal("1.5"))) == "INFO:     chat - 7 0.2 1.5"
    assert formatted(record("100 %")) == "INFO:     chat - 100 %"


def test_a_traceback_follows_with_a_prefix_on_each_line() -> None:
    try:
        raise ValueError(f"{FORGED}\nlast") from KeyError("cause")
    except ValueError:
        each = record("failed", exc_info=sys.exc_info(), stack="Stack:\n  a line")
    first, *others = formatted(each).split("\n")
    assert first == "INFO:     chat - failed"
    assert others[0] == "    | KeyError: 'cause'"
    assert "    | Traceback (most recent call last):" in others
    assert others[-3:] == ["    | last", "    | Stack:", "    |   a line"]
    for line in others:
        assert line.startswith("    | ")
        assert line.isprintable()


def test_a_traceback_passed_as_text_stays_readable() -> None:
    text = "Failed.\nTraceback (most recent call last):\n  File x\nValueError: a\n"
    assert formatted(record(text)).split("\n") == [
        "INFO:     chat - Failed.",
        "    | Traceback (most recent call last):",
        "    |   File x",
        "    | ValueError: a",
    ]


def test_a_record_has_a_bounded_length() -> None:
    assert len(formatted(record("%s", "\n" * 100_000))) < 8_300
    lines = formatted(record("failed", stack="\n".join(["x" * 9_000] * 1_000))).split("\n")
    assert len(lines) == 202
    assert lines[101] == "    | ... 800 lines ..."
    assert max(map(len, lines)) < 8_300


def test_headers_of_debug_records_have_no_credentials() -> None:
    each = record("< %s: %s", "Authorization", "Basic hunter2", level=logging.DEBUG)
    assert formatted(each) == "DEBUG:     chat - < Authorization: [redacted]"


def test_uvicorns_lines_keep_their_form() -> None:
    default = DefaultFormatter("%(levelprefix)s %(message)s", use_colors=False)
    assert default.format(record("running on %s", "http://x")) == "INFO:     running on http://x"
    form = '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s'
    access = AccessFormatter(form, use_colors=False)
    request = record('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", f"/{FORGED}", "1.1", 200)
    assert access.format(request) == f'INFO:     127.0.0.1:1 - "GET /{ESCAPED} HTTP/1.1" 200 OK'


def test_uvicorns_colours_stay_and_those_of_a_client_do_not() -> None:
    default = DefaultFormatter("%(levelprefix)s %(message)s", use_colors=True)
    each = record("on %s", "\x1b[31m")
    each.color_message = "on \x1b[1m%s\x1b[0m"
    assert default.format(each).endswith("on \x1b[1m\\x1b[31m\x1b[0m")


def test_a_wrong_record_raises_nothing() -> None:
    class Broken:
        def __str__(self) -> str:
            raise ValueError

    assert record("%(x)s", {"y": 1}).getMessage() == "%(x)s % {'y': 1}"
    assert "Broken" in record(Broken()).getMessage()


def test_a_credential_at_the_cut_is_redacted() -> None:
    text = "x" * 8_180 + " token=hunter2hunter2hunter2"
    assert "hunter2" not in record("%s", text).getMessage()


def test_a_record_can_be_made_from_a_dictionary() -> None:
    factory = logging.getLogRecordFactory()
    logs.protect_log()
    try:
        each = logging.makeLogRecord({"msg": "a", "levelno": logging.INFO})
    finally:
        logging.setLogRecordFactory(factory)
    assert each.getMessage() == "a"


PROGRAM = f"""
import asyncio, logging, warnings
from {logs.__name__} import set_up_logging
set_up_logging("trace")
warnings.warn("a\\nb")
logging.getLogger("uvicorn.error").log(10, "trace\\nline")
logging.getLogger("uvicorn.access").debug('%s - "%s %s HTTP/%s" %d', "\\udc80", "GET", "/", "1.1", 200)

async def fail():
    raise ValueError("c\\nd")

async def main():
    asyncio.create_task(fail())
    await asyncio.sleep(0)

asyncio.run(main())
"""


@pytest.mark.slow
def test_warnings_tasks_and_a_terminal_without_unicode_are_covered() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PYTHONPATH": ":".join(sys.path), "PYTHONIOENCODING": "ascii:strict"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=True,
    )
    lines = finished.stdout.splitlines()
    starts = ("    | ", "WARNING:", "ERROR:", "DEBUG:")
    assert [line for line in lines if not line.startswith(starts)] == []
    assert any("UserWarning: a" in line and "\\nb" in line for line in lines)
    assert any(line.endswith("trace\\nline") for line in lines)
    assert any('\\udc80 - "GET / HTTP/1.1" 200' in line for line in lines)
    assert "    | ValueError: c" in lines
    assert "    | d" in lines


@pytest.mark.parametrize(
    ("request_line", "status", "shown"),
    [
        ("GET /a.json", 200, False),
        ("GET /prefix/a.json?user=x", 200, False),
        ("GET /a.json", 403, True),
        ("POST /a.json", 200, True),
        ("GET /aXjson", 200, True),
        ("GET /b?next=/a.json", 200, True),
    ],
)
def test_successful_requests_for_a_hidden_path_are_not_logged(
    request_line: str, status: int, shown: bool
) -> None:
    method, path = request_line.split()
    access = ("127.0.0.1:1", method, path, "1.1", status)
    each = record('%s - "%s %s HTTP/%s" %d', *access)
    assert logs.HiddenRequests("/a.json").filter(each) is shown


def test_a_path_is_hidden_once_however_often_it_is_asked_for() -> None:
    logger = logging.getLogger("uvicorn.access")
    before = list(logger.filters)
    try:
        for _ in range(3):
            logs.hide_requests("/only-in-this-test")
        assert len(logger.filters) == len(before) + 1
    finally:
        logger.filters = before
