"""Trusted hosts: which ``Host`` and ``Origin`` a request may have."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Collection

import falcon
import falcon.asgi

from falcon_pachinko.routing import origin_is_allowed

logger = logging.getLogger(__name__)

ALL_HOSTS = "*"
# RFC 3986 section 3.2.2, without percent-encoding; a port may follow.
HOST_NAME = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\]"
HOST = re.compile(f"({HOST_NAME})" + r"(?::[0-9]{1,5})?")
# Supervisors and load balancers request these by the address of a node.
UNCHECKED_PATHS = frozenset({"/health", "/ready", "/metrics"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class HostsMiddleware:
    """Refuse requests and WebSocket handshakes for other hosts, and writing requests of other origins.

    SECURITY: a page can let the name of its own host point to this machine, and is then of the same origin as a
    service that answers to any name (DNS rebinding).

    Args:
        hosts: The names of the service, without a port; ``*`` or no names for any.
        allowed_origins: The origins besides the service's own whose pages may use it; ``*`` for all.
        development: Whether the service is for this machine only: its hosts are the loopback names too, and an
            ``Origin`` must be one of them, or be allowed.
    """

    def __init__(
        self, hosts: Collection[str], allowed_origins: Collection[str], *, development: bool
    ) -> None:
        self.hosts = frozenset(host.lower() for host in hosts)
        self.allowed_origins = allowed_origins
        self.development = development

    async def process_request(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Check an HTTP request before it is routed; a refusal is HTTP 400 or 403."""
        self.check(req, is_writing=req.method not in SAFE_METHODS)

    async def process_request_ws(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket) -> None:
        """Check a WebSocket handshake before it is routed; a refusal is HTTP 403."""
        try:
            # NOTE: the route compares the origin with that of the request.
            self.check(req, is_writing=False)
        except falcon.HTTPError:
            # NOTE: Falcon would log the error once more.
            await ws.close()

    def check(self, req: falcon.asgi.Request, *, is_writing: bool) -> None:
        """Check the host and the origin of a request.

        Raises:
            falcon.HTTPBadRequest: The host is unknown.
            falcon.HTTPForbidden: The origin may not do this.
        """
        if req.path in UNCHECKED_PATHS:
            return
        host, origin = req.get_header("Host") or "", req.get_header("Origin")
        if not self.knows(host):
            logger.info("%.200r: refused the host %.200r", req.path, host)
            raise falcon.HTTPBadRequest(
                title="Unknown host", description="This service does not answer to this host name."
            )
        if origin is None:
            return
        is_foreign = self.development and not (
            origin in self.allowed_origins
            or ALL_HOSTS in self.allowed_origins
            or self.knows(origin.partition("://")[2])
        )
        if is_foreign or (is_writing and not origin_is_allowed(req, self.allowed_origins)):
            logger.info("%.200r: refused the origin %.200r", req.path, origin)
            raise falcon.HTTPForbidden(
                title="Foreign origin", description="Pages of this origin may not use this service."
            )

    def knows(self, host: str) -> bool:
        """Return whether a host, which may have a port, is one of the service's."""
        name = host_name(host)
        if ALL_HOSTS in self.hosts or (not self.hosts and not self.development):
            return bool(name)
        return name in self.hosts or (self.development and is_loopback(name))


def host_name(host: str) -> str:
    """Return the name in a host with or without a port, in lower case; empty if the text is not a host."""
    match = HOST.fullmatch(host.lower())
    return match[1].rstrip(".") if match else ""


def is_loopback(name: str) -> bool:
    """Return whether a host name or an address, which may have brackets, is that of this machine."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
