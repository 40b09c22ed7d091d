"""The script: names in Redis, encodings, and operations that the contract does not show."""

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko.backends.redis.script import (
    ENTRY_OVERHEAD_BYTES,
    NODES,
    ROOM_TTL_MS,
    STREAM_OVERHEAD_BYTES,
    hash_tag,
    raw,
    room_of,
)
from falcon_pachinko.backends.redis.url import make_client

from ...support.redis_servers import PROGRAMS, RedisServer, find_program, running_redis


@pytest.fixture(params=PROGRAMS)
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    if find_program(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    with running_redis(request.param) as server:
        yield server


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
        now_ms = round(client.time()[0] * 1000 + 1000)
        meta = client.hgetall("script:{room}:m")
        size = ENTRY_OVERHEAD_BYTES + len("\nin")
        total = size + ENTRY_OVERHEAD_BYTES + len("\nhello")
        assert meta.pop("x") <= str(now_ms + 75_000)
        assert meta == {
            "e": "epoch",
            "o": "2",
            "n": "10",
            "a": "60000",
            "f:worker": "7",
            "r": "1000",
            "b": str(total),
            "c": "0",
            "q": "1000",
        }
        stream = client.xrange("script:{room}:s")
        assert [(name, fields["d"], fields["b"]) for name, fields in stream] == [
            ("1-1", "\nin", str(size)),
            ("2-1", "\nhello", str(total)),
        ]
        # NOTE: earlier versions read the fields by their places.
        assert [list(fields)[:2] for _, fields in stream] == [["t", "d"]] * 2
        # NOTE: the recorded size includes what may be published before the next measurement.
        assert client.zscore("script:{%nodes}:h", "{room}") == 1000 + STREAM_OVERHEAD_BYTES
        assert client.get("script:{%nodes}:hb") == str(1000 + STREAM_OVERHEAD_BYTES)
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


async def stored_sizes(server: RedisServer) -> dict[str, int]:
    """Return the size of each stored history, and check the fields that count it and the index."""
    sizes = {}
    with server.connect() as client:
        index = dict(client.zrange("script:{%nodes}:h", 0, -1, withscores=True))
        assert int(client.get("script:{%nodes}:hb") or 0) == sum(index.values())
        assert set(client.zrange("script:{%nodes}:hx", 0, -1)) == set(index)
        for key in client.scan_iter("script:*:s"):
            tag = key.removeprefix("script:").removesuffix(":s")
            entries = client.xrange(key)
            size = sum(len(fields["d"]) + ENTRY_OVERHEAD_BYTES for _, fields in entries)
            meta = client.hgetall(f"script:{tag}:m")
            first = entries[0][1]
            before = int(first["b"]) - len(first["d"]) - ENTRY_OVERHEAD_BYTES
            assert int(meta["b"]) - before == size
            offsets = [int(name.partition("-")[0]) for name, _ in entries]
            assert offsets == list(range(offsets[0], int(meta["o"]) + 1))
            assert size + STREAM_OVERHEAD_BYTES <= index[tag]
            sizes[tag] = size
        assert set(sizes) == set(index)
    return sizes


@pytest.mark.redis
@pytest.mark.parametrize("seed", range(3))
async def test_the_bytes_of_all_histories_stay_within_their_bounds(
    redis_server: RedisServer, seed: int
) -> None:
    chosen = random.Random(seed)
    limits = {"{a}": 2_000, "{b}": 20_000, "{c}": 200_000, "{d}": 1_000_000}
    client = make_client(redis_server.url, "script", 5.0, 300_000)
    try:
        for tag, limit in limits.items():
            sync = ("sync_room", tag, "epoch", 50, 60_000, None, None, False, limit)
            await client.execute([sync])
        largest_all = 0
        for _ in range(60):
            batch = []
            for _ in range(chosen.randint(1, 8)):
                data = b"\n" + b"x" * chosen.choice([1, 100, 3_000, chosen.randint(0, 40_000)])
                batch.append(("publish", chosen.choice(list(limits)), raw(data), False, None, None))
            assert all(result > 0 for result in await client.execute(batch))
            sizes = await stored_sizes(redis_server)
            for tag, size in sizes.items():
                assert size <= limits[tag]
            everything = sum(sizes.values()) + len(sizes) * STREAM_OVERHEAD_BYTES
            assert everything <= 300_000
            largest_all = max(largest_all, everything)
        assert largest_all > 150_000
    finally:
        await client.aclose()


@pytest.mark.redis
async def test_the_messages_of_the_largest_history_are_dropped_first(
    redis_server: RedisServer,
) -> None:
    client = make_client(redis_server.url, "script", 5.0, 100_000)
    try:
        for tag in ("{small}", "{large}", "{new}"):
            await client.execute(
                [("sync_room", tag, "epoch", 100, 60_000, None, None, False, 1_000_000)]
            )
        for tag, count in (("{small}", 10), ("{large}", 60), ("{new}", 20)):
            publish = ("publish", tag, raw(b"\n" + b"x" * 999), False, None, None)
            for _ in range(count):
                await client.execute([publish])
        sizes = await stored_sizes(redis_server)
        one = 1_000 + ENTRY_OVERHEAD_BYTES
        assert (sizes["{small}"], sizes["{new}"]) == (10 * one, 20 * one)
        assert 20 * one < sizes["{large}"] < 60 * one
    finally:
        await client.aclose()


@pytest.mark.redis
async def test_expired_histories_are_forgotten(redis_server: RedisServer) -> None:
    publish = [
        ("publish", f"{{room{number}}}", raw(b"\n1"), False, None, None) for number in range(600)
    ]
    subscribe = [
        ("sync_room", operation[1], "epoch", 10, 60_000, None, None, False, 1_000)
        for operation in publish
    ]
    await execute(redis_server, *subscribe)
    await execute(redis_server, *publish)
    assert len(await stored_sizes(redis_server)) == 600
    with redis_server.connect() as client:
        for number in range(599):
            client.delete(f"script:{{room{number}}}:s")
        for tag in client.zrange("script:{%nodes}:hx", 0, -1):
            client.zadd("script:{%nodes}:hx", {tag: 0})
    assert await execute(redis_server, ("trim_histories", NODES)) == [500]
    assert await execute(redis_server, ("trim_histories", NODES)) == [100]
    assert await execute(redis_server, ("trim_histories", NODES)) == [0]
    assert list(await stored_sizes(redis_server)) == ["{room599}"]
    for name in ("h", "hb", "hx"):
        assert redis_server.command("PTTL", f"script:{{%nodes}}:{name}") > ROOM_TTL_MS
    # NOTE: a room whose stream has expired is measured again at its next message.
    assert await execute(redis_server, publish[0]) == [2]
    assert len(await stored_sizes(redis_server)) == 2
    redis_server.command("DEL", "script:{room0}:s", "script:{room599}:s")
    redis_server.command("ZADD", "script:{%nodes}:hx", 0, "{room0}", 0, "{room599}")
    assert await execute(redis_server, ("trim_histories", NODES)) == [2]
    assert redis_server.keys("script:{%nodes}:*") == []


@pytest.mark.redis
async def test_a_stream_lives_for_the_age_of_the_history_after_each_message(
    redis_server: RedisServer,
) -> None:
    sync = ("sync_room", "{room}", "epoch", 10, 100_000, None, None, False, 1_000)
    publish = ("publish", "{room}", raw(b"\n1"), False, None, None)
    await execute(redis_server, sync, publish)
    assert redis_server.command("PTTL", "script:{room}:s") > 120_000
    redis_server.command("PEXPIRE", "script:{room}:s", 101_000)
    await execute(redis_server, publish)
    assert 100_000 < redis_server.command("PTTL", "script:{room}:s") <= 101_000
    redis_server.command("HSET", "script:{room}:m", "x", 1)
    await execute(redis_server, publish)
    assert redis_server.command("PTTL", "script:{room}:s") > 120_000
    await execute(redis_server, ("release_room", "{room}"))
    assert redis_server.command("PTTL", "script:{room}:s") <= 100_000
    await execute(redis_server, publish)
    assert redis_server.command("PTTL", "script:{room}:s") > 120_000


def publish_operation(tag: str, size_bytes: int) -> tuple[Any, ...]:
    """Return an operation that publishes a message of a size."""
    return ("publish", tag, raw(b"\n" + b"x" * (size_bytes - 1)), False, None, None)


@pytest.mark.redis
@pytest.mark.parametrize("cause", ["large message", "other rooms", "wrong type", "maxmemory"])
async def test_a_stream_that_replaces_a_dropped_one_expires_too(
    redis_server: RedisServer, cause: str
) -> None:
    stream = "script:{room}:s"
    client = make_client(redis_server.url, "script", 5.0, 20_000)
    try:
        await client.execute(
            [
                ("sync_room", "{room}", "epoch", 10, 300_000, None, None, False, 9_000),
                ("sync_room", "{other}", "epoch", 10, 300_000, None, None, False, 1_000_000),
            ]
        )
        await client.execute([publish_operation("{room}", 8_000)])
        assert redis_server.command("PTTL", stream) > 300_000
        if cause == "large message":
            await client.execute([publish_operation("{room}", 10_000)])
        elif cause == "other rooms":
            await client.execute([publish_operation("{other}", 7_000)])
        elif cause == "wrong type":
            redis_server.command("DEL", stream)
            redis_server.command("SET", stream, "a text")
            sync = ("sync_room", "{room}", "epoch", 10, 300_000, "epoch", 0, False, 9_000)
            await client.execute([sync])
        else:
            redis_server.command("CONFIG", "SET", "maxmemory", 1)
            await client.execute([publish_operation("{room}", 100)])
            redis_server.command("CONFIG", "SET", "maxmemory", 0)
        assert redis_server.command("EXISTS", stream) == 0
        await client.execute([publish_operation("{room}", 100)])
        assert redis_server.command("PTTL", stream) > 300_000
        await stored_sizes(redis_server)
    finally:
        await client.aclose()


@pytest.mark.redis
async def test_a_stream_without_an_expiry_gets_one(redis_server: RedisServer) -> None:
    ages = {"{long}": 300_000, "{brief}": 1_000, "{broken}": 300_000}
    for tag, age in ages.items():
        sync = ("sync_room", tag, "epoch", 10, age, None, None, False, 1_000)
        await execute(redis_server, sync, publish_operation(tag, 100))
        redis_server.command("PERSIST", f"script:{tag}:s")
        redis_server.command("ZADD", "script:{%nodes}:hx", 0, tag)
    redis_server.command("DEL", "script:{broken}:m")
    redis_server.command("SET", "script:{broken}:m", "a text")
    assert await execute(redis_server, ("trim_histories", NODES)) == [3]
    lives = {tag: redis_server.command("PTTL", f"script:{tag}:s") for tag in ages}
    assert 200_000 < lives["{long}"] <= 300_000
    assert 50_000 < lives["{brief}"] <= 60_000
    assert 50_000 < lives["{broken}"] <= 60_000
    assert await execute(redis_server, ("trim_histories", NODES)) == [0]
    # NOTE: the next message gives it the whole life again.
    await execute(redis_server, publish_operation("{long}", 100))
    assert redis_server.command("PTTL", "script:{long}:s") > 300_000


@pytest.mark.redis
@pytest.mark.parametrize("lost", ["h", "hx", "hb", "h hx", "h hb", "hx hb"])
@pytest.mark.parametrize("then", ["nothing", "message", "message in new room", "end of room"])
async def test_an_index_of_histories_that_is_lost_in_part_is_built_again(
    redis_server: RedisServer, lost: str, then: str
) -> None:
    tags = ["{a}", "{b}", "{new}"]
    for tag in tags:
        await execute(
            redis_server, ("sync_room", tag, "epoch", 100, 60_000, None, None, False, 50_000)
        )
    for tag in tags[:2]:
        await execute(redis_server, publish_operation(tag, 10_000))
    await stored_sizes(redis_server)
    for name in lost.split():
        redis_server.command("DEL", f"script:{{%nodes}}:{name}")
    if then == "message":
        await execute(redis_server, publish_operation("{a}", 30_000))
    elif then == "message in new room":
        await execute(redis_server, publish_operation("{new}", 100))
    elif then == "end of room":
        redis_server.command("DEL", "script:{a}:m")
        await execute(redis_server, ("release_room", "{a}"))
        tags.remove("{a}")
    await execute(redis_server, ("trim_histories", NODES))
    # NOTE: a room returns to the index when it is measured next.
    for tag in tags:
        await execute(redis_server, publish_operation(tag, 45_000))
    assert set(await stored_sizes(redis_server)) == set(tags)


@pytest.mark.redis
@pytest.mark.parametrize("name", ["h", "hx", "hb"])
async def test_an_index_with_a_key_of_a_wrong_type_is_built_again(
    redis_server: RedisServer, name: str
) -> None:
    sync = ("sync_room", "{room}", "epoch", 100, 60_000, None, None, False, 50_000)
    await execute(redis_server, sync, publish_operation("{room}", 10_000))
    redis_server.command("DEL", f"script:{{%nodes}}:{name}")
    redis_server.command("RPUSH", f"script:{{%nodes}}:{name}", "an element")
    assert await execute(redis_server, ("trim_histories", NODES)) == [0]
    assert redis_server.keys("script:{%nodes}:*") == []
    await execute(redis_server, publish_operation("{room}", 30_000))
    assert set(await stored_sizes(redis_server)) == {"{room}"}


@pytest.mark.redis
async def test_a_lost_list_of_sizes_does_not_cost_other_histories(
    redis_server: RedisServer,
) -> None:
    client = make_client(redis_server.url, "script", 5.0, 100_000)
    try:
        tags = [f"{{{number}}}" for number in range(8)]
        for tag in tags:
            sync = ("sync_room", tag, "epoch", 100, 60_000, None, None, False, 50_000)
            await client.execute([sync, publish_operation(tag, 2_000)])
        redis_server.command("DEL", "script:{%nodes}:h")
        for tag in tags:
            await client.execute([publish_operation(tag, 3_000)])
        await client.execute([("trim_histories", NODES)])
        for tag in tags:
            assert redis_server.command("XLEN", f"script:{tag}:s") == 2
    finally:
        await client.aclose()


@pytest.mark.redis
async def test_the_stream_of_an_earlier_version_is_bounded_too(redis_server: RedisServer) -> None:
    sync = ("sync_room", "{room}", "epoch", 100, 60_000, None, None, False, 10_000)
    await execute(redis_server, sync)
    with redis_server.connect() as client:
        for offset in range(1, 21):
            client.hincrby("script:{room}:m", "o", 1)
            client.xadd("script:{room}:s", {"t": "1", "d": "x" * 1000}, id=f"{offset}-1")
    publish = ("publish", "{room}", raw(b"\n" + b"x" * 999), False, None, None)
    for _ in range(12):
        await execute(redis_server, publish)
    sizes = await stored_sizes(redis_server)
    assert 8_000 < sizes["{room}"] <= 10_000
