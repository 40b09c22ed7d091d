"""The script: names in Redis, encodings, and operations that the contract does not show."""

import asyncio
import random
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko.backends.lease import Lease
from falcon_pachinko.backends.redis import operations
from falcon_pachinko.backends.redis.client import RedisClient
from falcon_pachinko.backends.redis.fetched import Fetched
from falcon_pachinko.backends.redis.operations import Departure, Operation, Terms
from falcon_pachinko.backends.redis.script import (
    CONSTANTS,
    ENTRY_OVERHEAD_BYTES,
    LUA,
    NODES,
    PROTOCOL,
    ROOM_TTL_MS,
    STREAM_OVERHEAD_BYTES,
    hash_tag,
    raw,
    room_of,
    user_tag,
)
from falcon_pachinko.backends.redis.url import make_client
from falcon_pachinko.history import History, Position

from ...support.backends import announced, text
from ...support.redis_servers import PROGRAMS, RedisServer, find_program, running_redis

# Names in capitals of Lua itself.
GLOBALS = {"KEYS", "ARGV"}


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


def test_the_script_has_values_in_the_place_of_constants() -> None:
    code = re.sub(r"--[^\n]*|'[^'\n]*'", "", LUA)
    assert set(re.findall(r"\b[A-Z][A-Z_]+\b", code)) <= GLOBALS
    assert not [name for name in CONSTANTS if re.search(rf"\b{name}\b", LUA)]


@given(st.binary(max_size=300))
def test_raw_bytes_are_encoded_as_text(data: bytes) -> None:
    encoded = msgspec.msgpack.encode([raw(data)])
    assert encoded == b"\x91\xdb" + len(data).to_bytes(4, "big") + data
    assert raw(None) is None


TERMS = Terms(node="node", lease=30_000, period=10_000, grace=5_000, recovery=5_000)


def sync_room(
    tag: str = "{room}",
    room_bytes: int = 1_000,
    *,
    messages: int = 10,
    seconds: float = 60.0,
    known: Position | None = None,
) -> Operation[Any]:
    """Return the operation of a node that has subscribed to a room."""
    history = History(messages=messages, seconds=seconds, room_bytes=room_bytes)
    return operations.sync_room(tag, TERMS, history, known, everything=False)


def publish(tag: str = "{room}", size_bytes: int = 2, lease: Lease | None = None) -> Operation[Any]:
    """Return an operation that publishes a message of a size."""
    data = b"\n" + b"x" * (size_bytes - 1)
    return operations.publish(tag, data, ephemeral=False, lease=lease)


async def execute_with(client: RedisClient, *batch: Operation[Any]) -> list[Any]:
    """Execute operations in one call of the script; a failed one has an exception as result."""
    replies = await client.execute([operation.request for operation in batch])
    return [
        reply if isinstance(reply, Exception) else operation.decode(reply)
        for operation, reply in zip(batch, replies, strict=True)
    ]


async def execute(server: RedisServer, *batch: Operation[Any]) -> list[Any]:
    """Execute operations in one call of the script, with a client of its own."""
    client = make_client(server.url, "script", 5.0)
    try:
        return await execute_with(client, *batch)
    finally:
        await client.aclose()


async def count_trimmed(server: RedisServer) -> int:
    """Trim the histories; return the number of those that were due."""
    trim = Operation(operations.trim_histories().request, int)
    (due,) = await execute(server, trim)
    assert isinstance(due, int)
    return due


@pytest.mark.redis
async def test_a_batch_returns_one_result_per_operation_and_isolates_errors(
    redis_server: RedisServer,
) -> None:
    unknown = Operation(("unknown", "{room}"), int)
    results = await execute(redis_server, sync_room(), publish(), unknown, publish())
    fetched = Fetched.decode(results[0], 0.0)
    epoch = fetched.until.epoch
    assert (fetched.until.offset, fetched.publications) == (0, [])
    assert (results[1], results[3]) == (Position(epoch, 1), Position(epoch, 2))
    assert isinstance(results[2], Exception)
    # NOTE: a call that only publishes takes a shorter path through the script.
    results = await execute(redis_server, publish(), publish())
    assert results == [Position(epoch, 3), Position(epoch, 4)]
    (reply,) = await execute(redis_server, sync_room(known=Position(epoch, 2)))
    fetched = Fetched.decode(reply, 0.0)
    assert fetched.until == Position(epoch, 4)
    assert [each.position for _, each in fetched.publications] == results
    assert [each.data for _, each in fetched.publications] == [b"x"] * 2


