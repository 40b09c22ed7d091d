"""The provider's keys, and the tokens that are signed with them."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet

from falcon_pachinko import ProviderUnavailable

from ..tokens import LEEWAY_SECONDS
from .cached import Cached
from .claims import InvalidToken, is_time

logger = logging.getLogger(__name__)

# SECURITY: asymmetric ones only, whatever the provider or a token says: with the others, the public key or the
#   client's secret could sign.
ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")


class Algorithms(jws.JWSRegistry):
    """The accepted algorithms; headers that are not known are ignored (RFC 7515 section 4)."""

    # A header with a chain of certificates is longer, and not needed.
    max_header_length = 2_048

    def __init__(self) -> None:
        super().__init__(algorithms=ALGORITHMS, strict_check_header=False)

    def get_alg(self, name: str) -> Any:
        """Return an algorithm; EdDSA, which RFC 9864 renames, without the library's warning for each token."""
        return self.algorithms[name] if name in ALGORITHMS else super().get_alg(name)


@dataclass(frozen=True, slots=True)
class UncheckedToken:
    """A token before the check of its signature."""

    text: str
    header: dict[str, Any]
    claims: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> UncheckedToken:
        """Parse a token in compact form.

        Raises:
            InvalidToken: It is not one, or its algorithm is not accepted.
        """
        try:
            parts = jws.extract_compact(text.encode(), registry=REGISTRY)
            header, claims = parts.headers(), json.loads(parts.payload)
        except (JoseError, ValueError, RecursionError, TypeError) as error:
            raise InvalidToken(f"it is not a token: {type(error).__name__}") from None
        if not isinstance(header, dict):
            raise InvalidToken("it has no header")
        if not isinstance(claims, dict):
            raise InvalidToken("it has no claims")
        if header.get("alg") not in ALGORITHMS:
            raise InvalidToken(f"the algorithm {header.get('alg')!r} is not accepted")
        return cls(text, dict(header), claims)


class Keys:
    """The keys of the provider.

    They rotate: an unknown key id leads to one request per cooldown, so that forged tokens cannot cause more. Known
    keys stay usable while the provider is unavailable.
    """

    def __init__(self, cached: Cached[KeySet]) -> None:
        self.cached = cached

    async def verify(self, token: UncheckedToken, *, at_once: bool = False) -> None:
        """Check the signature of a token.

        Args:
            token: The token.
            at_once: Whether an unknown key id leads to a request even during the cooldown; only for a token that came
                from the provider itself.

        Raises:
            InvalidToken: It is wrong, or the provider has no such key.
            ProviderUnavailable: The key is not known, and cannot be requested for now.
        """
        key = await self.find(token, at_once=at_once)
        if key is None:
            raise InvalidToken(f"the provider has no key {token.header.get('kid')!r:.100}")
        try:
            jwt.decode(token.text, key, registry=REGISTRY)
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            raise InvalidToken(f"its signature is not valid: {type(error).__name__}") from None

    async def find(self, token: UncheckedToken, *, at_once: bool = False) -> Key | None:
        """Return the key of a token; ``None`` if the provider has no such key.

        Raises:
            ProviderUnavailable: This is not known for now.
        """
        asked_at = time.time()
        if key := key_of(await self.cached.get(), token):
            return key
        await self.cached.refresh(at_once=at_once)
        if key := key_of(await self.cached.get(), token):
            return key
        if self.cached.failure is not None:
            raise self.cached.failure
        # NOTE: a provider publishes a key before it signs with it.
        issued_at = token.claims.get("iat")
        is_newer = is_time(issued_at) and issued_at + LEEWAY_SECONDS >= self.cached.fetched_at
        if is_newer and self.cached.fetched_at < asked_at:
            raise ProviderUnavailable(
                "a token is newer than the keys, which are requested again later"
            )
        return None


def key_of(keys: KeySet, token: UncheckedToken) -> Key | None:
    """Return the key with the id in a token; for a token without an id, the only key."""
    kid = token.header.get("kid")
    if kid is None:
        return keys.keys[0] if len(keys.keys) == 1 else None
    return next((key for key in keys.keys if key.kid == kid and key.get("use") != "enc"), None)


def read_keys(document: dict[str, Any]) -> KeySet:
    """Return the keys of a provider's key document; keys of an unknown or broken kind are left out.

    Raises:
        ValueError: No key is left.
    """
    keys = []
    listed = document.get("keys")
    for data in listed if isinstance(listed, list) else ():
        try:
            found = KeySet.import_key_set({"keys": [data]})
        except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
            logger.info("a key of the identity provider is left out: %s", type(error).__name__)
            continue
        keys += found.keys
    if not keys:
        raise ValueError("there is no usable key")
    return KeySet(keys)


REGISTRY = Algorithms()
