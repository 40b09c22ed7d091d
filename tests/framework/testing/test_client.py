"""The client of the test kit: the same behaviour in-process and over sockets, and bounded waits."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from falcon_pachinko import Message
from falcon_pachinko.testing import Client, Closed, Running

from .lobby import LONG_SECONDS, SHORT_SECONDS, WAIT_SECONDS, Burst, Left, Post, Posted


async def test_two_clients_exchange_messages(chat: Running) -> None:
    async with chat.connect("/lobby/alice") as alice:
        async with chat.connect("/lobby/bob") as bob:
            await bob.send("post", Post(text="Hello!"))
            assert await alice.receive(Posted) == Posted(author="bob", text="Hello!")
            await alice.send("post", {"text": "Hi!"})
            await alice.send({"type": "post", "payload": {"text": "How are you?"}})
            received = await bob.receive_until("posted")
            assert received == [
                {"type": "posted", "payload": {"author": "bob", "text": "Hello!"}},
            ]
            assert [(await bob.receive(Posted)).text for _ in range(2)] == ["Hi!", "How are you?"]
            await bob.close(4000, "enough")
        received = await alice.receive_until(Left)
        assert [message["type"] for message in received[:-1]] == ["posted", "posted"]
        assert received[-1] == Left(name="bob", code=4000)


async def test_raw_messages_are_sent_and_received_unchanged(chat: Running) -> None:
    async with chat.connect("/lobby/alice") as alice:
        await alice.send_raw(b"abc")
        assert await alice.receive_raw() == b"cba"
        await alice.send_raw('{"type": "burst", "payload": {"count": 1}}')
        assert await alice.receive_raw() == '{"type":"burst","payload":{"number":0}}'
        await alice.send_raw("no JSON")
        assert (await alice.receive())["payload"]["code"] == "unknownMessage"


async def test_messages_before_a_close_are_read_first(chat: Running) -> None:
    async with chat.connect("/lobby/alice") as alice:
        await alice.send("burst", {"count": 500, "close": 4001})
        # No message is read before the connection is closed.
        await asyncio.wait_for(alice.socket.wait_closed(), WAIT_SECONDS)
        assert [(await alice.receive(Burst)).number for _ in range(500)] == list(range(500))
        assert await alice.wait_closed() == (4001, "as you wish")
        with pytest.raises(Closed, match=r"with 4001 \(as you wish\) before 'too late' was sent"):
            await alice.send_raw("too late")


@pytest.mark.parametrize("code", [1000, 1001, 4999])
async def test_the_application_receives_the_close_code_of_the_client(
    chat: Running, code: int
) -> None:
    async with chat.connect("/lobby/alice") as alice, chat.connect("/lobby/bob") as bob:
        await bob.close(code)
        assert await alice.receive(Left) == Left(name="bob", code=code)
        assert await bob.wait_closed() == (code, "")


async def test_a_client_that_vanishes_has_no_close_code(chat: Running) -> None:
    async with chat.connect("/lobby/alice") as alice, chat.connect("/lobby/bob") as bob:
        await bob.send("post", {"text": "last words"})
        assert (await alice.receive(Posted)).text == "last words"
        bob.vanish()
        left = await alice.receive(Left)
        assert left.name == "bob"
        assert left.code in (1005, 1006)  # depends on the server
        assert await bob.wait_closed() == (1006, "")


async def test_a_slow_client_is_closed_without_an_effect_on_other_clients(chat: Running) -> None:
    async with (
        chat.connect("/lobby/alice") as alice,
        chat.connect("/lobby/bob", small_buffer=True) as bob,
    ):
        bob.pause_reading()
        for _ in range(500):  # far more than the kernel's buffers hold
            await alice.send("post", {"text": "x" * 50_000})
            received = await alice.receive_until("posted")
            assert received[-1]["payload"]["text"] == "x" * 50_000
            if received[0]["type"] == "left":
                break
        assert received[0]["payload"] == {"name": "bob", "code": 4008}
        bob.resume_reading()
        assert await bob.wait_closed() == (4008, "reads too slowly")


async def test_a_client_that_resumes_reading_gets_all_messages(chat: Running) -> None:
    async with chat.connect("/lobby/alice", small_buffer=True) as alice:
        alice.pause_reading()
        await alice.send("burst", {"count": 200})
        with pytest.raises(RuntimeError, match="while reading is paused: call resume_reading"):
            await alice.receive()
        alice.resume_reading()
        assert [(await alice.receive(Burst)).number for _ in range(200)] == list(range(200))


async def expect_silence(client: Client) -> None:
    await client.receive(timeout_seconds=SHORT_SECONDS)


async def expect_after_others(client: Client) -> None:
    await client.send("burst", {"count": 7})
    await client.receive_until("burst")
    await client.receive_until("never", timeout_seconds=LONG_SECONDS)


async def expect_after_one(client: Client) -> None:
    await client.send("burst", {"count": 1})
    await client.receive_raw()
    await client.receive(timeout_seconds=SHORT_SECONDS)


async def expect_close(client: Client) -> None:
    client.timeout_seconds = SHORT_SECONDS
    await client.wait_closed()


async def expect_another_type(client: Client) -> None:
    await client.send("burst", {"count": 1})
    await client.receive(Posted)


async def expect_another_payload(client: Client) -> None:
    await client.send("post", {"text": "x" * 300})

    class Posted(Message, frozen=True):
        text: int

    await client.receive(Posted)


async def expect_another_shape(client: Client) -> None:
    await client.send("burst", {"count": 1})
    await client.receive(list)


async def expect_json(client: Client) -> None:
    await client.send_raw(b"{}")
    await client.receive()


async def expect_life(client: Client) -> None:
    await client.send("burst", {"count": 2, "close": 4001})
    await client.receive_until(Posted)


async def expect_presence(client: Client) -> None:
    await client.close(4000)
    await client.receive()


async def give_a_payload_to_a_message(client: Client) -> None:
    await client.send(Burst(number=1), {"count": 1})


async def wait_for_a_struct_without_a_type(client: Client) -> None:
    expected: Any = Post
    await client.receive_until(expected)


async def send_a_struct_without_a_type(client: Client) -> None:
    await client.send(Post(text="Hello!"))


WRONG_EXPECTATIONS: list[tuple[Callable[[Client], Awaitable[None]], type[Exception], str]] = [
    (
        expect_silence,
        TimeoutError,
        r"a message did not arrive within 0\.05 s; no messages received$",
    ),
    (
        expect_after_others,
        TimeoutError,
        r"a message of type 'never' did not arrive within 1\.0 s; received meanwhile: 6 messages, the"
        r""" last 5 of them: '{"type":"burst","payload":{"number":2}}', .*"number":6}}'$""",
    ),
    (
        expect_after_one,
        TimeoutError,
        r"a message did .*; received before: 1 message: '{\"type\":\"burst",
    ),
    (
        expect_close,
        TimeoutError,
        r"a close did not arrive within 0\.05 s; no messages received$",
    ),
    (
        expect_another_type,
        AssertionError,
        r"expected a message of type 'posted', but got '{\"type\":\"b",
    ),
    (
        expect_another_payload,
        AssertionError,
        r"expected a message that fits Posted, but got .*xxx\.\.\. \(length \d+\)"
        r" \(Expected `int`, got `str`",
    ),
    (
        expect_another_shape,
        AssertionError,
        r"fits list, but got .* \(Expected `array`, got `object`\)",
    ),
    (
        expect_json,
        AssertionError,
        r"expected JSON, but got b'}{' \(.*\): use receive_raw\(\) for other data",
    ),
    (
        expect_life,
        Closed,
        r"the server closed the connection with 4001 \(as you wish\) during the wait for a message of"
        r" type 'posted'; received meanwhile: 2 messages: '{",
    ),
    (
        expect_presence,
        Closed,
        r"this client closed the connection with 4000 during the wait for a mes",
    ),
    (
        give_a_payload_to_a_message,
        TypeError,
        r"a payload needs the name of a message type, not Burst",
    ),
    (
        wait_for_a_struct_without_a_type,
        TypeError,
        r"^Post has no message type: pass a Message or the name of the type; .*"
        r' send\("type", struct\)$',
    ),
    (
        send_a_struct_without_a_type,
        TypeError,
        r'^Post has no message type: send a Message, or send\("type", Post\(\.\.\.\)\)$',
    ),
]


@pytest.mark.parametrize(
    ("expectation", "error", "pattern"),
    WRONG_EXPECTATIONS,
    ids=[expectation.__name__ for expectation, _, _ in WRONG_EXPECTATIONS],
)
async def test_a_wrong_expectation_fails_in_time_with_its_reason(
    chat: Running,
    expectation: Callable[[Client], Awaitable[None]],
    error: type[Exception],
    pattern: str,
) -> None:
    started = time.monotonic()
    async with chat.connect("/lobby/alice") as alice:
        with pytest.raises(error, match=pattern):
            await expectation(alice)
    assert time.monotonic() - started < WAIT_SECONDS


async def test_a_wait_for_a_type_is_bounded_while_other_messages_arrive(chat: Running) -> None:
    async with chat.connect("/lobby/alice") as alice:

        async def keep_sending() -> None:
            while True:
                await alice.send("burst", {"count": 1})
                await asyncio.sleep(SHORT_SECONDS / 5)

        sending = asyncio.create_task(keep_sending())
        try:
            with pytest.raises(TimeoutError, match="'never' did not arrive within"):
                await alice.receive_until("never", timeout_seconds=4 * SHORT_SECONDS)
        finally:
            sending.cancel()
            await asyncio.wait({sending})
