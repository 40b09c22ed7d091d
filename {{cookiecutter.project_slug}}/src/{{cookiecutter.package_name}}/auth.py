"""Authentication: who sends a request, from a bearer token, a one-time ticket or the session cookie."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import falcon.asgi

from falcon_pachinko import WebSocketConnectionManager

from .cookies import SessionCookie
from .hosts import UNCHECKED_PATHS
from .tokens import MAX_TOKEN_CHARACTERS, Session, Tokens
from .users import User

# How a request has proved its session.
BEARER, COOKIE, TICKET = "bearer", "cookie", "ticket"


class Provider(Protocol):
    """An identity provider, whose tokens are accepted as well."""

    async def read(self, token: str) -> Session | None:
        """Return the session of a token of the provider; ``None`` for any other text.

        Raises:
            ProviderUnavailable: The token cannot be checked for now.
        """


class Authenticator:
    """Finds the session of a token or a ticket.

    Args:
        tokens: The session tokens of this service.
        provider: The identity provider; ``None`` for none.

    Attributes:
        manager: Knows the tickets and the revoked sessions; set before the first request.
    """

    manager: WebSocketConnectionManager

    def __init__(self, tokens: Tokens, provider: Provider | None = None) -> None:
        self.tokens = tokens
        self.provider = provider

    async def authenticate(self, token: str) -> User | None:
        """Return the user of a token or a ticket; ``None`` if it is not valid, has expired or is revoked.

        Raises:
            ProviderUnavailable: The provider cannot check it for now.
            BackendUnavailable: Redis cannot, which has the tickets.
        """
        session = await self.session_of(token)
        return None if session is None else session.user

    async def session_of(self, token: str) -> Session | None:
        """Return the session of a token or a ticket, like :meth:`authenticate`."""
        if len(token) > MAX_TOKEN_CHARACTERS:
            return None
        if "." not in token:
            return self._unless_revoked(await self._redeem(token))
        session = self.tokens.read(token)
        if session is None and self.provider is not None:
            session = await self.provider.read(token)
        return self._unless_revoked(session)

    async def _redeem(self, ticket: str) -> Session | None:
        sealed = await self.manager.redeem_ticket(ticket)
        return None if sealed is None else self.tokens.unseal(sealed)

    def _unless_revoked(self, session: Session | None) -> Session | None:
        if session is None:
            return None
        # NOTE: a refresh does not change it. A provider's token may not tell it.
        signed_in_at = session.signed_in_at or session.issued_at
        user = replace(session.user, signed_in_at=signed_in_at)
        is_revoked = self.manager.is_revoked(user.session_id, user.id, signed_in_at)
        return None if is_revoked else replace(session, user=user)


class AuthMiddleware:
    """Set the user of HTTP requests and WebSocket handshakes.

    ``req.context.user`` is the ``User`` or ``None``, ``req.context.session`` the session, and
    ``req.context.proof`` how the request has proved it. A bearer token takes precedence over a ticket in the
    query of a handshake (``?ticket=...``), and this over the cookie.
    """

    def __init__(self, authenticator: Authenticator, cookie: SessionCookie) -> None:
        self.authenticator = authenticator
        self.cookie = cookie

    async def process_request(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response | None
    ) -> None:
        """Authenticate an HTTP request before it is routed.

        Raises:
            ProviderUnavailable, BackendUnavailable: The token cannot be checked for now. The answer is 503, or
                close code 1013 to a WebSocket.
        """
        session, proof = None, COOKIE
        if req.path in UNCHECKED_PATHS:  # they need no user, and no service that may be unavailable
            req.context.session = req.context.user = req.context.proof = None
            return
        if token := bearer_token(req):
            session, proof = await self.authenticator.session_of(token), BEARER
        elif resp is None and (ticket := req.get_param("ticket")):
            if "." not in ticket:  # SECURITY: a URL is in logs, so it carries no token
                session, proof = await self.authenticator.session_of(ticket), TICKET
        else:
            for token in self.cookie.values(req):
                session = await self.authenticator.session_of(token)
                if session is not None:
                    break
        req.context.session = session
        req.context.user = None if session is None else session.user
        req.context.proof = None if session is None else proof

    async def process_request_ws(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket) -> None:
        """Authenticate a WebSocket handshake before it is routed.

        A handshake may name its user: ``?user=<id>``. SECURITY: it has no user if the session is that of another one.
        A page's cookie changes when another tab signs in; the messages that the page has queued are not the new user's.
        """
        await self.process_request(req, None)
        user: User | None = req.context.user
        if user is not None and req.get_param("user", default=user.id) != user.id:
            req.context.session = req.context.user = req.context.proof = None


def bearer_token(req: falcon.asgi.Request) -> str | None:
    """Return the token in the header ``Authorization: Bearer ...``."""
    return token_in(req.get_header("Authorization") or "")


def token_in(authorization: str) -> str | None:
    """Return the token in the value of a header ``Authorization``, which may have another scheme."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
