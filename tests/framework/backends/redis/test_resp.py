"""RESP connections over a local socket: commands, pushed replies, losses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from falcon_pachinko.backends.redis.resp import RespConnection

from ...support.backends import WAIT_SECONDS, wait_until


class Peer:
    """The server's side of one connection.

    Attributes:
        received: The data that it has received.
        replies: The replies that the client has parsed.
        losses: The errors with which the client's connection was lost.
    """

    connection: RespConnection
    writer: asyncio.StreamWriter

    def __init__(self) -> None:
        self.received = b""
        self.replies: list[Any] = []
        self.losses: list[Exception] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        while data := await reader.read(1000):
            self.received += data
        writer.close()


@asynccontextmanager
async def connected() -> AsyncIterator[Peer]:
    """Connect a client to a server that sends only what the test writes."""
    peer = Peer()
    server = await asyncio.start_server(peer.handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    # NOTE: without driver information redis-py sends no command while it connects.
    opened = Connection(host="127.0.0.1", port=port, protocol=2, driver_info=None)
    await opened.connect()  # type: ignore[no-untyped-call]
    peer.connection = RespConnection(opened, peer.replies.append, peer.losses.append)
    await wait_until(lambda: hasattr(peer, "writer"))
    try:
        yield peer
    finally:
        await peer.connection.close()
        server.close()
        async with asyncio.timeout(WAIT_SECONDS):
            await peer.writer.wait_closed()


async def test_commands_are_written_and_replies_parsed_in_order() -> None:
    async with connected() as peer:
        peer.connection.send("PUBLISH", b"\xff", 7)
        await wait_until(lambda: peer.received != b"")
        assert peer.received == b"*3\r\n$7\r\nPUBLISH\r\n$1\r\n\xff\r\n$1\r\n7\r\n"
        peer.writer.write(b":1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n+O")
        await wait_until(lambda: len(peer.replies) == 2)
        peer.writer.write(b"K\r\n-ERR wrong\r\n")
        await wait_until(lambda: len(peer.replies) == 4)
        assert peer.replies[:3] == [1, [b"a", b"b"], b"OK"]
        assert str(peer.replies[3]) == "ERR wrong"
        assert isinstance(peer.replies[3], Exception)
        assert not isinstance(peer.replies[3], ResponseError)
    assert peer.losses == []


async def test_a_loss_is_reported_once_and_then_commands_raise() -> None:
    async with connected() as peer:
        peer.writer.close()
        await wait_until(lambda: peer.losses != [])
        assert [str(error) for error in peer.losses] == ["Redis has closed the connection"]
        with pytest.raises(RedisConnectionError, match="the connection is lost"):
            peer.connection.send("PING")
    assert len(peer.losses) == 1


async def test_data_that_is_not_resp_is_a_loss() -> None:
    async with connected() as peer:
        peer.writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await wait_until(lambda: peer.losses != [])
        assert "not valid RESP" in str(peer.losses[0])
        with pytest.raises(RedisConnectionError):
            peer.connection.send("PING")


async def test_closing_is_not_reported_as_a_loss() -> None:
    async with connected() as peer:
        await peer.connection.close()
        await asyncio.sleep(0)
        with pytest.raises(RedisConnectionError):
            peer.connection.send("PING")
    assert peer.losses == []
