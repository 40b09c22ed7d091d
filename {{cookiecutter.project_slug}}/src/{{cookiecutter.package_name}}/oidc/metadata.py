"""What an identity provider publishes about itself (OpenID Connect Discovery 1.0)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..hosts import is_loopback

ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")
OPTIONAL_ENDPOINTS = ("userinfo_endpoint", "end_session_endpoint")


@dataclass(frozen=True, slots=True)
class Metadata:
    """The metadata of a provider.

    Attributes:
        issuer: Its name in tokens, which has the slash at its end or has it not.
        endpoints: The URLs of its endpoints.
        names_itself: Whether its redirects contain ``iss`` (RFC 9207).
        takes_basic: Whether the client may prove itself in the header ``Authorization``.
    """

    issuer: str
    endpoints: dict[str, str]
    names_itself: bool
    takes_basic: bool

    @classmethod
    def read(cls, document: dict[str, Any], issuer: str) -> Metadata:
        """Return the metadata in a document.

        Raises:
            ValueError: It is of another issuer, or an endpoint is missing or not secure.
        """
        found = document.get("issuer")
        # SECURITY: otherwise tokens of another issuer would be accepted.
        if not isinstance(found, str) or found.rstrip("/") != issuer.rstrip("/"):
            raise ValueError(f"it names itself {found!r:.200}: set APP_OIDC_ISSUER to its own name")
        endpoints = {}
        for name in (*ENDPOINTS, *OPTIONAL_ENDPOINTS):
            url = document.get(name)
            if url is None and name in OPTIONAL_ENDPOINTS:
                continue
            if not isinstance(url, str) or not is_secure(url, issuer):
                raise ValueError(f"its {name} is {url!r:.200}, and not an https URL")
            endpoints[name] = url
        methods = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        return cls(
            found,
            endpoints,
            names_itself=document.get("authorization_response_iss_parameter_supported") is True,
            takes_basic="client_secret_basic" in methods,
        )


def is_secure(url: str, issuer: str) -> bool:
    """Return whether a URL is one of HTTPS, or of this machine if the issuer is, too."""
    parts, host = urlsplit(url), urlsplit(issuer).hostname or ""
    if parts.scheme == "https":
        return bool(parts.hostname)
    return parts.scheme == "http" and is_loopback(host) and is_loopback(parts.hostname or "")