@pytest.mark.redis
async def test_the_stored_names_are_those_of_the_protocol(redis_server: RedisServer) -> None:
    await execute(
        redis_server,
        operations.beat(TERMS),
        operations.add_rooms("node", ["room"]),
        sync_room(),
        operations.enter("{room}", TERMS, announced("c1", "alice"), claims=True),
        publish(size_bytes=6, lease=Lease("worker", 7, 0.0)),
        operations.acquire("worker", "node", 30_000, is_unheld=True, schedules=[]),
    )
    assert redis_server.keys() == [
        "script:{%nodes}:f",
        "script:{%nodes}:h",
        "script:{%nodes}:hb",
        "script:{%nodes}:hx",
        "script:{%nodes}:l:worker",
        "script:{%nodes}:n",
        "script:{%nodes}:r:node",
        "script:{room}:k",
        "script:{room}:m",
        "script:{room}:n",
        "script:{room}:o",
        "script:{room}:p",
        "script:{room}:s",
    ]
    with redis_server.connect() as client:
        now_ms = round(client.time()[0] * 1000 + 1000)
        meta = client.hgetall("script:{room}:m")
        joined = text("alice joined").encode()
        size = ENTRY_OVERHEAD_BYTES + len(joined)
        total = size + ENTRY_OVERHEAD_BYTES + 6
        assert meta.pop("x") <= str(now_ms + 75_000)
        assert re.fullmatch("[0-9a-f]{16}", meta.pop("e"))
        replication_id = client.info("replication")["master_replid"][:8]
        assert meta.pop("u") == replication_id
        assert client.hget("script:{room}:p", "u") == replication_id
        assert meta.pop("l") <= meta.pop("g") <= str(now_ms)
        assert meta == {
            "o": "2",
            "n": "10",
            "a": "60000",
            "f:worker": "7",
            "r": "1000",
            "b": str(total),
            "c": "0",
            "q": "1000",
            "p": "1",
        }
        stream = client.xrange("script:{room}:s")
        assert [(name, fields["d"], fields["b"]) for name, fields in stream] == [
            ("1-1", joined.decode(), str(size)),
            ("2-1", "\nxxxxx", str(total)),
        ]
        # NOTE: the script reads the fields by their places.
        assert [list(fields) for _, fields in stream] == [["t", "d", "b"]] * 2
        # NOTE: the recorded size includes what may be published before the next measurement.
        assert client.zscore("script:{%nodes}:h", "{room}") == 1000 + STREAM_OVERHEAD_BYTES
        assert client.get("script:{%nodes}:hb") == str(1000 + STREAM_OVERHEAD_BYTES)
        assert client.zrange("script:{%nodes}:n", 0, -1) == [f"{PROTOCOL}:node"]


@pytest.mark.redis
async def test_a_presence_that_has_ended_is_not_lost_after_the_clock_was_set_back(
    redis_server: RedisServer,
) -> None:
    await execute(redis_server, sync_room())
    with redis_server.connect() as client:
        later_ms = str(client.time()[0] * 1000 + 3_600_000)
        client.hset("script:{room}:m", mapping={"l": later_ms, "g": later_ms})
    alice = announced("c1", "alice")
    enter = operations.enter("{room}", TERMS, alice, claims=True)
    leave = operations.leave("{room}", TERMS, alice, grace=0, is_last=True)
    entered, left, again = await execute(redis_server, enter, leave, enter)
    assert left is Departure.LEFT
    assert entered.generation < again.generation
    lost = f"{int(later_ms) + 3_600_000}-0"
    for known, is_lost in ((entered.generation, False), (lost, True)):
        claim = operations.claim("{room}", TERMS, known=known)
        (claimed,) = await execute(redis_server, claim)
        assert claimed.is_lost == is_lost


