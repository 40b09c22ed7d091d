"""What a run of ``load.py`` prints: its progress, its result, and the metrics of the service."""

from __future__ import annotations

import sys
import time
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic_settings import BaseSettings, SettingsConfigDict

from .settings import ENV_FILE, ENV_PREFIX

STEPS = 30
SECONDS_BETWEEN_LINES = 0.2
METRICS_SECONDS = 5.0
# Metrics whose change during the run is printed, without their labels.
SHOWN = (
    "pachinko_connections",
    "pachinko_refusals_total",
    "pachinko_messages_in_total",
    "pachinko_messages_out_total",
    "pachinko_outbox_largest_bytes",
    "pachinko_slow_readers_total",
)
HINTS = {
    "status 429": "one address: see APP_HANDSHAKES_PER_SECOND and APP_MAX_CONNECTIONS_PER_ADDRESS",
    "status 503": "the process is full: see APP_MAX_CONNECTIONS",
    "status 403": "the service does not accept this client's token or host",
}


class MetricsSettings(BaseSettings):
    """The settings of the service that this command needs; the others need not be valid here."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_file=ENV_FILE, env_ignore_empty=True, extra="ignore"
    )

    metrics_port: int = 0
    metrics_token: str = ""


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the token is for the service only."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Return no request, so that the response is an error."""
        return


class Progress:
    """A bar on a terminal; nothing where the output is not one."""

    def __init__(self) -> None:
        self.shown = sys.stderr.isatty()
        self.next_at = 0.0

    def show(self, step: str, done: int, total: int) -> None:
        """Draw the bar, five times a second at most."""
        now = time.monotonic()
        if not self.shown or (now < self.next_at and done < total):
            return
        self.next_at = now + SECONDS_BETWEEN_LINES
        filled = STEPS * done // max(total, 1)
        bar = "#" * filled + "-" * (STEPS - filled)
        print(f"\r{step:<8} [{bar}] {done}/{total} ", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Clear the line."""
        if self.shown:
            print("\r" + " " * 70 + "\r", end="", file=sys.stderr, flush=True)


def metrics_of(url: str) -> dict[str, float]:
    """Return the sums of the service's metrics over their labels; empty if it does not serve them.

    Their port and the token are ``APP_METRICS_PORT`` and ``APP_METRICS_TOKEN`` in the environment or in ``.env``.
    """
    given = MetricsSettings()
    if given.metrics_port:
        url = f"http://{urlsplit(url).hostname}:{given.metrics_port}"
    request = urllib.request.Request(f"{url}/metrics")
    if given.metrics_token:
        request.add_header("Authorization", f"Bearer {given.metrics_token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect())
    try:
        with opener.open(request, timeout=METRICS_SECONDS) as response:
            text = response.read().decode()
    except OSError:
        return {}
    sums: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name and not line.startswith("#"):
            family = name.partition("{")[0]
            sums[family] = sums.get(family, 0.0) + float(value)
    return sums


def report(
    results: Mapping[str, str],
    refused: Mapping[str, int],
    before: Mapping[str, float],
    after: Mapping[str, float],
) -> None:
    """Print the result of a run.

    Args:
        results: Lines by their title.
        refused: The clients that were refused or closed, by reason.
        before: The metrics of the service before the run.
        after: Those after it, while the clients are connected.
    """
    for title, text in results.items():
        print(f"{title:<10} {text}")
    for reason, count in sorted(refused.items()):
        hint = HINTS.get(reason, "")
        print(f"{'refused':<10} {count} with {reason}{f' ({hint})' if hint else ''}")
    if not after:
        print(f"{'metrics':<10} not served: set APP_METRICS_TOKEN or APP_METRICS_PORT in .env")
    for name in SHOWN:
        if name in after:
            change = after[name] - before.get(name, 0.0)
            print(f"{'metrics':<10} {name} {after[name]:g} ({change:+g})")
