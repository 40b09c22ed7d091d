"""Text for the log: on one line, of a bounded length, without credentials."""

from __future__ import annotations

import re

MAX_LINE_CHARACTERS = 8_192

# SECURITY: control characters (C0, DEL, C1), line and paragraph separators, characters that reorder or hide
#   text, and lone surrogates.
UNSAFE = re.compile(
    "[\0-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
# SECURITY: credentials that a client or an error can bring into a record. Each pattern takes linear time.
# PERF: nearly all lines have none of these, and a match of each pattern below has one.
SUSPICIOUS = (
    "://",
    "eyj",
    "bearer",
    "token",
    "ticket",
    "password",
    "secret",
    "key",
    "private-",
    "/login/callback?",
)
BACKEND_URL = re.compile(r"\b((?:rediss?|unix|postgres(?:ql)?)(?:\+\w+)?://)(\S*)")
CREDENTIALS = (
    (re.compile(r"(?<![\w-])eyJ[\w-]+\.[\w-]+\.[\w-]*"), "[redacted]"),
    (re.compile(r"(?i)\b(bearer +)[\w~+/.=-]+"), r"\1[redacted]"),
    (
        re.compile(r"(?i)(\b(?:\w+_)?(?:token|ticket|password|secret|api_?key)=)[^&\s\"']+"),
        r"\1[redacted]",
    ),
    # As a field of JSON or of a dict.
    (
        re.compile(
            r"(?i)([\"'](?:\w{1,32}_)?(?:token|ticket|password|secret|api_?key)[\"']\s{0,8}:\s{0,8}[\"'])[^\"']+"
        ),
        r"\1[redacted]",
    ),
    # The user and the password of a URL.
    (re.compile(r"(://)[^\s/@:]{1,256}:[^\s/@]{1,256}@"), r"\1[redacted]@"),
    # The authorization code of a sign-in.
    (re.compile(r"(?i)(/login/callback\?)[^\s\"']+"), r"\1[redacted]"),
    # An invitation to a private room.
    (re.compile(r"(~[0-9]{1,12}\.)[\w-]{22}"), r"\1[redacted]"),
)
# At the level "debug" websockets logs all headers of a handshake.
HEADERS = re.compile(
    r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie|(?:sec-websocket-|sub)protocols?)(['\"]?\s*[:,]\s*).*"
)


def escape(text: str) -> str:
    r"""Return a text on one line, with unsafe characters as ``\n``, ``\x1b`` or ``\u202e``."""
    if text.isprintable():
        return text
    return UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)


def redact(text: str, *, headers: bool) -> str:
    """Return a text without credentials.

    Args:
        text: The text.
        headers: Whether it may have headers of a request, whose values are removed if they are credentials.
    """
    lower = text.lower()
    if not headers and not any(word in lower for word in SUSPICIOUS):
        return text
    text = BACKEND_URL.sub(lambda url: f"{url[1]}[redacted]" if "@" in url[2] else url[0], text)
    for pattern, replacement in CREDENTIALS:
        text = pattern.sub(replacement, text)
    return HEADERS.sub(r"\1\2[redacted]", text) if headers else text


def shorten(text: str) -> str:
    """Return a text of at most 8,192 characters and a note about the rest."""
    excess = len(text) - MAX_LINE_CHARACTERS
    return f"{text[:MAX_LINE_CHARACTERS]}... ({excess} more)" if excess > 0 else text
