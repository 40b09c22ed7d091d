"""The path prefix of an application that is not at the root of its host."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from ..connection.outbox import Send
from ..errors import ConfigurationError

# Unreserved characters of RFC 3986 only: a proxy, a cookie and a URL have them in the same form.
ROOT_PATH = re.compile(r"(?:/[\w.~-]+)+", re.ASCII)
DOT_SEGMENTS = {".", ".."}


def check_root_path(root_path: str) -> str:
    """Return a path prefix such as ``/chat``, without a slash at its end; an empty text for none.

    Raises:
        ConfigurationError: The text is not a prefix.
    """
    stripped = root_path.rstrip("/")
    if stripped and (
        not ROOT_PATH.fullmatch(stripped) or DOT_SEGMENTS.intersection(stripped.split("/"))
    ):
        raise ConfigurationError(
            f"{root_path!r} is not a path prefix: write it like /chat, with letters, digits, '-', '_', '.' and '~'"
        )
    return stripped


def check_route_path(path: str, root_path: str) -> None:
    """Check that the path of a route does not begin with the path prefix, which may be empty.

    Raises:
        ConfigurationError: It does: whether a proxy has removed the prefix could not be recognised.
    """
    if root_path and f"{path}/".startswith(f"{root_path}/"):
        raise ConfigurationError(
            f"{path!r} begins with the path prefix {root_path!r}: whether a proxy has removed the prefix could not be"
            " recognised, so choose another one"
        )


def strip_root_path(scope: dict[str, Any], root_path: str) -> dict[str, Any]:
    """Return a scope whose ``path`` has no prefix and whose ``root_path`` is the prefix.

    The prefix may be in the path or not: a proxy may have removed it, a server may have put it before the path
    (as ASGI 3.0 says and uvicorn does), and an application may be mounted in another one. A path that is the
    prefix becomes empty.

    Args:
        scope: The scope of a request or a handshake.
        root_path: The configured prefix; empty for the one of the scope.
    """
    mounted: str = scope.get("root_path") or ""
    if not (root_path or mounted):
        return scope
    path, raw_path = scope["path"], scope.get("raw_path")
    # NOTE: uvicorn puts its prefix before a path that may have it already.
    for prefix in (mounted, root_path or mounted):
        if prefix and (path + "/").startswith(prefix + "/"):
            path = path[len(prefix) :]
            if raw_path is not None and raw_path.startswith(prefix.encode()):
                raw_path = raw_path[len(prefix.encode()) :]
    stripped = {**scope, "path": path, "root_path": root_path or mounted}
    if raw_path is not None:
        stripped["raw_path"] = raw_path
    return stripped


async def redirect_to_root(scope: dict[str, Any], send: Send) -> None:
    """Redirect a request for the prefix to the prefix with a slash, to which relative URLs refer."""
    query = scope.get("query_string") or b""
    location = quote(f"{scope['root_path']}/").encode() + (b"?" + query if query else b"")
    headers = [(b"location", location), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 307, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
