"""The load command against a real service."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from ..conftest import PACKAGE

if TYPE_CHECKING:
    from ..conftest import Server

WAIT_SECONDS = 60.0


async def run_load(*options: str, **variables: str) -> tuple[int, str]:
    """Run the command; return its status and what it has printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", f"{PACKAGE}.load", *options),
        env=os.environ | variables,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return await process.wait(), printed.decode()


async def test_all_clients_join_and_no_message_is_lost(serve: Callable[..., Server]) -> None:
    server = serve(APP_DATABASE_URL="none")
    status, printed = await run_load("--url", server.url, "--clients", "30", "--seconds", "1")
    assert status == 0, printed
    assert "30 of 30 joined, in 2 rooms" in printed
    assert "20 sent, 300 deliveries, p50 " in printed
    assert "0 of 300 deliveries" in printed
    assert re.search(r"joins +\d+ per second, p50 [\d.]+ ms, p99 [\d.]+ ms", printed)


async def test_the_metrics_of_the_service_are_printed(serve: Callable[..., Server]) -> None:
    token = "a-token-of-the-metrics"
    server = serve(APP_DATABASE_URL="none", APP_METRICS_TOKEN=token)
    options = ("--url", server.url, "--clients", "3", "--seconds", "0.1")
    status, printed = await run_load(*options, APP_METRICS_TOKEN=token)
    assert status == 0, printed
    assert "metrics    pachinko_connections 3 (+3)" in printed
    assert "pachinko_messages_out_total" in printed
    assert "metrics    not served: set APP_METRICS_TOKEN" in (await run_load(*options))[1]


async def test_refused_clients_are_counted_with_the_setting(serve: Callable[..., Server]) -> None:
    server = serve(APP_DATABASE_URL="none", APP_MAX_CONNECTIONS_PER_ADDRESS="5")
    status, printed = await run_load("--url", server.url, "--clients", "8", "--seconds", "0.1")
    assert status == 1
    assert "5 of 8 joined" in printed
    assert "3 with status 429 (one address: see APP_HANDSHAKES_PER_SECOND" in printed


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--url", "http://192.0.2.1:8000"), "is another machine"),
        (("--url", "ftp://127.0.0.1"), "is not a URL of a service"),
        (("--url", "http://127.0.0.1:99999"), "Port out of range"),
        (("--clients", "0"), "--clients is 0: give a number above 0, 20000 at most"),
        (("--seconds", "nan"), "--seconds is nan"),
        (("--url", "http://127.0.0.1:9"), "does not answer"),
    ],
)
async def test_bad_options_are_named(options: tuple[str, ...], error: str) -> None:
    status, printed = await run_load(*options)
    assert status == 1
    assert error in printed
    assert "Traceback" not in printed
