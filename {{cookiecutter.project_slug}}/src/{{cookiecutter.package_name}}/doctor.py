"""The checks of a deployment, for operators: settings, sign-in, open files, the stop, database and Redis."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from falcon_pachinko import ProviderUnavailable
from falcon_pachinko.backends.doctor import Finding, Outcome, diagnose
from falcon_pachinko.server.admission import RESERVED_FILES
from falcon_pachinko.support.open_files import raise_open_files

from .checks import unknown_variables
from .log_text import escape, redact
from .oidc import open_provider
from .settings import ENV_FILE, ENV_PREFIX, Settings, load_settings
from .store_url import sqlite_path

CHECK_DATABASE = "check APP_DATABASE_URL, and the rights of this user there"


def print_diagnosis() -> int:
    """Print a line for each check, and return the exit status: 1 if one has failed, else 0."""
    findings = check_deployment()
    for finding in findings:
        print(redact(escape(str(finding)), headers=False))
    return int(any(finding.outcome is Outcome.FAILURE for finding in findings))


def check_deployment() -> list[Finding]:
    """Check the settings; if they are valid, the rest too."""
    try:
        settings = load_settings()
    except SystemExit as error:
        problems = "; ".join(line.strip() for line in str(error).splitlines()[1:])
        next_step = "correct them in the environment or in .env"
        return [Finding(Outcome.FAILURE, "settings", problems, next_step)]
    url = settings.backend_url.get_secret_value()
    return [
        Finding(Outcome.OK, "settings", f"valid, with APP_ENVIRONMENT={settings.environment}"),
        *check_names(),
        check_hosts(settings),
        check_sign_in(settings),
        *check_provider(settings),
        check_open_files(settings),
        check_stop(settings),
        check_database(settings),
        *asyncio.run(diagnose(url, prefix=settings.backend_prefix)),
    ]


def unknown_settings() -> list[tuple[str, str]]:
    """Return what looks like a setting and is none, see :func:`.checks.unknown_variables`."""
    known = {f"{ENV_PREFIX}{name}".upper() for name in Settings.model_fields}
    return unknown_variables(known, ENV_PREFIX, ENV_FILE)


def check_names() -> list[Finding]:
    """Report variables that look like settings and are none."""
    return [
        Finding(
            Outcome.WARNING,
            "settings",
            f"{name} is not a setting, and is ignored",
            f"is {nearest} meant?" if nearest else "see docs/settings.md for all settings",
        )
        for name, nearest in unknown_settings()
    ]


def check_sign_in(settings: Settings) -> Finding:
    """Check that users can sign in."""
    if settings.sign_in == "none":
        return Finding(
            Outcome.WARNING,
            "sign-in",
            "no user can sign in; programs with a token of this service can",
            "set APP_OIDC_ISSUER and APP_OIDC_CLIENT_ID, see docs/identity.md",
        )
    how = f"at {settings.oidc_issuer}" if settings.oidc_issuer else "by name, without a proof"
    return Finding(Outcome.OK, "sign-in", f"users sign in {how}")


def check_provider(settings: Settings) -> list[Finding]:
    """Check that the identity provider responds, and publishes what the service needs."""
    if not settings.oidc_issuer:
        return []
    next_step = "check APP_OIDC_ISSUER and the network; see docs/identity.md"
    try:
        asyncio.run(read_provider(settings))
    except ProviderUnavailable as error:
        return [Finding(Outcome.FAILURE, "provider", str(error), next_step)]
    return [Finding(Outcome.OK, "provider", "its metadata and its keys are valid")]


async def read_provider(settings: Settings) -> None:
    """Read the metadata and the keys of the identity provider.

    Raises:
        ProviderUnavailable: It does not respond, or its response is not valid.
    """
    provider = open_provider(settings)
    assert provider is not None
    try:
        await provider.check()
    finally:
        await provider.aclose()


def check_hosts(settings: Settings) -> Finding:
    """Check that a public service answers to its own names only."""
    if settings.hosts or not settings.production:
        names = ", ".join(settings.hosts) or "this machine"
        return Finding(Outcome.OK, "hosts", f"the service answers to {names}")
    return Finding(
        Outcome.WARNING,
        "hosts",
        "the service answers to any host name",
        "set APP_PUBLIC_ORIGIN, such as https://chat.example.com",
    )


def check_open_files(settings: Settings) -> Finding:
    """Check that the system allows as many open files as there may be connections."""
    files = raise_open_files()
    needed = settings.max_connections + RESERVED_FILES
    if files is None or files >= needed:
        text = "no limit" if files is None else f"{files} are allowed"
        return Finding(Outcome.OK, "open files", f"{text}, {needed} are needed")
    return Finding(
        Outcome.WARNING,
        "open files",
        f"{files} are allowed, which is enough for {max(files - RESERVED_FILES, 0)} connections",
        f"allow {needed} (ulimit -n), or lower APP_MAX_CONNECTIONS",
    )


def check_stop(settings: Settings) -> Finding:
    """Report the longest stop; a supervisor whose timeout is shorter kills the process before its end."""
    seconds = settings.stop_seconds
    text = f"it takes at most {seconds} s: stop_grace_period, TimeoutStopSec or the like"
    drains = settings.drain_delay_seconds or settings.drain_seconds
    if settings.backend_url.get_secret_value() or not drains:
        return Finding(Outcome.OK, "stop", text)
    return Finding(
        Outcome.OK,
        "stop",
        f"{text}; no other node takes the clients meanwhile: APP_DRAIN_DELAY_SECONDS=0 and"
        " APP_DRAIN_SECONDS=0 make a restart shorter",
    )


def check_database(settings: Settings) -> Finding:
    """Check that messages can be stored; creates and migrates nothing."""
    url, topic = settings.store_url, "database"
    if not url:
        return Finding(Outcome.OK, topic, "none: no message is stored")
    from .database import SCHEMA_VERSION, UNUSABLE, failure_text, is_behind, probe, shown_url

    shown, path = shown_url(url), sqlite_path(url)
    if path and settings.backend_url.get_secret_value():
        text = f"{shown}: nodes on other machines do not have its messages"
        return Finding(Outcome.WARNING, topic, text, "set APP_DATABASE_URL to a PostgreSQL")
    if path and not path.exists():
        return check_new_file(path, shown)
    try:
        version = asyncio.run(probe(url))
    except UNUSABLE as error:
        text = f"{shown}: {failure_text(error)}"
        return Finding(Outcome.FAILURE, topic, text, CHECK_DATABASE)
    text = f"{shown}: writable, with schema {version}"
    if version == SCHEMA_VERSION:
        return Finding(Outcome.OK, topic, text)
    text = f"{text}, and this service has {SCHEMA_VERSION}"
    if is_behind(version):
        return Finding(Outcome.OK, topic, f"{text}: the next start migrates it")
    return Finding(Outcome.WARNING, topic, text, "deploy the newer version of the service")


def check_new_file(path: Path, shown: str) -> Finding:
    """Check that a file of SQLite that does not exist can be created."""
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if folder.is_dir() and os.access(folder, os.W_OK):
        return Finding(Outcome.OK, "database", f"{shown}: the first start creates it")
    text = f"{shown}: it cannot be created in {folder}"
    return Finding(Outcome.FAILURE, "database", text, CHECK_DATABASE)
