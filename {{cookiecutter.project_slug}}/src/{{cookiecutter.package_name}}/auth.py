"""Who is calling: signed tokens, and the middleware that reads them."""

from __future__ import annotations

import time
from dataclasses import dataclass

import falcon.asgi
import jwt

COOKIE_NAME = "session"
ALGORITHM = "HS256"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who is signed in. The name tells users apart: two users never share one."""

    name: str


def issue_token(user: User, secret: str, lifetime_seconds: int) -> str:
    """A token that says who holds it, for so long (RFC 7519)."""
    now = int(time.time())
    claims = {"sub": user.name, "iat": now, "exp": now + lifetime_seconds}
    return jwt.encode(claims, secret, algorithm=ALGORITHM)


async def authenticate(token: str, secret: str) -> User | None:
    """Tell who holds a token; ``None`` if it is not good (any more).

    This is the seam for an identity provider. Where a token is none of our own, verify it as one of
    the provider's, for instance with ``jwt.PyJWKClient(...)`` and ``algorithms=["RS256"]`` with the
    audience and the issuer that you expect, and make the ``User`` of its claims: README.md shows how.
    Everything else of the program only asks for ``req.context.user``.
    """
    try:
        claims = jwt.decode(
            token, secret, algorithms=[ALGORITHM], options={"require": ["sub", "exp"]}
        )
    except jwt.InvalidTokenError:
        return None
    return User(name=claims["sub"])


class AuthMiddleware:
    """Sets ``req.context.user`` for HTTP requests and WebSocket handshakes: a ``User`` or ``None``.

    The token comes in ``Authorization: Bearer ...`` (programs) or in the cookie ``session``
    (browsers, which cannot set a header on a WebSocket).
    """

    def __init__(self, secret: str) -> None:
        self.secret = secret

    async def process_request(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response | None
    ) -> None:
        """Falcon calls this before each HTTP request is routed."""
        token = token_of(req)
        req.context.user = None if token is None else await authenticate(token, self.secret)

    async def process_request_ws(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket) -> None:
        """Falcon calls this before each WebSocket handshake is routed."""
        await self.process_request(req, None)


def token_of(req: falcon.asgi.Request) -> str | None:
    """The token that a request carries; the header counts more than the cookie."""
    scheme, _, token = (req.get_header("Authorization") or "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    cookies = req.get_cookie_values(COOKIE_NAME)
    return cookies[0] if cookies else None