async def test_the_presence_of_a_room_is_stored_with_its_lease(redis_server: RedisServer) -> None:
    alice = announced("c1", "alice")
    enter = operations.enter("{room}", TERMS, alice, claims=True)
    (entered,) = await execute(redis_server, enter)
    with redis_server.connect() as client:
        now_ms = client.time()[0] * 1000
        leases = client.zrange("script:{room}:n", 0, -1, withscores=True)
        assert [name for name, _ in leases] == ["node"]
        assert now_ms < leases[0][1] <= now_ms + 31_000
        assert client.zrange("script:{room}:k", 0, -1) == ["", "node\0ualice"]
        ordered = client.zrange("script:{room}:o", 0, -1, withscores=True)
        assert ordered == [("", 0.0), ("ualice", float(entered.place))]
    with redis_server.connect() as client:
        client.connection_pool.connection_kwargs["decode_responses"] = False
        stored = client.hgetall("script:{room}:p")
    entry = msgspec.msgpack.decode(stored.pop(b"ualice"))
    assert re.fullmatch(b"[0-9a-f]{8}", stored.pop(b"u"))
    assert stored == {
        b"g": entered.generation.encode(),
        b"w": b"0",
        b"dnode": str(alice.hash).encode(),
    }
    assert entry.keys() == {"c", "s", "l"}
    assert entry["c"] == {"c1": "node"}
    assert entry["s"] == entered.place
    assert entry["l"] == text("alice left").encode().decode()


@pytest.mark.redis
async def test_after_its_deadline_a_call_does_nothing(redis_server: RedisServer) -> None:
    client = make_client(redis_server.url, "script", 5.0)
    try:
        await execute_with(client, operations.live_nodes())
        late = asyncio.get_running_loop().time() - 1
        operation = operations.beat(TERMS).request
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
            await execute_with(client, sync_room(tag, limit, messages=50))
        largest_all = 0
        for _ in range(60):
            batch = []
            for _ in range(chosen.randint(1, 8)):
                size_bytes = 1 + chosen.choice([1, 100, 3_000, chosen.randint(0, 40_000)])
                batch.append(publish(chosen.choice(list(limits)), size_bytes))
            assert all(each.offset > 0 for each in await execute_with(client, *batch))
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
            await execute_with(client, sync_room(tag, 1_000_000, messages=100))
        for tag, count in (("{small}", 10), ("{large}", 60), ("{new}", 20)):
            for _ in range(count):
                await execute_with(client, publish(tag, 1_000))
        sizes = await stored_sizes(redis_server)
        one = 1_000 + ENTRY_OVERHEAD_BYTES
        assert (sizes["{small}"], sizes["{new}"]) == (10 * one, 20 * one)
        assert 20 * one < sizes["{large}"] < 60 * one
    finally:
        await client.aclose()


@pytest.mark.redis
async def test_expired_histories_are_forgotten(redis_server: RedisServer) -> None:
    tags = [f"{{room{number}}}" for number in range(600)]
    await execute(redis_server, *map(sync_room, tags))
    await execute(redis_server, *map(publish, tags))
    assert len(await stored_sizes(redis_server)) == 600
    with redis_server.connect() as client:
        for number in range(599):
            client.delete(f"script:{{room{number}}}:s")
        for tag in client.zrange("script:{%nodes}:hx", 0, -1):
            client.zadd("script:{%nodes}:hx", {tag: 0})
    assert await count_trimmed(redis_server) == 500
    assert await count_trimmed(redis_server) == 100
    assert await count_trimmed(redis_server) == 0
    assert list(await stored_sizes(redis_server)) == ["{room599}"]
    for name in ("h", "hb", "hx"):
        assert redis_server.command("PTTL", f"script:{{%nodes}}:{name}") > ROOM_TTL_MS
    # NOTE: a room whose stream has expired is measured again at its next message.
    (position,) = await execute(redis_server, publish("{room0}"))
    assert position.offset == 2
    assert len(await stored_sizes(redis_server)) == 2
    redis_server.command("DEL", "script:{room0}:s", "script:{room599}:s")
    redis_server.command("ZADD", "script:{%nodes}:hx", 0, "{room0}", 0, "{room599}")
    assert await count_trimmed(redis_server) == 2
    assert redis_server.keys("script:{%nodes}:*") == []


