"""The checks of single settings."""

from __future__ import annotations

import os
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit

import jwt
from dotenv import dotenv_values
from pydantic import ValidationError

from falcon_pachinko import ConfigurationError
from falcon_pachinko.route_config import is_origin
from falcon_pachinko.server.exposition import Exposition

from .hosts import ALL_HOSTS, host_name, is_loopback
from .oidc import check_extra

# RFC 7518 section 3.2: a key for HS256 has at least the 256 bits of its hash.
MIN_SECRET_BYTES = 32
MIN_TOKEN_CHARACTERS = 16
# Of two names, from 0 to 1 (difflib): a name with a misspelt or missing letter has more.
MIN_SIMILARITY = 0.75
SEPARATE_ROOMS = (
    "APP_WORKERS, or WEB_CONCURRENCY, is {workers} without APP_BACKEND_URL: each process would have rooms of"
    " its own; set APP_BACKEND_URL or APP_WORKERS=1"
)
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


def check_secrets(secret: str, previous: str) -> None:
    """Check the secret, and the one before it if there is one.

    Raises:
        ValueError: The secret is missing, or one of them is too short or cannot sign.
    """
    if not secret:
        raise ValueError(
            f"APP_SECRET is not set: generate one with {NEW_SECRET}; `make run` does so for development"
        )
    check_secret("APP_SECRET", secret)
    if previous:
        check_secret("APP_SECRET_PREVIOUS", previous)


def check_metrics(port: int, token: str, main_port: int) -> None:
    """Check the settings of the metrics, and the extra ``metrics`` if they are on.

    Raises:
        ValueError: The port is that of the service, the token can be guessed, or the extra is not installed.
    """
    if port and port == main_port:
        raise ValueError(f"APP_METRICS_PORT is {port}, the port of the service: choose another one")
    if token and (len(token) < MIN_TOKEN_CHARACTERS or not token.isascii() or " " in token):
        raise ValueError(
            f"APP_METRICS_TOKEN must have {MIN_TOKEN_CHARACTERS} ASCII characters or more without spaces:"
            f" generate one with {NEW_SECRET}"
        )
    if port or token:
        try:
            Exposition()
        except ConfigurationError as error:
            raise ValueError(str(error)) from None


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


def check_private(host: str, environment: str) -> None:
    """Check that no other machine reaches the address of a service with the sign-in by name.

    Raises:
        ValueError: Other machines reach it.
    """
    if not is_loopback(host):
        raise ValueError(
            f"APP_HOST is {host!r} with APP_ENVIRONMENT={environment}: anybody in the network could sign in"
            " under any name; set APP_ENVIRONMENT=production, or APP_ALLOW_INSECURE=1 if only this machine"
            " reaches that address"
        )


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


def check_issuer(issuer: str, *, allows_http: bool) -> None:
    """Check the name of an identity provider, which is the address of its metadata, and the extra ``oidc``.

    Args:
        issuer: The name.
        allows_http: Whether a provider on this machine may be without HTTPS, as in development.

    Raises:
        ValueError: It is not an https URL, or the extra is not installed.
    """
    parts = urlsplit(issuer)
    is_local = allows_http and parts.scheme == "http" and is_loopback(parts.hostname or "")
    is_secure = parts.scheme == "https" or is_local
    if not parts.hostname or not is_secure or parts.query or parts.fragment:
        raise ValueError(
            f"APP_OIDC_ISSUER is {issuer!r}: give the https URL of the provider without"
            " /.well-known/openid-configuration; http only for this machine, in development"
        )
    check_extra()


def check_client(client_id: str, scopes: str) -> None:
    """Check how this service is registered at the identity provider.

    Raises:
        ValueError: Its id is missing, or no ID token is asked for.
    """
    if not client_id:
        raise ValueError("APP_OIDC_CLIENT_ID is not set: register this service at the provider")
    if "openid" not in scopes.split():
        raise ValueError(f"APP_OIDC_SCOPES is {scopes!r}: it must contain 'openid'")


def problem_lines(error: ValidationError, prefix: str, confidential: Collection[str]) -> list[str]:
    """Return a line for each problem of the settings, with the name of its variable.

    Args:
        error: The problems.
        prefix: The beginning of the names of variables.
        confidential: The variables whose values are not shown.
    """
    lines = []
    for problem in error.errors(include_url=False, include_context=False):
        name = str(problem["loc"][0]).upper() if problem["loc"] else ""
        if name and not name.startswith(prefix):
            name = prefix + name
        shown = name and name not in confidential
        given = f" (it is {problem['input']!r:.200})" if shown else ""
        reason = problem["msg"].removeprefix("Value error, ")
        lines.append(f"{name}: {reason}{given}" if name else reason)
    return lines


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


def unknown_variables(known: Collection[str], prefix: str, file: str) -> list[tuple[str, str]]:
    """Return the variables in the environment and in a file that begin like a setting and are none.

    Each comes with the setting whose name is most similar; with an empty text if none is.

    Args:
        known: The names of the settings.
        prefix: The beginning of their names.
        file: The name of a file with variables, which may be missing.
    """
    given = {name.upper() for name in (*os.environ, *dotenv_values(file, encoding="utf-8"))}
    unknown = [name for name in sorted(given.difference(known)) if name.startswith(prefix)]
    # NOTE: without the prefix, which makes any two names similar.
    rests = {name.removeprefix(prefix): name for name in known}
    found = [
        get_close_matches(name.removeprefix(prefix), rests, n=1, cutoff=MIN_SIMILARITY)
        for name in unknown
    ]
    return [
        (name, rests[nearest[0]] if nearest else "")
        for name, nearest in zip(unknown, found, strict=True)
    ]
