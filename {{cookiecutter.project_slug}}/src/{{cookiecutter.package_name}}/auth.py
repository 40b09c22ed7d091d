"""Authentication: signed tokens, and the middleware that reads them."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import falcon.asgi
import jwt

from falcon_pachinko.names import check_user_name

logger = logging.getLogger(__name__)

COOKIE_NAME = "session"
ALGORITHM = "HS256"


@dataclass(frozen=True, slots=True)
class User:
    """A signed-in user, identified by a unique name."""

    name: str


def issue_token(user: User, secret: str, lifetime_seconds: int) -> str:
    """Return a signed token for a user (JWT, RFC 7519)."""
    now = int(time.time())
    claims = {"sub": user.name, "iat": now, "exp": now + lifetime_seconds}
    return jwt.encode(claims, secret, algorithm=ALGORITHM)


async def authenticate(token: str, secret: str) -> User | None:
    """Return the user of a token; ``None`` if the token is invalid or expired, or its user's name is invalid.

    This is the place to add an identity provider: verify its tokens here, for instance with
    ``jwt.PyJWKClient(...)``, ``algorithms=["RS256"]`` and the expected audience and issuer, and
    create the ``User`` from their claims (README.md shows how). The rest of the program only reads
    ``req.context.user``.
    """
    try:
        claims = jwt.decode(
            token, secret, algorithms=[ALGORITHM], options={"require": ["sub", "exp"]}
        )
    except jwt.InvalidTokenError:
        return None
    try:
        return User(name=check_user_name(claims["sub"]))
    except ValueError as error:
        logger.warning("a valid token is refused: %s", error)
        return None


class AuthMiddleware:
    """Set ``req.context.user`` of HTTP requests and WebSocket handshakes to a ``User`` or ``None``.

    The token is read from ``Authorization: Bearer ...`` (programs) or from the cookie ``session``
    (browsers, which cannot set a header on a WebSocket).
    """

    def __init__(self, secret: str) -> None:
        self.secret = secret

    async def process_request(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response | None
    ) -> None:
        """Authenticate an HTTP request before it is routed."""
        token = token_of(req)
        req.context.user = None if token is None else await authenticate(token, self.secret)

    async def process_request_ws(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket) -> None:
        """Authenticate a WebSocket handshake before it is routed."""
        await self.process_request(req, None)


def token_of(req: falcon.asgi.Request) -> str | None:
    """Return the token of a request; the header takes precedence over the cookie."""
    scheme, _, token = (req.get_header("Authorization") or "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    cookies = req.get_cookie_values(COOKIE_NAME)
    return cookies[0] if cookies else None
