"""The client's address and scheme behind trusted proxies, from X-Forwarded-For and X-Forwarded-Proto."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Sequence
from typing import Any

from ..errors import ConfigurationError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# The entry for peers over a Unix socket, written as nginx writes their address.
UNIX_SOCKET = "unix:"
ALL_PEERS = "*"
BRACKETED = re.compile(r"\[([^\[\]]+)\](?::([0-9]{1,5}))?")
PORT = re.compile(r"[0-9]{1,5}")
# SECURITY: the entries that are read, so that a long header costs nothing.
MAX_PROXIES = 32


class TrustedProxies:
    """Sets the client and the scheme of a scope from the headers of a trusted proxy.

    The client is the rightmost address in ``X-Forwarded-For`` that is not a trusted proxy: every proxy appends
    the address that it sees, so only the addresses to the left of it can be forged. An entry may have a port,
    as in ``192.0.2.1:4711`` and ``[2001:db8::1]:4711``. From an entry that is not an address the rest is
    ignored. The scheme is the last one of ``X-Forwarded-Proto``.

    Args:
        proxies: Addresses and networks; ``unix:`` for all peers over a Unix socket; ``*`` for any peer, whose
            own entry, the last one, is then the client.

    Raises:
        ConfigurationError: An entry is none of these.
    """

    def __init__(self, proxies: Collection[str]) -> None:
        self.everyone = ALL_PEERS in proxies
        self.unix = UNIX_SOCKET in proxies
        self.networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for proxy in proxies:
            if proxy in (ALL_PEERS, UNIX_SOCKET):
                continue
            try:
                self.networks.append(ipaddress.ip_network(proxy))
            except ValueError as error:
                raise ConfigurationError(
                    f"{proxy!r} is not a proxy: write an address or a network like 10.0.0.0/8, or"
                    f" {UNIX_SOCKET} for Unix sockets ({error})"
                ) from None

    def apply(self, scope: dict[str, Any]) -> bool:
        """Change ``client`` and ``scheme`` of a scope, so that the server's access log has them too.

        Returns:
            Whether the peer is trusted.
        """
        if not self.trusts_peer(scope):
            return False
        forwarded_for: list[str] = []
        scheme = ""
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                forwarded_for.append(value.decode("latin-1"))
            elif name == b"x-forwarded-proto":
                scheme = value.decode("latin-1").rpartition(",")[2].strip().lower()
        if scheme in ("http", "https", "ws", "wss"):
            secure = scheme in ("https", "wss")
            kind = "ws" if scope["type"] == "websocket" else "http"
            scope["scheme"] = f"{kind}s" if secure else kind
        if client := self.client_of(",".join(forwarded_for)):
            scope["client"] = client
        return True

    def trusts_peer(self, scope: dict[str, Any]) -> bool:
        """Return whether the other end of the connection is a trusted proxy."""
        client, server = scope.get("client"), scope.get("server")
        if self.everyone:
            return True
        if isinstance(client, Sequence) and client and client[0]:
            return client[0] in self
        # SECURITY: a TCP connection that was reset has no address either, but its server end has a port.
        if server is None:
            return self.unix
        return self.unix and isinstance(server, Sequence) and server[1] in (None, "0")

    def __contains__(self, host: object) -> bool:
        """Return whether a host, as a server names the other end of a socket, is a trusted proxy."""
        if self.everyone:
            return True
        address = parse_address(host) if isinstance(host, str) else None
        return address is not None and self.trusts(address)

    def trusts(self, address: IPAddress) -> bool:
        """Return whether an address is that of a trusted proxy."""
        return any(address in network for network in self.networks)

    def client_of(self, forwarded_for: str) -> tuple[str, int] | None:
        """Return the client in the joined values of ``X-Forwarded-For``; ``None`` if they name none."""
        client = None
        for entry in reversed(forwarded_for.rsplit(",", MAX_PROXIES)):
            entry = entry.strip()
            if entry == UNIX_SOCKET and self.unix:
                continue
            host, port = split_port(entry)
            address = parse_address(host)
            if address is None:
                break
            client = (str(address), port)
            if self.everyone or not self.trusts(address):
                break
        return client


def parse_address(host: str) -> IPAddress | None:
    """Return an address, an IPv4-mapped one as IPv4; ``None`` if the text is not an address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def split_port(entry: str) -> tuple[str, int]:
    """Split ``host:port`` or ``[host]:port``; the port is 0 if there is none."""
    if match := BRACKETED.fullmatch(entry):
        return match[1], int(match[2] or 0)
    if entry.count(":") == 1:
        host, _, port = entry.partition(":")
        if PORT.fullmatch(port):
            return host, int(port)
    return entry, 0
