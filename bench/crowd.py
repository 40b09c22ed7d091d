"""The connections of a load client, in rooms, and what comes back to them.

They read with picows, which parses frames in C and neither decodes nor decompresses them.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import time
from array import array
from collections.abc import Sequence

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from .plan import Plan

CONNECT_SECONDS = 60
CONNECTS_AT_ONCE = 50
ARRIVE_SECONDS = 3
QUIET_SECONDS = 0.3
# What a stalled reader's system takes, and the largest segment on Ethernet: on loopback that is 64 KiB,
# and the server's system would hide megabytes.
STALLED_BUFFER_BYTES, STALLED_SEGMENT_BYTES = 4_096, 1_460
EXTENSIONS = "Sec-WebSocket-Extensions"
OFFER = {EXTENSIONS: "permessage-deflate; client_max_window_bits"}

# Engine.IO 4 and Socket.IO 5: what a packet begins with.
OPEN, PING, PONG, CONNECT, EVENT = b"0", b"2", b"3", b"40", b"42"


class Member(WSListener):
    """A connection in a room."""

    transport: WSTransport

    def __init__(self, room: Room) -> None:
        self.room = room
        self.got = 0
        self.ready = asyncio.get_running_loop().create_future()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.ready.set_result(None)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.TEXT:
            self.count()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.room.lost += 1

    def count(self) -> None:
        """Take note of a delivery; after the last one due, the room goes on."""
        room = self.room
        if room.delays is not None:
            # Nobody is overtaken: the n-th message that comes here is the n-th that was said.
            room.delays.append(time.perf_counter() - room.said_at[self.got])
        self.got += 1
        room.got += 1
        if room.got == room.due:
            room.complete()


class SocketIoMember(Member):
    """A connection in a room that speaks Socket.IO."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        packet = frame.get_payload_as_bytes()
        if packet.startswith(EVENT):
            self.count()
        elif packet.startswith(PING):
            transport.send(WSMsgType.TEXT, PONG)
        elif packet.startswith(OPEN):
            transport.send(WSMsgType.TEXT, CONNECT)
        elif packet.startswith(CONNECT):
            self.ready.set_result(None)


class Room:
    """Those who get the same messages. The first of them is the one who speaks.

    Attributes:
        got: How many messages have arrived, over all members.
        due: How many are to arrive of all that was said.
        lost: How many connections have ended.
        idle: Set while nothing is on its way.
        said_at: When each message was said, while delays are noted.
        delays: How long each delivery took, in seconds; ``None`` while that is not noted.
    """

    def __init__(self, plan: Plan, number: int) -> None:
        self.plan = plan
        self.message = plan.message.encode()
        self.path = plan.path.format(room=f"room{number}")
        member = Member if plan.dialect == "plain" else SocketIoMember
        self.members = [member(self) for _ in range(plan.room_members)]
        self.got = self.due = self.lost = 0
        self.goes_on = False
        self.idle = asyncio.Event()
        self.said_at = array("d")
        self.delays: array[float] | None = None

    async def connect(self) -> None:
        """Let all in."""
        for number, member in enumerate(self.members):
            port = self.plan.ports[number % len(self.plan.ports)]
            async with asyncio.timeout(CONNECT_SECONDS):
                transport, _ = await ws_connect(
                    lambda member=member: member,
                    f"ws://127.0.0.1:{port}{self.path}",
                    websocket_handshake_timeout=CONNECT_SECONDS,
                    extra_headers=OFFER if self.plan.deflate else None,
                )
                await member.ready
            if self.plan.deflate and EXTENSIONS not in transport.response.headers:
                raise RuntimeError("the server does not agree to deflate")

    async def settle(self) -> None:
        """Speak until a message reaches all: some servers accept before the room is joined."""
        for _ in range(5):
            self.forget_counts()
            self.say(1)
            try:
                await asyncio.wait_for(self.idle.wait(), ARRIVE_SECONDS)
                return
            except TimeoutError:
                await self.wait_quiet()
        raise RuntimeError(f"a message reaches {self.got} members of {self.due}, {self.lost} lost")

    async def wait_quiet(self) -> None:
        """Wait until nothing arrives any more."""
        seen = -1
        while seen != self.got:
            seen = self.got
            await asyncio.sleep(QUIET_SECONDS)

    def forget_counts(self) -> None:
        """Begin to count anew; nothing is on its way."""
        self.got = self.due = 0
        del self.said_at[:]
        for member in self.members:
            member.got = 0

    def say(self, messages: int) -> None:
        """Say something so many times."""
        self.idle.clear()
        self.due += len(self.members) * messages
        speaker = self.members[0].transport
        for _ in range(messages):
            self.said_at.append(time.perf_counter())
            speaker.send(WSMsgType.TEXT, self.message)

    def complete(self) -> None:
        """All that was said has arrived everywhere."""
        if self.goes_on:
            self.say(self.plan.in_flight)
        else:
            self.idle.set()


async def gather(plan: Plan) -> list[Room]:
    """Connect everybody, and see that all hear unless they are to be silent."""
    rooms = [Room(plan, number) for number in range(plan.connections // plan.room_members)]
    for first in range(0, len(rooms), CONNECTS_AT_ONCE):
        await asyncio.gather(*(room.connect() for room in rooms[first : first + CONNECTS_AT_ONCE]))
    if not plan.silent:
        await asyncio.gather(*(room.settle() for room in rooms))
    return rooms


async def wait_idle(rooms: Sequence[Room], bound_seconds: float) -> None:
    """Wait until nothing is on its way.

    Raises:
        RuntimeError: Something has not arrived in time.
    """
    try:
        async with asyncio.timeout(bound_seconds):
            for room in rooms:
                await room.idle.wait()
    except TimeoutError:
        got, due = sum(room.got for room in rooms), sum(room.due for room in rooms)
        lost = sum(room.lost for room in rooms)
        raise RuntimeError(
            f"{due - got} of {due} messages have not arrived, {lost} connections are lost"
        ) from None


async def connect_stalled(plan: Plan, path: str) -> socket.socket:
    """A connection that never reads what it gets; closing it ends it."""
    stalled = socket.socket()
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STALLED_BUFFER_BYTES)
    stalled.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, STALLED_SEGMENT_BYTES)
    stalled.setblocking(False)
    loop = asyncio.get_running_loop()
    key = base64.b64encode(os.urandom(16)).decode()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await loop.sock_connect(stalled, ("127.0.0.1", plan.ports[0]))
            request = (
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{plan.ports[0]}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                "Sec-WebSocket-Version: 13\r\n\r\n"
            )
            await loop.sock_sendall(stalled, request.encode())
            answer = await loop.sock_recv(stalled, 1_024)
        if not answer.startswith(b"HTTP/1.1 101"):
            raise RuntimeError(f"the stalled reader is not let in: {answer!r}")
    except BaseException:
        stalled.close()
        raise
    return stalled
