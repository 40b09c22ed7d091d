"""Answers to requests of the server: results without a form in JSON, the bound of those that run."""

import asyncio
import json
import logging
from typing import Any

import pytest

from falcon_pachinko.client.answers import MAX_RUNNING, Answers, error_reply
from falcon_pachinko.client.envelope import MessageTypes
from falcon_pachinko.client.sockets import AsyncioPlatform

from .test_message_stream import make_stream


@pytest.mark.parametrize("result", [object(), {1, 2, object()}, "\ud800", float])
async def test_a_result_that_json_cannot_represent_is_an_error(
    result: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stream, simulation = make_stream()
    stream.answer("serverAsk", lambda payload: result)
    with caplog.at_level(logging.CRITICAL):
        simulation.socket.receive({"type": "serverAsk", "payload": {}, "ref": "server:1"})
        async with asyncio.timeout(5):
            await stream._platform.aclose()
    [reply] = [json.loads(text) for text in simulation.socket.sent]
    assert (reply["type"], reply["ref"], reply["payload"]["code"]) == (
        "clientReply",
        "server:1",
        "failed",
    )
    assert reply["payload"]["error"]


async def test_the_number_of_running_answers_has_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    platform, replies, release = AsyncioPlatform(1_000), list[Any](), asyncio.Event()
    answers = Answers(platform, MessageTypes())

    async def wait(payload: Any) -> str:
        await release.wait()
        return "done"

    answers.set("serverAsk", wait)
    for _ in range(MAX_RUNNING + 1):
        answers.receive({"type": "serverAsk", "payload": {}}, replies.append)
    assert [reply["code"] for reply in replies] == ["failed"]
    assert "did not answer serverAsk: 100 answers are running" in caplog.text
    answers.receive({"type": "serverOther", "payload": {}}, replies.append)
    assert replies.pop()["code"] == "unsupported"
    release.set()
    async with asyncio.timeout(5):
        await platform.aclose()
    assert replies[1:] == [{"result": "done"}] * MAX_RUNNING
    await asyncio.sleep(0)
    assert answers.running == set()
    answers.set("serverAsk", None)
    answers.receive({"type": "serverAsk", "payload": {}}, replies.append)
    assert replies[-1]["code"] == "unsupported"


def test_an_error_has_a_bound_and_is_valid_json() -> None:
    assert error_reply("failed", "x" * 2_000)["error"] == "x" * 1_000
    assert error_reply("failed", "\ud800")["error"] == "\\ud800"
