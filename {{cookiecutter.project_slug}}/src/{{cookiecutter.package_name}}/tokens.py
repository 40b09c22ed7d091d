"""Session tokens of this service: signed JSON Web Tokens (RFC 7519)."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jwt

from .settings import PACKAGE, Settings
from .users import User

logger = logging.getLogger(__name__)

ALGORITHM = "HS256"
# The clocks of two machines may differ by so much. An expired token is expired.
LEEWAY_SECONDS = 30
REQUIRED_CLAIMS = ["iss", "aud", "sub", "name", "sid", "jti", "iat", "exp", "auth_time"]
# SECURITY: PyJWT lets the error of a deeply nested JSON text through.
NOT_A_TOKEN = (jwt.InvalidTokenError, RecursionError, UnicodeError)
# SECURITY: longer texts are not parsed. A cookie has at most 4 KiB, a token of a provider is longer.
MAX_TOKEN_CHARACTERS = 8_192


@dataclass(frozen=True, slots=True)
class Session:
    """The session of a user, as one of its tokens describes it.

    Attributes:
        user: The user, with the session's id and the token's end.
        issued_at: The time of the token in Unix seconds.
        signed_in_at: The time of the sign-in in Unix seconds; 0 for a session that this service cannot refresh.
    """

    user: User
    issued_at: float
    signed_in_at: float


class Tokens:
    """Issues and reads session tokens.

    Args:
        secrets: The secrets, the current one first. A token that was signed with any of them is valid.
        issuer: The name of the service.
        environment: The environment: a token of another one is not valid.
        lifetime_seconds: The lifetime of a token.
        session_seconds: The lifetime of a session, which ends then however often its token is refreshed.
    """

    def __init__(
        self,
        secrets: Sequence[str],
        *,
        issuer: str,
        environment: str,
        lifetime_seconds: float,
        session_seconds: float,
    ) -> None:
        self.secrets = secrets
        self.issuer = issuer
        self.audience = f"{issuer}:{environment}"
        self.lifetime_seconds = lifetime_seconds
        self.session_seconds = session_seconds

    @classmethod
    def of(cls, settings: Settings) -> Tokens:
        """Return the tokens of a service with these settings."""
        return cls(
            settings.secrets,
            issuer=PACKAGE,
            environment=settings.environment,
            lifetime_seconds=settings.token_lifetime_seconds,
            session_seconds=settings.session_lifetime_seconds,
        )

    def start(self, user: User) -> tuple[str, Session]:
        """Begin a session for a user; return its token."""
        now = time.time()
        return self._issue(replace(user, session_id=uuid.uuid4().hex), now, now)

    def refresh(self, session: Session) -> tuple[str, Session] | None:
        """Return a new token for a session; ``None`` if the session has reached its end."""
        now = time.time()
        if now >= session.signed_in_at + self.session_seconds:
            return None
        return self._issue(session.user, now, session.signed_in_at)

    def read(self, token: str) -> Session | None:
        """Return the session of a token; ``None`` if the token is not valid or has expired."""
        return self._decode(token, self.audience)

    def seal(self, session: Session) -> str:
        """Return a text for the value of a ticket: it is a token for :meth:`unseal` only."""
        return self._encode(session, f"{self.audience}:ticket")

    def unseal(self, text: str) -> Session | None:
        """Return the session of a ticket's value; ``None`` if it is not valid or has expired."""
        return self._decode(text, f"{self.audience}:ticket")

    def _issue(self, user: User, now: float, signed_in_at: float) -> tuple[str, Session]:
        end = int(min(now + self.lifetime_seconds, signed_in_at + self.session_seconds))
        session = Session(replace(user, expires_at=end), now, signed_in_at)
        return self._encode(session, self.audience), session

    def _encode(self, session: Session, audience: str) -> str:
        user = session.user
        claims = {
            "iss": self.issuer,
            "aud": audience,
            "sub": user.id,
            "name": user.name,
            "roles": sorted(user.roles),
            "sid": user.session_id,
            "jti": uuid.uuid4().hex,
            "iat": session.issued_at,
            "exp": user.expires_at,
            # NOTE: with its fraction, because "sign out everywhere" revokes the sessions that began before it.
            "auth_time": session.signed_in_at,
        }
        return jwt.encode(claims, self.secrets[0], algorithm=ALGORITHM)

    def _decode(self, token: str, audience: str) -> Session | None:
        if len(token) > MAX_TOKEN_CHARACTERS:
            return None
        for secret in self.secrets:
            try:
                claims = jwt.decode(
                    token,
                    secret,
                    algorithms=[ALGORITHM],
                    audience=audience,
                    issuer=self.issuer,
                    leeway=LEEWAY_SECONDS,
                    options={"require": REQUIRED_CLAIMS},
                )
                return session_of(claims)
            except jwt.InvalidSignatureError:
                continue
            except NOT_A_TOKEN:
                return None
            except (TypeError, ValueError, OverflowError) as error:
                logger.warning("a valid token is refused: %s", error)
                return None
        return None


def session_of(claims: dict[str, Any]) -> Session | None:
    """Return the session that the claims of a token describe; ``None`` after its end.

    Raises:
        TypeError: A claim has another type.
        ValueError: The user is not valid.
    """
    session_id, end = str(claims["sid"]), float(claims["exp"])
    # NOTE: PyJWT's leeway applies to all times.
    if end <= time.time():
        return None
    user = User(claims["sub"], claims["name"], frozenset(claims["roles"]), session_id, end)
    return Session(user, float(claims["iat"]), float(claims["auth_time"]))