@pytest.mark.redis
async def test_a_stream_lives_for_the_age_of_the_history_after_each_message(
    redis_server: RedisServer,
) -> None:
    await execute(redis_server, sync_room(seconds=100.0), publish())
    assert redis_server.command("PTTL", "script:{room}:s") > 120_000
    redis_server.command("PEXPIRE", "script:{room}:s", 101_000)
    await execute(redis_server, publish())
    assert 100_000 < redis_server.command("PTTL", "script:{room}:s") <= 101_000
    redis_server.command("HSET", "script:{room}:m", "x", 1)
    await execute(redis_server, publish())
    assert redis_server.command("PTTL", "script:{room}:s") > 120_000
    await execute(redis_server, operations.release_room("{room}"))
    assert redis_server.command("PTTL", "script:{room}:s") <= 100_000
    await execute(redis_server, publish())
    assert redis_server.command("PTTL", "script:{room}:s") > 120_000


@pytest.mark.redis
@pytest.mark.parametrize("cause", ["large message", "other rooms", "wrong type", "maxmemory"])
async def test_a_stream_that_replaces_a_dropped_one_expires_too(
    redis_server: RedisServer, cause: str
) -> None:
    stream = "script:{room}:s"
    client = make_client(redis_server.url, "script", 5.0, 20_000)
    try:
        sync = sync_room("{room}", 9_000, seconds=300.0)
        other = sync_room("{other}", 1_000_000, seconds=300.0)
        reply, _ = await execute_with(client, sync, other)
        await execute_with(client, publish("{room}", 8_000))
        assert redis_server.command("PTTL", stream) > 300_000
        if cause == "large message":
            await execute_with(client, publish("{room}", 10_000))
        elif cause == "other rooms":
            await execute_with(client, publish("{other}", 7_000))
        elif cause == "wrong type":
            redis_server.command("DEL", stream)
            redis_server.command("SET", stream, "a text")
            start = Fetched.decode(reply, 0.0).until
            sync = sync_room("{room}", 9_000, seconds=300.0, known=start)
            await execute_with(client, sync)
        else:
            redis_server.command("CONFIG", "SET", "maxmemory", 1)
            await execute_with(client, publish("{room}", 100))
            redis_server.command("CONFIG", "SET", "maxmemory", 0)
        assert redis_server.command("EXISTS", stream) == 0
        await execute_with(client, publish("{room}", 100))
        assert redis_server.command("PTTL", stream) > 300_000
        await stored_sizes(redis_server)
    finally:
        await client.aclose()


@pytest.mark.redis
async def test_a_stream_without_an_expiry_gets_one(redis_server: RedisServer) -> None:
    ages = {"{long}": 300.0, "{brief}": 1.0, "{broken}": 300.0}
    for tag, seconds in ages.items():
        await execute(redis_server, sync_room(tag, seconds=seconds), publish(tag, 100))
        redis_server.command("PERSIST", f"script:{tag}:s")
        redis_server.command("ZADD", "script:{%nodes}:hx", 0, tag)
    redis_server.command("DEL", "script:{broken}:m")
    redis_server.command("SET", "script:{broken}:m", "a text")
    assert await count_trimmed(redis_server) == 3
    lives = {tag: redis_server.command("PTTL", f"script:{tag}:s") for tag in ages}
    assert 200_000 < lives["{long}"] <= 300_000
    assert 50_000 < lives["{brief}"] <= 60_000
    assert 50_000 < lives["{broken}"] <= 60_000
    assert await count_trimmed(redis_server) == 0
    # NOTE: the next message gives it the whole life again.
    await execute(redis_server, publish("{long}", 100))
    assert redis_server.command("PTTL", "script:{long}:s") > 300_000


