"""What the server of an application lacks: a lifespan, trusted proxies, the bounds below ASGI."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ..connection.extension import (
    HTTP_EXTENSION,
    NO_SERVER_EXTENSION,
    PUSH_EXTENSION,
    PushExtension,
)
from ..connection.inbox import Receive
from ..limits import DEFAULT_LIMITS

logger = logging.getLogger(__name__)

FRAMES = "control frames and fragments of messages"
PENDING = "the memory of a client that reads nothing"
WHOLE_MESSAGES = "the size of a message until it is complete"
COMPRESSION = "the memory of compression"
REQUESTS = "the heads and bodies of requests, and connections without a request"

REMEDY = (
    "serve it with its own command (python -m <package>), or with uvicorn --ws"
    " falcon_pachinko.uvicorn:PushProtocol --http falcon_pachinko.uvicorn:BoundedHTTPProtocol --ws-max-size"
    f" {DEFAULT_LIMITS.max_message_bytes} --ws-per-message-deflate false"
)


def missing_bounds(
    extensions: Mapping[str, Any], push: PushExtension | None, max_message_bytes: int
) -> list[str]:
    """Return the bounds that a server does not keep.

    Args:
        extensions: The extensions in the scope of a connection.
        push: The server's extension, if it is used.
        max_message_bytes: The largest bound of the routes.
    """
    missing = []
    # NOTE: a uvicorn protocol has a configuration; another server with the extension may have none.
    config = getattr(extensions.get(PUSH_EXTENSION), "config", None)
    if push is None:
        missing += [FRAMES, PENDING]
    if push is None or getattr(config, "ws_max_size", 0) > max_message_bytes:
        missing.append(WHOLE_MESSAGES)
    if push is None or getattr(config, "ws_per_message_deflate", False):
        missing.append(COMPRESSION)
    if HTTP_EXTENSION not in extensions:
        missing.append(REQUESTS)
    return missing


def warn_of_missing_bounds(
    extensions: Mapping[str, Any], push: PushExtension | None, max_message_bytes: int
) -> None:
    """Log one line with the bounds that a server does not keep, if there are any."""
    missing = missing_bounds(extensions, push, max_message_bytes)
    if not missing or NO_SERVER_EXTENSION in extensions:
        return
    remedy = REMEDY
    if push is None and PUSH_EXTENSION in extensions:
        remedy = "remove the ASGI middleware that replaces receive or send"
    logger.warning("this server does not bound %s: %s", "; ".join(missing), remedy)


def turn_off_proxy_headers(receive: Receive) -> None:
    """Remove uvicorn's own handling of proxy headers, given the ``receive`` of the lifespan.

    uvicorn trusts 127.0.0.1 by default, whatever the application's trusted proxies are, and wraps the
    application in a middleware that has changed the scope already.
    """
    config: Any = getattr(getattr(receive, "__self__", None), "config", None)
    wrapper = getattr(config, "loaded_app", None)
    if wrapper is not None and type(wrapper).__name__ == "ProxyHeadersMiddleware":
        config.loaded_app = wrapper.app
