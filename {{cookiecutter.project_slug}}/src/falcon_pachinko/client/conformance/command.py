"""Run all checks against a server, and print one line for each."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import WebSocketException

from .checks import CHECKS
from .peer import Failed, Skipped, Target, open_peer

SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
CONNECT_ERRORS = (OSError, WebSocketException, ValueError)


def target_of(given: argparse.Namespace) -> Target:
    """Return the server that a command line names.

    Raises:
        ValueError: The URL, or the payload of the message, is not valid.
    """
    parts = urlsplit(given.url)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ValueError(f"{given.url!r} is not a WebSocket URL, such as ws://127.0.0.1:8000/ws/a")
    send: tuple[str, Any] | None = None
    if given.send:
        kind, text = given.send
        try:
            send = (kind, json.loads(text))
        except ValueError as error:
            raise ValueError(f"the payload of {kind} is not valid JSON: {error}") from None
    return Target(
        url=parts._replace(scheme=SCHEMES[parts.scheme]).geturl(),
        headers={"Authorization": f"Bearer {given.token}"} if given.token else {},
        timeout_seconds=given.timeout,
        max_message_bytes=given.max_message_bytes,
        send=send,
        is_any_origin_allowed=given.any_origin,
        is_quick=given.quick,
    )


async def run_checks(target: Target, report: Callable[[str], object]) -> int:
    """Run all checks one after the other; return the number of failures.

    Raises:
        OSError, websockets.exceptions.WebSocketException: The server cannot be reached.
        ValueError: The server closes each connection at once.
    """
    # Without this, each check would report the same.
    async with open_peer(target) as peer:
        with contextlib.suppress(Failed):
            await peer.send({"type": "clientPing", "payload": {}})
            async with peer.within("any message"):
                await peer.receive("any message")
        if (code := peer.connection.close_code) is not None:
            reason = peer.connection.close_reason
            raise ValueError(f"the server closes with {code} {reason}: does it need a --token?")
    failures = 0
    for sentence, check in CHECKS.items():
        try:
            await check(target)
        except Skipped as skipped:
            report(f"skip  {sentence}: {skipped}")
        except Failed as failed:
            failures += 1
            report(f"FAIL  {sentence}: {failed}")
        except CONNECT_ERRORS as error:
            failures += 1
            report(f"FAIL  {sentence}: {type(error).__name__}: {error}")
        else:
            report(f"ok    {sentence}")
    return failures


def run(given: argparse.Namespace) -> int:
    """Run the command; return 1 after a failure, and 2 where nothing could be checked."""
    try:
        target = target_of(given)
        failures = asyncio.run(run_checks(target, lambda line: print(line, flush=True)))
    except CONNECT_ERRORS as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    print(f"{failures} of {len(CHECKS)} checks failed" if failures else "the server conforms")
    return 1 if failures else 0
