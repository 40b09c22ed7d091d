"""The checks of single settings."""

from __future__ import annotations

from pathlib import Path

import jwt

from falcon_pachinko import ConfigurationError
from falcon_pachinko.route_config import is_origin

from .hosts import ALL_HOSTS, host_name

# RFC 7518 section 3.2: a key for HS256 has at least the 256 bits of its hash.
MIN_SECRET_BYTES = 32
NEW_SECRET = """python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"""


def check_secret(name: str, secret: str) -> None:
    """Check a secret.

    Raises:
        ValueError: It is too short, or cannot sign.
    """
    if len(secret.encode("utf-8", "replace")) < MIN_SECRET_BYTES:
        raise ValueError(
            f"{name} must have {MIN_SECRET_BYTES} bytes or more: generate one with {NEW_SECRET}"
        )
    try:
        jwt.encode({}, secret, algorithm="HS256")
    except (UnicodeEncodeError, jwt.InvalidKeyError) as error:
        raise ValueError(
            f"{name} must be UTF-8 text and not a PEM or SSH key: generate one with {NEW_SECRET}"
        ) from error


def check_host(host: str) -> str:
    """Return a host name or an address without a port in lower case, or ``*`` for all.

    Raises:
        ValueError: The text is none of these.
    """
    if host != ALL_HOSTS and host_name(host) != host.lower():
        raise ValueError(
            f"{host!r} is not a host name: write it like chat.example.com, without a port"
        )
    return host.lower()


def check_origin(origin: str, scheme: str = "") -> str:
    """Return an origin in lower case and without a default port, as browsers send it.

    Raises:
        ValueError: The text is not an origin, or its scheme begins differently.
    """
    origin = origin.lower()
    default_port = {"https": ":443", "http": ":80"}.get(origin.partition(":")[0], "")
    origin = origin.removesuffix(default_port)
    if not is_origin(origin) or not origin.startswith(scheme):
        raise ValueError(f"{origin!r} is not an origin: write it like https://chat.example.com")
    return origin


def make_state_folder(path: Path | None) -> None:
    """Create the folder of the state file, if there is one.

    Raises:
        ConfigurationError: It cannot be created.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"APP_STATE_FOLDER cannot be created ({error}): name a folder that this process can write to"
        ) from None
