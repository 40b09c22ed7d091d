"""Sign-ins that have begun: each in a signed cookie of its own until the provider leads the user back."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import falcon.asgi
import jwt

from ..cookies import SessionCookie

LIFETIME_SECONDS = 600
# A browser sends all of them, so older ones are deleted.
MAX_ATTEMPTS = 5
STATE = re.compile(r"[\w-]{22}", re.ASCII)
# SECURITY: PyJWT lets the error of a deeply nested JSON text through.
NOT_AN_ATTEMPT = (jwt.InvalidTokenError, RecursionError, UnicodeError, TypeError)


class SignInRefused(Exception):
    """The provider, or a check of its response, refuses a sign-in; the text is for the log.

    Attributes:
        by_client: Whether a browser can cause it; else the operator may have to act.
    """

    def __init__(self, text: str, *, by_client: bool = False) -> None:
        super().__init__(text)
        self.by_client = by_client


@dataclass(frozen=True, slots=True)
class Attempt:
    """A sign-in that has begun.

    Attributes:
        state: Ties the provider's redirect to this browser, and names the cookie.
        nonce: Ties the ID token to this sign-in.
        verifier: Ties the authorization code to this service (PKCE, RFC 7636).
        target: Where the user wants to be afterwards.
    """

    state: str
    nonce: str
    verifier: str
    target: str

    @classmethod
    def begin(cls, target: str) -> Attempt:
        """Begin a sign-in."""
        return cls(
            secrets.token_urlsafe(16), secrets.token_urlsafe(16), secrets.token_urlsafe(48), target
        )


class AttemptCookies:
    """Sets and reads the cookies of sign-ins.

    Args:
        cookie: The session cookie: these have its name with the state, its path and its security.
        signing_secrets: The secrets of the service, the current one first.
        audience: The service and its environment: a cookie is valid nowhere else.
    """

    def __init__(
        self, cookie: SessionCookie, signing_secrets: Sequence[str], audience: str
    ) -> None:
        self.cookie = cookie
        self.signing_secrets = signing_secrets
        self.audience = f"{audience}:sign-in"

    def set(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, attempt: Attempt) -> None:
        """Let the browser keep a sign-in for 10 minutes, and only the newest ones besides."""
        for state in self.states(req)[MAX_ATTEMPTS - 1 :]:
            self._of(state).delete(req, resp)
        claims = asdict(attempt) | {
            "aud": self.audience,
            "iat": time.time(),
            "exp": int(time.time()) + LIFETIME_SECONDS,
        }
        value = jwt.encode(claims, self.signing_secrets[0], algorithm="HS256")
        self._of(attempt.state).set(req, resp, value, LIFETIME_SECONDS)

    def take(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, state: str
    ) -> Attempt | None:
        """Return the sign-in of a state, and let the browser delete it; ``None`` if this browser has not begun it."""
        if not STATE.fullmatch(state):
            return None
        cookie = self._of(state)
        cookie.delete(req, resp)
        for value in cookie.values(req):
            claims = self._decode(value)
            if claims is not None and claims["state"] == state:
                return Attempt(state, claims["nonce"], claims["verifier"], claims["target"])
        return None

    def states(self, req: falcon.asgi.Request) -> list[str]:
        """Return the states of all sign-ins of a browser, the newest first."""
        begun = []
        prefix = self._of("").name(req)
        for name, value in req.cookies.items():
            state = name.removeprefix(prefix)
            if name.startswith(prefix) and STATE.fullmatch(state):
                claims = self._decode(value)
                begun.append((0.0 if claims is None else float(claims["iat"]), state))
        return [state for _, state in sorted(begun, reverse=True)]

    def _of(self, state: str) -> SessionCookie:
        return SessionCookie(
            always_secure=self.cookie.always_secure, base_name=f"{self.cookie.base_name}-in-{state}"
        )

    def _decode(self, value: str) -> dict[str, str] | None:
        for secret in self.signing_secrets:
            try:
                claims: dict[str, str] = jwt.decode(
                    value,
                    secret,
                    algorithms=["HS256"],
                    audience=self.audience,
                    options={"require": ["exp", "iat", *Attempt.__dataclass_fields__]},
                )
                return claims
            except NOT_AN_ATTEMPT:
                continue
        return None
