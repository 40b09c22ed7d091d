"""The operations on requests that are handled once."""

from __future__ import annotations

from typing import Any

from ...once import ClaimState, OnceRun
from ..script import once_tag, raw
from .replies import Operation, decode_nothing, decode_text


def claim_request(
    run: OnceRun, *, ended: str = "", again: bool
) -> Operation[tuple[ClaimState, bytes]]:
    """Claim a request; returns its state with the reply, or with the token of the execution that has it.

    Args:
        run: The execution.
        ended: The token of an execution that has ended without an outcome.
        again: Whether the request may be handled again after that, or after an interruption.
    """

    def decode(reply: Any) -> tuple[ClaimState, bytes]:
        state, detail = reply
        return ClaimState(decode_text(state)), detail

    return Operation(("claim_request", *place_of(run), ended, again), decode)


def finish_request(run: OnceRun, reply: bytes) -> Operation[None]:
    """Store the reply of an execution."""
    return Operation(("finish_request", *place_of(run), raw(reply)), decode_nothing)


def release_request(run: OnceRun, *, again: bool) -> Operation[None]:
    """End an execution without a reply; ``again`` if the request may be handled again."""
    return Operation(("release_request", *place_of(run), again), decode_nothing)


def place_of(run: OnceRun) -> tuple[str, str, str, str, int]:
    """Return the hash tag, the client, the reference, the token and the time in milliseconds."""
    key = run.key
    return once_tag(key.user, key.client), key.client, key.ref, run.token, round(run.seconds * 1000)
