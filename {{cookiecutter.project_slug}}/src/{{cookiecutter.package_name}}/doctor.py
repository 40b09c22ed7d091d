"""The checks of a deployment, for operators: the settings, the open files, and Redis."""

from __future__ import annotations

import asyncio

from falcon_pachinko.backends.doctor import Finding, Outcome, diagnose
from falcon_pachinko.server.admission import RESERVED_FILES, raise_open_files

from .log_text import escape, redact
from .settings import Settings, load_settings


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
        check_hosts(settings),
        check_open_files(settings),
        *asyncio.run(diagnose(url, prefix=settings.backend_prefix)),
    ]


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
