"""The envelope of a received message, and waits of a raw connection."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

import pytest

from falcon_pachinko.client.conformance.peer import (
    Failed,
    Peer,
    Target,
    check_envelope,
    open_peer,
    preview,
)

from .raw_server import raw_server


@pytest.mark.parametrize(
    "data",
    [
        b'{"type": "a", "payload": {}}',
        "{",
        "[]",
        '{"payload": {}}',
        '{"type": 1, "payload": {}}',
        '{"type": "a"}',
        '{"type": "a", "payload": []}',
        '{"type": "a", "payload": {}, "ref": 1}',
        '{"type": "a", "payload": {}, "ref": ""}',
        '{"type": "a", "payload": {}, "id": 1}',
        '{"type": "a", "payload": {}, "id": "1"}',
        '{"type": "a", "payload": {}, "id": "e:x"}',
        '{"type": "a", "payload": {}, "at": 1.5}',
    ],
)
def test_a_message_of_another_form_is_refused(data: str | bytes) -> None:
    with pytest.raises(Failed):
        check_envelope(data)


def test_a_message_of_the_protocol_is_decoded() -> None:
    message = check_envelope(
        '{"type": "a", "payload": {}, "ref": "1", "id": "e:1", "at": 1, "x": 1}'
    )
    assert message["type"] == "a"


async def test_every_wait_has_a_bound() -> None:
    waits: list[Callable[[Peer], Awaitable[object]]] = [
        lambda peer: peer.reply_to("never"),
        lambda peer: peer.receive_type("serverNever"),
        lambda peer: peer.wait_closed("never"),
    ]
    for wait in waits:
        async with (
            raw_server("no heartbeat") as url,
            open_peer(Target(url)) as peer,
            asyncio.timeout(5),
        ):
            # Only now: the handshake may take longer on a loaded machine.
            peer.target = dataclasses.replace(peer.target, timeout_seconds=0.2)
            with pytest.raises(Failed):
                await wait(peer)


async def test_the_query_is_added_to_that_of_the_url() -> None:
    async with (
        raw_server() as url,
        open_peer(Target(f"{url}?a=1"), {"since": ["e:1", "f:2"]}) as peer,
    ):
        assert peer.connection.request is not None
        assert peer.connection.request.path == "/room?a=1&since=e%3A1&since=f%3A2"


def test_a_preview_is_short() -> None:
    assert preview({"a": b"b"}) == '{"a": "b\'b\'"}'
    assert len(preview("x" * 1_000)) < 150
