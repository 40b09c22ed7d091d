"""Sign-in with OpenID Connect: the extra ``oidc``. Nothing else imports its libraries, and only with an issuer set."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from falcon_pachinko import ConfigurationError

if TYPE_CHECKING:
    from ..settings import Settings
    from .provider import OpenIdProvider

LIBRARIES = ("authlib", "httpx2", "joserfc")


def open_provider(settings: Settings) -> OpenIdProvider | None:
    """Create the identity provider of the settings; ``None`` without an issuer. Nothing is requested yet.

    Raises:
        ConfigurationError: The extra ``oidc`` is not installed.
    """
    if not settings.oidc_issuer:
        return None
    check_extra()
    from .provider import OpenIdProvider

    return OpenIdProvider.of(settings)


def check_extra() -> None:
    """Check that the libraries are installed, without importing them.

    Raises:
        ConfigurationError: One of them is missing.
    """
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"sign-in with OpenID Connect needs {', '.join(missing)}: install the extra 'oidc', as in"
            " pip install -e '.[oidc]'"
        )
