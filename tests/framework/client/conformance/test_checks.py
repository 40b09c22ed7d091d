"""Each fault of a server fails the check that is for it; a server without one passes all."""

import asyncio
from typing import Any

import pytest

from falcon_pachinko.client.conformance.checks import CHECKS
from falcon_pachinko.client.conformance.command import run_checks
from falcon_pachinko.client.conformance.peer import Failed, Skipped, Target
from falcon_pachinko.testing import serve
from falcon_pachinko.uvicorn import PushProtocol

from ..chat import make_app
from .raw_server import FAULTS, raw_server

BOUND_SECONDS = 60.0
SEND = ("clientSay", {"text": "Grüße 🎉"})


def target(url: str, timeout_seconds: float = 5.0) -> Target:
    return Target(url, send=SEND, timeout_seconds=timeout_seconds)


async def test_a_server_of_this_framework_conforms() -> None:
    options: dict[str, Any] = {
        "ws": PushProtocol,
        "ws_max_size": 65_536,
        "ws_per_message_deflate": False,
    }
    lines: list[str] = []
    async with serve(make_app(), **options) as server, asyncio.timeout(BOUND_SECONDS):
        failures = await run_checks(target(server.ws_url("/rooms/general")), lines.append)
    assert (failures, [line for line in lines if not line.startswith("ok ")]) == (0, [])
    assert len(lines) == len(CHECKS)


async def test_another_server_that_follows_the_protocol_conforms() -> None:
    lines: list[str] = []
    async with raw_server() as url, asyncio.timeout(BOUND_SECONDS):
        failures = await run_checks(target(url), lines.append)
    assert (failures, [line for line in lines if not line.startswith("ok ")]) == (0, [])


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_fails_the_check_that_is_for_it(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "falcon_pachinko.client.conformance.checks"
    monkeypatch.setattr(f"{module}.HEARTBEAT_MARGIN_SECONDS", 0.3)
    [sentence] = [each for each in CHECKS if each.startswith(FAULTS[fault])]
    async with raw_server(fault) as url, asyncio.timeout(BOUND_SECONDS):
        with pytest.raises(Failed):
            await CHECKS[sentence](target(url, timeout_seconds=0.5))


def test_each_check_has_a_fault_that_fails_it() -> None:
    assert len(FAULTS) >= 10
    for sentence in CHECKS:
        assert any(sentence.startswith(beginning) for beginning in FAULTS.values()), sentence


async def test_what_does_not_apply_is_skipped() -> None:
    async with raw_server() as url:
        quick = Target(url, is_quick=True, is_any_origin_allowed=True)
        skipped = set()
        for sentence, check in CHECKS.items():
            try:
                await check(quick)
            except Skipped:
                skipped.add(sentence.split()[0])
    assert skipped == {"a", "an", "messages"}
