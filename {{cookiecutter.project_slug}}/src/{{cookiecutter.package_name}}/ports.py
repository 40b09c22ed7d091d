"""The check of the ports before the service starts: a taken one is the commonest reason why it does not."""

from __future__ import annotations

import errno
import socket
import sys

LAST_PORT = 65_535


def check_port(host: str, port: int, setting: str = "APP_PORT") -> None:
    """Return if the service can listen on a port; any other problem than a taken one is the server's to report.

    Args:
        host: The name or address of the interface.
        port: The port; 0 for any.
        setting: The setting that chooses it.

    Raises:
        SystemExit: Another program listens on it.
    """
    if port == 0:  # any free port
        return
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return
    for family, kind, protocol, _, address in addresses:
        with socket.socket(family, kind, protocol) as probe:
            if sys.platform != "win32":  # there it would share the port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
                probe.listen()
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    sys.exit(taken(host, port, setting))


def taken(host: str, port: int, setting: str) -> str:
    """Return the sentence about a taken port."""
    other = port + 1 if port < LAST_PORT else port - 1
    command = f"'make run PORT={other}' or " if setting == "APP_PORT" else ""
    return (
        f"Port {port} of {host} is taken by another program: stop it, or use another port with"
        f" {command}{setting}={other}."
    )
