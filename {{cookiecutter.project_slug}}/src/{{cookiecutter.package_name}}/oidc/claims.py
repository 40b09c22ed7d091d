"""The claims of a provider's tokens: their checks, and the user that they describe."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from ..tokens import LEEWAY_SECONDS
from ..users import User, check, check_roles

logger = logging.getLogger(__name__)

# The claims with a name, besides the one of the settings, in this order.
OTHER_NAME_CLAIMS = ("preferred_username", "email")
# Claims and types that an access token does not have (RFC 9068 section 2).
ID_TOKEN_CLAIMS = frozenset({"nonce", "at_hash", "c_hash"})
ACCESS_TOKEN_TYPES = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})

# In Unix seconds: a larger number is in another unit.
MAX_TIME = 1e11


class InvalidToken(Exception):
    """A token of the provider is not valid; the text is for the log.

    Attributes:
        by_client: Whether a client can cause it, such as with an expired token; else the operator may have to act.
    """

    def __init__(self, text: str, *, by_client: bool = True) -> None:
        super().__init__(text)
        self.by_client = by_client


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """The claims that describe a user.

    Attributes:
        id: The user's id.
        name: The user's name.
        roles: The user's roles: a list or a single text. Dots lead into objects, as in ``realm_access.roles``.
    """

    id: str = "sub"
    name: str = "name"
    roles: str = "roles"

    def user(
        self,
        claims: Mapping[str, Any],
        *,
        session_id: str | None = None,
        expires_at: float | None = None,
    ) -> User:
        """Return the user of some claims.

        The name is the first valid one of the claim, ``preferred_username``, ``email`` and the id. Roles that are
        not valid are left out.

        Raises:
            InvalidToken: There is no valid id.
        """
        found = value_at(claims, self.id)
        try:
            user_id = check(str(found) if isinstance(found, int) else found)
        except (TypeError, ValueError) as error:
            text = f"the claim {self.id!r} is not a valid id: {error}"
            raise InvalidToken(text, by_client=False) from None
        names = [value_at(claims, name) for name in (self.name, *OTHER_NAME_CLAIMS)]
        name = next(filter(None, map(valid_name, names)), user_id)
        return User(user_id, name, self.roles_of(claims), session_id, expires_at)

    def roles_of(self, claims: Mapping[str, Any]) -> frozenset[str]:
        """Return the valid roles in some claims; none if they are too many for a session token."""
        found = value_at(claims, self.roles)
        listed = found if isinstance(found, list) else [found]
        roles = {role for role in map(valid_name, listed) if role}
        try:
            return check_roles(roles)
        except ValueError as error:
            logger.warning("the roles in the claim %r are left out: %s", self.roles, error)
            return frozenset()


def value_at(claims: Mapping[str, Any], path: str) -> Any:
    """Return the claim of this name, or else the one that its dots lead to; ``None`` if there is none."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def valid_name(value: object) -> str | None:
    """Return a name or a role, normalized; ``None`` if it is not valid."""
    if not isinstance(value, str):
        return None
    try:
        return check(value.strip())
    except ValueError:
        return None


def check_times(claims: Mapping[str, Any]) -> None:
    """Check ``exp``, ``iat`` and ``nbf``: 30 s leeway for the last two, none for the end.

    Raises:
        InvalidToken: One of them is missing or wrong. For a time ahead of this machine's clock the text gives the
            difference.
    """
    now = time.time()
    for name in ("exp", "iat", "nbf"):
        value = claims.get(name)
        if value is None and name == "nbf":
            continue
        if not is_time(value):
            raise InvalidToken(f"the claim {name!r} is not a time")
        if name == "exp":
            if value <= now:
                raise InvalidToken(f"the token expired {now - value:.0f} s ago")
        elif value > now + LEEWAY_SECONDS:
            raise InvalidToken(
                f"the claim {name!r} is {value - now:.0f} s ahead of this machine's clock, and {LEEWAY_SECONDS} s"
                " are allowed: correct the clock of this machine or of the provider",
                by_client=False,
            )


def is_time(value: object) -> TypeGuard[float]:
    """Return whether a claim is a time in Unix seconds, with or without a fraction."""
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MAX_TIME
    )


def check_is_access_token(header: Mapping[str, Any], claims: Mapping[str, Any]) -> None:
    """Refuse a token of another kind.

    SECURITY: every service in which a user signs in gets an ID token, so it proves nothing to another one.

    Raises:
        InvalidToken: It is another kind of token, as far as its type and claims show.
    """
    token_type = str(header.get("typ") or "").lower()
    is_id_token = claims.get("typ") == "ID" or ID_TOKEN_CLAIMS & claims.keys()
    if token_type not in ACCESS_TOKEN_TYPES or is_id_token:
        raise InvalidToken("it is not an access token")


def session_id_of(token: str, claims: Mapping[str, Any]) -> str:
    """Return an id for the session of an access token: that of its ``sid`` or ``jti``, or else of the token."""
    found = claims.get("sid") or claims.get("jti") or token
    return hashlib.sha256(f"{claims['iss']}\n{found}".encode()).hexdigest()[:32]
