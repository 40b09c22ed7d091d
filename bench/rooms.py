"""The connections of a load client, in rooms.

They read with picows, which parses frames in C, without decoding or decompression.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import socket
import time
from array import array
from collections.abc import Iterable, Mapping, Sequence

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from .plan import Plan

CONNECT_SECONDS = 60
CONNECTS_AT_ONCE = 50
ARRIVE_SECONDS = 3
QUIET_SECONDS = 0.3
# The receive buffer of a stalled reader, and the segment size of Ethernet: with the 64 KiB of
# loopback the server's kernel would buffer megabytes.
STALLED_BUFFER_BYTES, STALLED_SEGMENT_BYTES = 4_096, 1_460
EXTENSIONS = "Sec-WebSocket-Extensions"
# ip(7); Python names it from 3.12 on.
IP_BIND_ADDRESS_NO_PORT = 24

# The start of a message of a room with a history that is not sent by a member.
POSITION = b'{"type":"serverPosition"'
# The starts of messages to a client that may be in several rooms.
JOINED, SAID = b'{"type":"serverJoined"', b'{"type":"said"'
# The prefixes of packets of Engine.IO 4 and Socket.IO 5.
OPEN, PING, PONG, CONNECT, EVENT = b"0", b"2", b"3", b"40", b"42"


class Member(WSListener):
    """A connection in a room."""

    transport: WSTransport

    def __init__(self, room: Room) -> None:
        self.room = room
        self.received = 0
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
        """Count a delivery; the last expected one completes the room."""
        room = self.room
        if room.delays is not None:
            # The order is preserved, so the n-th received message is the n-th sent one.
            room.delays.append(time.perf_counter() - room.sent_at[self.received])
        self.received += 1
        room.received += 1
        if room.received == room.expected:
            room.complete()


class SizedMember(Member):
    """A connection in a room, which counts the bytes of its messages."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.TEXT:
            self.room.payload_bytes += frame.payload_size
            self.count()


class HistoryMember(Member):
    """A connection in a room with a history."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if not frame.get_payload_as_bytes().startswith(POSITION):
            self.count()


class RoomsMember(Member):
    """A connection that may be in several rooms, in one of them."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        join = b'{"type":"clientJoin","payload":{"room":"%b"}}' % self.room.name.encode()
        transport.send(WSMsgType.TEXT, join)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        message = frame.get_payload_as_bytes()
        if message.startswith(SAID):
            self.count()
        elif message.startswith(JOINED):
            self.ready.set_result(None)


class SocketIoMember(Member):
    """A Socket.IO connection in a room."""

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


MEMBERS: dict[str, type[Member]] = {
    "plain": Member,
    "history": HistoryMember,
    "rooms": RoomsMember,
    "socket.io": SocketIoMember,
}


