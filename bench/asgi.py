"""Serve an ASGI application with uvicorn on a free port, which is printed."""

import argparse
import socket
from typing import Any

import uvicorn

from .collector import DEFAULT_COLLECTOR, set_collector


def main() -> None:
    """Serve with the same server, event loop, protocol and collector for all; ``--push`` has another protocol."""
    parser = argparse.ArgumentParser(prog="python -m bench.asgi", description=__doc__)
    parser.add_argument("app", help="import path, such as bench.servers.bare:app")
    parser.add_argument("--push", action="store_true", help="serve with PushProtocol")
    parser.add_argument("--io-uring", action="store_true", help="and write to rooms by io_uring")
    parser.add_argument("--deflate", action="store_true", help="accept permessage-deflate")
    parser.add_argument(DEFAULT_COLLECTOR, action="store_true", help="keep Python's own settings")
    parser.add_argument(
        "--drain", type=float, default=0.0, help="close in so many seconds at the end"
    )
    options = parser.parse_args()
    protocols: dict[str, Any] = {"http": "httptools", "ws": "websockets-sansio"}
    if options.push:
        from falcon_pachinko.uvicorn import BoundedHTTPProtocol, PushProtocol

        protocols = {"http": BoundedHTTPProtocol, "ws": PushProtocol}
    config = protocols | {
        "loop": "uvloop",
        "ws_per_message_deflate": options.deflate,
        "log_level": "warning",
        "access_log": False,
    }
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        print(listener.getsockname()[1], flush=True)
        if options.drain:
            from falcon_pachinko.server.drain import DrainPolicy
            from falcon_pachinko.uvicorn.server import run

            policy = DrainPolicy(seconds=options.drain)
            set_collector()
            run(options.app, drain=policy, sockets=[listener], **config)
        else:
            loaded = uvicorn.Config(options.app, **config)
            loaded.load()
            set_collector()
            server = uvicorn.Server(loaded)
            if options.io_uring:
                from falcon_pachinko.uvicorn.server import DrainingServer

                server = DrainingServer(loaded, io_uring=True)
            server.run([listener])


if __name__ == "__main__":
    main()
