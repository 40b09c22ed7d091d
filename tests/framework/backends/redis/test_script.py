"""The script: names in Redis, encodings, and operations that the contract does not show."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko.backends.redis.script import (
    ENTRY_OVERHEAD_BYTES,
    NODES,
    STREAM_OVERHEAD_BYTES,
    hash_tag,
    raw,
    room_of,
)
from falcon_pachinko.backends.redis.url import make_client

from ...support.redis_servers import RedisServer


@given(st.text(min_size=1))
def test_a_hash_tag_is_unique_and_can_be_decoded(room: str) -> None:
    tag = hash_tag(room)
    assert room_of(tag) == room
    assert tag != NODES
    assert (tag[0], tag[-1]) == ("{", "}")
    assert not set("{}") & set(tag[1:-1])


@given(st.binary(max_size=300))
def test_raw_bytes_are_encoded_as_text(data: bytes) -> None:
    encoded = msgspec.msgpack.encode([raw(data)])
    assert encoded == b"\x91\xdb" + len(data).to_bytes(4, "big") + data
    assert raw(None) is None


async def execute(server: RedisServer, *operations: tuple[Any, ...]) -> list[Any]:
    """Execute operations in one call of the script."""
    client = make_client(server.url, "script", 5.0)
    try:
        return await client.execute(operations)
    finally:
        await client.aclose()


@pytest.mark.redis
async def test_a_batch_returns_one_result_per_operation_and_isolates_errors(
    redis_server: RedisServer,
) -> None:
    subscribe = ("sync_room", "{room}", "epoch", 0, 0, None, None, False)
    publish = ("publish", "{room}", raw(b"\n1"), False, None, None)
    results = await execute(redis_server, subscribe, publish, ("unknown", "{room}"), publish)
    assert results[0][:3] == [b"epoch", 0, 0]
    assert (results[1], results[3]) == (1, 2)
    assert isinstance(results[2], Exception)
    # NOTE: a call that only publishes takes a shorter path through the script.
    assert await execute(redis_server, publish, publish) == [3, 4]
    (reply,) = await execute(redis_server, (*subscribe[:5], "epoch", 2, False))
    assert reply[1] == 4
    assert [reply[4][index] for index in (0, 2, 3, 5)] == [b"3-1", b"\n1", b"4-1", b"\n1"]


@pytest.mark.redis
async def test_the_stored_names_are_those_of_earlier_versions(redis_server: RedisServer) -> None:
    await execute(
        redis_server,
        ("heartbeat", NODES, "node", 30_000, 10_000, True),
        ("add_rooms", NODES, "node", ["room"]),
        ("sync_room", "{room}", "epoch", 10, 60_000, None, None, False, 1_000),
        ("enter", "{room}", "ualice", "c1", "node", raw(b"\nin"), raw(b"\nout")),
        ("publish", "{room}", raw(b"\nhello"), False, "worker", 7),
        ("acquire", NODES, "worker", "node", 30_000),
    )
    assert redis_server.keys() == [
        "script:{%nodes}:b",
        "script:{%nodes}:f",
        "script:{%nodes}:h",
        "script:{%nodes}:hb",
        "script:{%nodes}:hx",
        "script:{%nodes}:l:worker",
        "script:{%nodes}:n",
        "script:{%nodes}:r:node",
        "script:{room}:m",
        "script:{room}:p",
        "script:{room}:s",
    ]
    with redis_server.connect() as client:
        meta = client.hgetall("script:{room}:m")
        size = ENTRY_OVERHEAD_BYTES + len("\nin")
        total = size + ENTRY_OVERHEAD_BYTES + len("\nhello")
        assert meta == {
            "e": "epoch",
            "o": "2",
            "n": "10",
            "a": "60000",
            "f:worker": "7",
            "r": "1000",
            "b": str(total),
            "c": "0",
        }
        stream = client.xrange("script:{room}:s")
        assert [(name, fields["d"], fields["b"]) for name, fields in stream] == [
            ("1-1", "\nin", str(size)),
            ("2-1", "\nhello", str(total)),
        ]
        # NOTE: earlier versions read the fields by their places.
        assert [list(fields)[:2] for _, fields in stream] == [["t", "d"]] * 2
        assert client.zscore("script:{%nodes}:h", "{room}") == size + STREAM_OVERHEAD_BYTES
        assert client.get("script:{%nodes}:hb") == str(size + STREAM_OVERHEAD_BYTES)
    with redis_server.connect() as client:
        client.connection_pool.connection_kwargs["decode_responses"] = False
        entry = msgspec.msgpack.decode(client.hget("script:{room}:p", "ualice"))
    assert entry.keys() == {"c", "s", "l"}
    assert (entry["c"], entry["l"]) == ({"c1": "node"}, "\nout")


@pytest.mark.redis
async def test_after_its_deadline_a_call_does_nothing(redis_server: RedisServer) -> None:
    client = make_client(redis_server.url, "script", 5.0)
    try:
        await client.execute([("live_nodes", NODES)])
        late = asyncio.get_running_loop().time() - 1
        operation = ("heartbeat", NODES, "node", 30_000, 10_000, True)
        (server,) = client.clock_offsets_ms
        deadline_ms = round(late * 1000 + client.clock_offsets_ms[server])
        results = await client.run_script(NODES, msgspec.msgpack.encode([operation]), deadline_ms)
        assert len(results) == 1
    finally:
        await client.aclose()
    assert redis_server.keys() == []