class Room:
    """The members of a room; the first one is the sender.

    Attributes:
        recipients: The number of members that get a message.
        payload_bytes: The payloads of all received messages, as they were sent; counted with compression only.
        received: The number of deliveries, over all members.
        expected: The number of deliveries of all sent messages.
        lost: The number of ended connections.
        repeats: Whether a complete room sends again.
        idle: Set while no message is in transit.
        sent_at: The times of the sent messages.
        delays: The delay of each delivery in seconds; ``None`` while delays are not recorded.
    """

    def __init__(self, plan: Plan, number: int) -> None:
        self.plan = plan
        self.name = f"{plan.name}-{number}"
        messages = [message.replace("ROOM", self.name).encode() for message in plan.messages]
        self.messages = itertools.cycle(messages)
        self.path = plan.path.format(room=self.name)
        member = SizedMember if plan.offer else MEMBERS[plan.dialect]
        self.members = [member(self) for _ in range(plan.rooms[number])]
        self.recipients = len(self.members) - plan.excludes_sender
        self.received = self.expected = self.lost = self.payload_bytes = 0
        self.repeats = False
        self.idle = asyncio.Event()
        self.sent_at = array("d")
        self.delays: array[float] | None = None

    async def connect(self) -> None:
        """Connect all members."""
        for number, member in enumerate(self.members):
            port = self.plan.ports[number % len(self.plan.ports)]
            await connect(self.plan, f"ws://127.0.0.1:{port}{self.path}{self.plan.query}", member)
            async with asyncio.timeout(CONNECT_SECONDS):
                await member.ready

    async def wait_joined(self) -> None:
        """Send until a message reaches all: some servers accept before they join the room."""
        for _ in range(5):
            self.reset_counts()
            self.send(1)
            try:
                await asyncio.wait_for(self.idle.wait(), ARRIVE_SECONDS)
                return
            except TimeoutError:
                await self.wait_quiet()
        raise RuntimeError(
            f"a message reached {self.received} of {self.expected} members, {self.lost} were lost"
        )

    async def wait_quiet(self) -> None:
        """Wait until no more messages arrive."""
        before = -1
        while before != self.received:
            before = self.received
            await asyncio.sleep(QUIET_SECONDS)

    def reset_counts(self) -> None:
        """Reset the counts, while no message is in transit."""
        self.received = self.expected = 0
        del self.sent_at[:]
        for member in self.members:
            member.received = 0

    def send(self, messages: int) -> None:
        """Send a number of messages."""
        self.idle.clear()
        self.expected += self.recipients * messages
        sender = self.members[0].transport
        for _ in range(messages):
            self.sent_at.append(time.perf_counter())
            sender.send(WSMsgType.TEXT, next(self.messages))

    def complete(self) -> None:
        """Send again, or become idle, after the last delivery."""
        if self.repeats:
            self.send(self.plan.in_flight)
        else:
            self.idle.set()


async def connect(
    plan: Plan, url: str, listener: WSListener, headers: Mapping[str, str] | None = None
) -> WSTransport:
    """Connect a client, with more headers if any are given.

    Raises:
        RuntimeError: The server does not accept the extension with its parameters.
    """
    transport, _ = await ws_connect(
        lambda: listener,
        url,
        websocket_handshake_timeout=CONNECT_SECONDS,
        extra_headers={EXTENSIONS: plan.offer} if plan.offer else headers,
        socket_factory=lambda _: socket_from(plan.address),
    )
    if plan.offer:
        accepted = transport.response.headers.get(EXTENSIONS, "")
        if missing := [each for each in plan.accepted if each not in accepted]:
            raise RuntimeError(f"the server accepts {accepted!r}, which lacks {missing}")
    return transport


def socket_from(address: str) -> socket.socket:
    """Return a socket for a connection from an address; its port is chosen when it connects."""
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    client.bind((address, 0))
    return client


async def connect_rooms(plan: Plan, numbers: Iterable[int]) -> list[Room]:
    """Connect rooms of the plan, and check their deliveries unless the plan is silent."""
    rooms = [Room(plan, number) for number in numbers]
    for first in range(0, len(rooms), CONNECTS_AT_ONCE):
        await asyncio.gather(*(room.connect() for room in rooms[first : first + CONNECTS_AT_ONCE]))
    if not plan.silent:
        await asyncio.gather(*(room.wait_joined() for room in rooms))
    if plan.recent:
        for room in rooms:
            room.send(plan.recent)
        await wait_idle(rooms, ARRIVE_SECONDS * 10)
    return rooms


async def wait_idle(rooms: Sequence[Room], timeout_seconds: float) -> None:
    """Wait until no message is in transit.

    Raises:
        RuntimeError: Messages did not arrive in time.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            for room in rooms:
                await room.idle.wait()
    except TimeoutError:
        received, expected, lost = (
            sum(getattr(room, count) for room in rooms)
            for count in ("received", "expected", "lost")
        )
        raise RuntimeError(
            f"{expected - received} of {expected} messages are missing, {lost} connections are lost"
        ) from None


async def connect_stalled(plan: Plan, path: str) -> socket.socket:
    """Return the socket of a connection that never reads."""
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
            response = await loop.sock_recv(stalled, 1_024)
        if not response.startswith(b"HTTP/1.1 101"):
            raise RuntimeError(f"the stalled reader was rejected: {response!r}")
    except BaseException:
        stalled.close()
        raise
    return stalled
