"""Serve the application with uvicorn, as the settings say."""

from __future__ import annotations

import logging
from typing import Any

import uvicorn

from falcon_pachinko.uvicorn import PushProtocol

from .app import create_app
from .settings import load_settings

# Enough for the longest text that a user may say, each character escaped; more is closed with 1009.
MAX_MESSAGE_BYTES = 65_536

# How uvicorn serves WebSockets; the tests that run inside a process take the same.
WEBSOCKET_OPTIONS: dict[str, Any] = {
    "ws": PushProtocol,
    "ws_max_size": MAX_MESSAGE_BYTES,
    # NOTE: compression costs 34 KiB of memory for each connection and most of the time per message.
    "ws_per_message_deflate": False,
}


def main() -> None:
    """Serve until SIGTERM or Ctrl+C, then end in order."""
    settings = load_settings()
    # NOTE: only uvicorn knows the level "trace".
    level = settings.log_level.upper().replace("TRACE", "DEBUG")
    logging.basicConfig(level=level, format="%(levelname)s:     %(name)s - %(message)s")
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        lifespan="on",
        server_header=False,
        forwarded_allow_ips=list(settings.trusted_proxies),
        # NOTE: rooms live in this process; uvicorn would else heed WEB_CONCURRENCY.
        workers=1,
        timeout_graceful_shutdown=settings.graceful_shutdown_seconds,
        **WEBSOCKET_OPTIONS,
    )


if __name__ == "__main__":
    main()