@pytest.mark.redis
@pytest.mark.parametrize("lost", ["h", "hx", "hb", "h hx", "h hb", "hx hb"])
@pytest.mark.parametrize("then", ["nothing", "message", "message in new room", "end of room"])
async def test_an_index_of_histories_that_is_lost_in_part_is_built_again(
    redis_server: RedisServer, lost: str, then: str
) -> None:
    tags = ["{a}", "{b}", "{new}"]
    for tag in tags:
        await execute(redis_server, sync_room(tag, 50_000, messages=100))
    for tag in tags[:2]:
        await execute(redis_server, publish(tag, 10_000))
    await stored_sizes(redis_server)
    for name in lost.split():
        redis_server.command("DEL", f"script:{{%nodes}}:{name}")
    if then == "message":
        await execute(redis_server, publish("{a}", 30_000))
    elif then == "message in new room":
        await execute(redis_server, publish("{new}", 100))
    elif then == "end of room":
        redis_server.command("DEL", "script:{a}:m")
        await execute(redis_server, operations.release_room("{a}"))
        tags.remove("{a}")
    await execute(redis_server, operations.trim_histories())
    # NOTE: a room returns to the index when it is measured next.
    for tag in tags:
        await execute(redis_server, publish(tag, 45_000))
    assert set(await stored_sizes(redis_server)) == set(tags)


@pytest.mark.redis
@pytest.mark.parametrize("name", ["h", "hx", "hb"])
async def test_an_index_with_a_key_of_a_wrong_type_is_built_again(
    redis_server: RedisServer, name: str
) -> None:
    sync = sync_room("{room}", 50_000, messages=100)
    await execute(redis_server, sync, publish("{room}", 10_000))
    redis_server.command("DEL", f"script:{{%nodes}}:{name}")
    redis_server.command("RPUSH", f"script:{{%nodes}}:{name}", "an element")
    assert await count_trimmed(redis_server) == 0
    assert redis_server.keys("script:{%nodes}:*") == []
    await execute(redis_server, publish("{room}", 30_000))
    assert set(await stored_sizes(redis_server)) == {"{room}"}


@pytest.mark.redis
async def test_a_lost_list_of_sizes_does_not_cost_other_histories(
    redis_server: RedisServer,
) -> None:
    client = make_client(redis_server.url, "script", 5.0, 100_000)
    try:
        tags = [f"{{{number}}}" for number in range(8)]
        for tag in tags:
            sync = sync_room(tag, 50_000, messages=100)
            await execute_with(client, sync, publish(tag, 2_000))
        redis_server.command("DEL", "script:{%nodes}:h")
        for tag in tags:
            await execute_with(client, publish(tag, 3_000))
        await execute_with(client, operations.trim_histories())
        for tag in tags:
            assert redis_server.command("XLEN", f"script:{tag}:s") == 2
    finally:
        await client.aclose()


@pytest.mark.redis
async def test_the_stream_of_an_earlier_version_is_bounded_too(redis_server: RedisServer) -> None:
    await execute(redis_server, sync_room("{room}", 10_000, messages=100))
    with redis_server.connect() as client:
        for offset in range(1, 21):
            client.hincrby("script:{room}:m", "o", 1)
            client.xadd("script:{room}:s", {"t": "1", "d": "x" * 1000}, id=f"{offset}-1")
    for _ in range(12):
        await execute(redis_server, publish("{room}", 1_000))
    sizes = await stored_sizes(redis_server)
    assert 8_000 < sizes["{room}"] <= 10_000


def test_no_room_has_the_keys_of_a_user() -> None:
    for room in ("%user:alice", "{%user:alice}", "%25user:alice"):
        assert hash_tag(room) != user_tag("alice")
        assert room_of(hash_tag(room)) == room
    assert user_tag("al}{%ice") == "{%user:al%7D%7B%25ice}"
