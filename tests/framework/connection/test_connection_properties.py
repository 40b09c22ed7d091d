"""A connection's guarantees under random sequences of events, on both outbound paths."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import math
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import falcon.asgi
import msgspec
import pytest
import uvicorn
from falcon import WebSocketDisconnected
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from falcon_pachinko import (
    Connection,
    Limits,
    Reject,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.rooms.registry import ConnectionRegistry
from falcon_pachinko.uvicorn import PushProtocol

from ..support.virtual_transport import PortableClient, PushClient, SteppedLoop, VirtualClient

LIMITS = Limits(
    on_connect_seconds=10,
    on_disconnect_seconds=10,
    close_seconds=5,
    stall_seconds=60,
    outbox_messages=6,
    inbox_messages=3,
    messages_per_second=math.inf,
    handler_seconds=None,
)
ROOMS = ("red", "green", "blue")
USERS = (None, "Alice", "Bob")

# Hypothesis needs up to five minutes to minimize a failure.
pytestmark = pytest.mark.timeout(400)

MAX_PEERS = 6

# Longer than the sum of all limits above.
FOR_EVER_SECONDS = 600.0

CRASHED, REJECTED, SLOW_READER, CANCELLED = 1011, 4403, 4008, 1012


OWN_ENDS = ("closed itself", "was rejected", "crashed")


class PlannedCrash(Exception):
    """Raised by the resource under test."""


@dataclass(frozen=True)
class Plan:
    """The behaviour of ``on_connect`` and ``on_disconnect`` of one connection.

    Attributes:
        joins: The rooms that it joins.
        own: The number of messages to its own client.
        announces: The rooms to which it broadcasts, and whether it excludes itself.
        waits: Whether it waits for an event before its decision.
        decision: ``accept``, ``refuse``, ``crash`` or ``reject``.
        disconnect_seconds: The duration of ``on_disconnect``.
    """

    joins: list[str]
    own: int
    announces: list[tuple[str, bool]]
    waits: bool
    decision: str
    disconnect_seconds: float


class Peer:
    """One connection with its expected messages and its events.

    Attributes:
        own: Messages of ``on_connect`` to itself.
        deferred: Broadcasts of ``on_connect``: the room, the text, the excluded peer.
        heard: Room messages from before the accept.
        expected: Messages sent to it since the accept, in order.
        certain: The number of these that must arrive although the server has closed.
        causes: The reasons of its end, with their close codes.
        sent: The numbers of the client's messages in sending order.
        handled: The same numbers in the order of the handlers.
    """

    client: VirtualClient
    ws: Connection | None = None
    decided = False
    opened = False
    overflown = False
    certain: int | None = None
    last_order: int | None = None
    ever_stalled = False
    send_failed = False
    cut_off = False
    obeying = False
    stalled_its_handler = False
    gone_early = False
    busy_since: float | None = None
    disconnect_began: float | None = None
    disconnect_ended: float | None = None

    def __init__(self, name: str, user: str | None, plan: Plan) -> None:
        self.name = name
        self.user = user
        self.plan = plan
        self.go_on = asyncio.Event()
        if not plan.waits:
            self.go_on.set()
        self.own: list[str] = []
        self.deferred: list[tuple[str, str, Peer | None]] = []
        self.heard: list[str] = []
        self.expected: list[str] = []
        self.causes: list[tuple[str, int]] = []
        self.disconnects: list[int] = []
        self.sent: list[int] = []
        self.handled: list[int] = []

    def __repr__(self) -> str:
        return f"<{self.name} on {type(self.client).__name__} after {self.causes}>"

    @property
    def waiting(self) -> int:
        """The number of messages that are pending inside the application."""
        return len(self.expected) - len(self.client.received) - self.client.in_flight

    @property
    def over(self) -> bool:
        """Whether the framework has released it, once the loop is idle."""
        refused = self.decided and not self.opened
        return self.disconnect_ended is not None or refused or self.client.task.done()

    def hear(self, text: str) -> None:
        """Record a message that is sent to it."""
        if self.opened:
            self.expected.append(text)
        else:
            self.heard.append(text)
            held = len(self.own) + len(self.deferred) + len(self.heard)
            self.overflown = self.overflown or held > LIMITS.outbox_messages


class World:
    """A plain model of the rooms."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.peers: dict[str, Peer] = {}
        self.rooms: dict[str, list[Peer]] = {room: [] for room in ROOMS}
        self.accepted: list[Peer] = []
        self.visible: set[str] = set()
        self.texts = 0
        self.complaints: list[str] = []

    def make_text(self) -> str:
        """Return a unique text."""
        self.texts += 1
        return str(self.texts)

    def catch_up(self) -> None:
        """Record newly accepted peers: their deferred messages are now visible."""
        for peer in self.accepted:
            if peer.ws is not None and peer.ws.id in self.visible and not peer.opened:
                self.open(peer)

    def open(self, peer: Peer) -> None:
        """Expect its own messages, then the room messages, then its broadcasts."""
        if peer.overflown or peer.gone_early or peer.plan.decision != "accept":
            self.complaints.append(f"{peer!r} must not be accepted")
        peer.opened = True
        peer.expected += peer.own
        peer.expected += peer.heard
        for room, text, exclude in peer.deferred:
            self.pass_on(room, text, exclude)

    def join(self, peer: Peer, room: str) -> None:
        self.catch_up()
        if peer not in self.rooms[room]:
            self.rooms[room].append(peer)

    def leave(self, peer: Peer, room: str) -> None:
        self.catch_up()
        if peer in self.rooms[room]:
            self.rooms[room].remove(peer)

    def say(self, room: str, exclude: Peer | None = None) -> str:
        """Record a broadcast to a room, and return its text."""
        self.catch_up()
        text = self.make_text()
        self.pass_on(room, text, exclude)
        return text

    def pass_on(self, room: str, text: str, exclude: Peer | None) -> None:
        """Expect the message at all members of the room."""
        for peer in self.rooms[room]:
            if peer is not exclude:
                peer.hear(text)

    def close(self, peer: Peer, cause: str, code: int) -> None:
        """Record a close by the server: earlier messages still arrive."""
        self.catch_up()
        if peer.opened and peer.certain is None:
            peer.certain = len(peer.expected)
        peer.causes.append((cause, code))


class Order(msgspec.Struct):
    """A client's instruction to its handler."""

    number: int
    room: str = ROOMS[0]
    exclude_self: bool = False
    count: int = 1
    target: str = ""
    seconds: float = 0.0


class Obeying(WebSocketResource):
    """Carries out the plan and the client's orders, and updates the model in the same step."""

    limits = LIMITS
    peer: Peer

    def __init__(self, world: World) -> None:
        self.world = world

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        assert isinstance(ws, Connection)
        self.peer = peer = self.world.peers[name]
        peer.ws = ws
        ws.user = peer.user
        try:
            for room in peer.plan.joins:
                self.world.join(peer, room)
                await self.join_room(room)
            for _ in range(peer.plan.own):
                peer.own.append(self.world.make_text())
                await ws.send_text(peer.own[-1])
            for room, exclude_self in peer.plan.announces:
                text = self.world.make_text()
                peer.deferred.append((room, text, peer if exclude_self else None))
                await self.broadcast_to_room(room, text, exclude_self)
            await peer.go_on.wait()
        except asyncio.CancelledError:
            peer.causes.append(("on_connect was cancelled", 0))
            raise
        finally:
            peer.decided = True
        if peer.plan.decision == "crash":
            raise PlannedCrash
        if peer.plan.decision == "reject":
            raise Reject(REJECTED, "as planned")
        return peer.plan.decision == "accept"

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        peer = self.peer
        self.world.catch_up()
        peer.disconnects.append(close_code)
        peer.disconnect_began = self.world.loop.time()
        for room, members in self.world.rooms.items():
            if peer in members:
                text = self.world.say(room, peer)
                await self.broadcast_to_room(room, text, exclude_self=True)
        try:
            await asyncio.sleep(peer.plan.disconnect_seconds)
        finally:
            peer.disconnect_ended = self.world.loop.time()
            if peer.certain is None:
                peer.certain = len(peer.expected)

    async def broadcast_to_room(
        self, room: str, message: object, exclude_self: bool = False, **options: Any
    ) -> None:
        # NOTE: only here is the order of two connections accepted in one iteration visible.
        self.world.catch_up()
        await super().broadcast_to_room(room, message, exclude_self, **options)

    @contextmanager
    def obeying(self, order: Order) -> Iterator[None]:
        """Mark the peer as busy while it carries out an order."""
        self.peer.handled.append(order.number)
        self.peer.obeying = True
        try:
            yield
        except asyncio.CancelledError:
            self.peer.cut_off = True
            raise
        finally:
            self.peer.obeying = False

    @handles_message("join")
    async def join(self, ws: WebSocketLike, order: Order) -> None:
        with self.obeying(order):
            self.world.join(self.peer, order.room)
            await self.join_room(order.room)

    @handles_message("leave")
    async def leave(self, ws: WebSocketLike, order: Order) -> None:
        with self.obeying(order):
            self.world.leave(self.peer, order.room)
            await self.leave_room(order.room)

    @handles_message("say")
    async def say(self, ws: WebSocketLike, order: Order) -> None:
        with self.obeying(order):
            for _ in range(order.count):
                text = self.world.say(order.room, self.peer if order.exclude_self else None)
                await self.broadcast_to_room(order.room, text, order.exclude_self)

    @handles_message("echo")
    async def echo(self, ws: WebSocketLike, order: Order) -> None:
        with self.obeying(order):
            await self.answer(ws, order.count)

    async def answer(self, ws: WebSocketLike, count: int) -> None:
        """Send this many messages to the own client."""
        peer = self.peer
        for number in range(count):
            self.world.catch_up()
            text = self.world.make_text()
            peer.expected.append(text)
            peer.busy_since = self.world.loop.time()
            try:
                if number % 2:
                    await ws.send_text(text)
                else:
                    await ws.send_data(text.encode())
            except WebSocketDisconnected:
                peer.expected.remove(text)
                peer.send_failed = True
                raise
            finally:
                seconds = self.world.loop.time() - peer.busy_since
                peer.stalled_its_handler |= seconds >= LIMITS.stall_seconds
                peer.busy_since = None

    @handles_message("nap")
    async def nap(self, ws: WebSocketLike, order: Order) -> None:
        with self.obeying(order):
            await asyncio.sleep(order.seconds)

    @handles_message("close")
    async def close(self, ws: WebSocketLike, order: Order) -> None:
        with self.obeying(order):
            await self.answer(ws, order.count)
            self.peer.last_order = order.number
            self.world.close(self.peer, "closed itself", 4001)
            await ws.close(4001)

    @handles_message("kick")
    async def kick(self, ws: WebSocketLike, order: Order) -> None:
        with self.obeying(order):
            target = self.world.peers.get(order.target)
            for connection in self.manager:
                if target is not None and connection is target.ws:
                    self.world.close(target, "was kicked", 4002)
                    await connection.close(4002)

    @handles_message("reject")
    async def reject(self, ws: WebSocketLike, order: Order) -> None:
        with self.obeying(order):
            self.peer.last_order = order.number
            self.world.close(self.peer, "was rejected", REJECTED)
            raise Reject(REJECTED, "as told")

    @handles_message("crash")
    async def crash(self, ws: WebSocketLike, order: Order) -> None:
        with self.obeying(order):
            self.peer.last_order = order.number
            self.peer.causes.append(("crashed", CRASHED))
            raise PlannedCrash


class Records(logging.Handler):
    """Collects log records of warnings and errors."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


PLANS = st.builds(
    Plan,
    joins=st.lists(st.sampled_from(ROOMS), max_size=2),
    own=st.integers(0, 2),
    announces=st.lists(st.tuples(st.sampled_from(ROOMS), st.booleans()), max_size=1),
    waits=st.sampled_from([False, False, True]),
    decision=st.sampled_from(["accept"] * 5 + ["refuse", "crash", "reject"]),
    disconnect_seconds=st.sampled_from([0.0, 0.0, 0.0, 3.0, 20.0]),
)
KINDS = ["join", "leave", "say", "say", "say", "echo", "echo", "nap"]
ENDING_KINDS = ["close", "close", "kick", "reject", "crash"]
ORDERS = st.lists(
    st.tuples(
        st.sampled_from(KINDS + ENDING_KINDS),
        st.sampled_from(ROOMS),
        st.booleans(),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=6,
)

# The number of loop iterations after an action; None runs the loop until it is idle.
TURNS = st.sampled_from([None, None, None, 0, 1, 2, 3, 5])


def ending_by_clients(machine: Connections) -> None:
    for peer in machine.present():
        if not peer.client.gone:
            peer.causes.append(("the client closed", 1000))
            machine.perform(functools.partial(peer.client.close, 1000), 0)


def ending_by_server(machine: Connections) -> None:
    for peer in machine.present():
        if peer.opened and peer.ws in set(machine.manager):
            assert peer.ws is not None
            machine.world.close(peer, "the server stopped", 1001)
            machine.perform(functools.partial(machine.start, peer.ws.close(1001)), 0)


# A connection with a running task; a connection without a cause of its end.
PRESENT = st.runner().flatmap(lambda machine: st.sampled_from(machine.present()))
OPEN = st.runner().flatmap(lambda machine: st.sampled_from(machine.open_ones()))


def somebody_is_there(machine: Connections) -> bool:
    return bool(machine.present())


def somebody_is_open(machine: Connections) -> bool:
    return bool(machine.open_ones())


def there_is_room(machine: Connections) -> bool:
    return len(machine.present()) < MAX_PEERS


class Connections(RuleBasedStateMachine):
    """Clients connect, send, stall and disconnect while the server sends, closes and cancels."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = SteppedLoop()
        self.world = World(self.loop)
        self.app = install(falcon.asgi.App())
        self.app.add_websocket_route("/{name}", Obeying, self.world)
        self.manager = self.app.ws_connection_manager
        self.record_accepts(self.manager._registry)
        self.tasks: list[asyncio.Task[None]] = []
        self.records = Records()
        logging.getLogger().addHandler(self.records)

    def record_accepts(self, registry: ConnectionRegistry) -> None:
        """Note the connections that become visible to others."""
        add = registry.add

        def record_and_add(connection: Connection) -> Coroutine[Any, Any, None]:
            self.world.visible.add(connection.id)
            return add(connection)

        registry.add = record_and_add  # type: ignore[method-assign]

    def make_client(self, peer: Peer, extra: int) -> VirtualClient:
        raise NotImplementedError

    def present(self) -> list[Peer]:
        """Return the connections with a running task."""
        return [peer for peer in self.world.peers.values() if not peer.client.task.done()]

    def open_ones(self) -> list[Peer]:
        """Return the connections that are open according to the model."""
        return [peer for peer in self.present() if peer.opened and not peer.causes]

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the background."""
        self.tasks.append(self.loop.create_task(coroutine))

    def perform(self, action: Callable[[], object], turns: int | None) -> None:
        """Run an action in the event loop, and check all invariants once the loop is idle."""

        async def act() -> None:
            result = action()
            if isinstance(result, Coroutine):
                await result
            if turns is None:
                await self.loop.run_until_idle()
                self.world.catch_up()
                self.forget()
                await self.check()
            else:
                for _ in range(turns):
                    await asyncio.sleep(0)

        self.loop.run_until_complete(act())

    @precondition(there_is_room)
    @rule(
        user=st.sampled_from(USERS),
        plan=PLANS,
        extra=st.integers(0, 3),
        hears=st.integers(0, LIMITS.outbox_messages),
        then=st.sampled_from(["waits", "goes on", "vanishes"]),
        turns=TURNS,
    )
    def connect(
        self,
        user: str | None,
        plan: Plan,
        extra: int,
        hears: int,
        then: str,
        turns: int | None,
    ) -> None:
        """Connect a client; it may wait in ``on_connect`` while a room receives messages."""
        peer = Peer(f"peer{len(self.world.peers)}", user, plan)
        self.world.peers[peer.name] = peer
        peer.client = self.make_client(peer, extra)
        self.perform(peer.client.connect, turns)
        if plan.waits:
            self.tell_room((*plan.joins, ROOMS[0])[0], hears, turns)
            if then == "vanishes":
                self.client_vanishes(peer, None)
            if then != "waits":
                self.perform(peer.go_on.set, turns)

    @precondition(somebody_is_there)
    @rule(peer=PRESENT, turns=TURNS)
    def go_on(self, peer: Peer, turns: int | None) -> None:
        self.perform(peer.go_on.set, turns)

    @precondition(somebody_is_open)
    @rule(
        peer=OPEN,
        orders=ORDERS,
        other=PRESENT,
        seconds=st.sampled_from([0.0, 1.0, 30.0]),
        turns=TURNS,
    )
    def order(
        self,
        peer: Peer,
        orders: list[tuple[str, str, bool, int]],
        other: Peer,
        seconds: float,
        turns: int | None,
    ) -> None:
        texts = []
        for kind, room, exclude_self, count in orders:
            number = len(peer.sent)
            peer.sent.append(number)
            payload = Order(number, room, exclude_self, count, other.name, seconds)
            texts.append(json.dumps({"type": kind, "payload": msgspec.to_builtins(payload)}))
        self.perform(lambda: peer.client.send_texts(*texts), turns)

    @precondition(somebody_is_open)
    @rule(peer=OPEN, orders=ORDERS, other=PRESENT)
    def order_while_busy(
        self, peer: Peer, orders: list[tuple[str, str, bool, int]], other: Peer
    ) -> None:
        """Send orders behind a slow handler: they are read ahead."""
        nap = ("nap", ROOMS[0], False, 1)
        self.order(peer, [nap], peer, 1.0, None)
        self.order(peer, orders, other, 1.0, None)
        self.let_time_pass(0.75)

    @precondition(somebody_is_open)
    @rule(
        room=st.sampled_from(ROOMS),
        count=st.integers(1, LIMITS.outbox_messages + 2),
        turns=TURNS,
    )
    def tell_room(self, room: str, count: int, turns: int | None) -> None:
        async def tell() -> None:
            for _ in range(count):
                text = self.world.say(room)
                await self.manager.broadcast_to_room(room, text)

        self.perform(tell, turns)

    @precondition(somebody_is_open)
    @rule(turns=TURNS)
    def tell_all(self, turns: int | None) -> None:
        async def tell() -> None:
            self.world.catch_up()
            text = self.world.make_text()
            for peer in self.world.peers.values():
                if peer.opened:
                    peer.expected.append(text)
            await self.manager.broadcast_to_all(text)

        self.perform(tell, turns)

    @precondition(somebody_is_open)
    @rule(peer=OPEN, turns=TURNS)
    def stall(self, peer: Peer, turns: int | None) -> None:
        if peer.opened and not peer.client.gone:
            peer.ever_stalled = True
            self.perform(peer.client.stall, turns)

    @precondition(somebody_is_open)
    @rule(peer=OPEN, beyond=st.integers(0, 1), resumes=st.booleans())
    def fill(self, peer: Peer, beyond: int, resumes: bool) -> None:
        """Fill a stalled client's outbox to its bound, or exceed it by one message."""
        assert peer.ws is not None
        self.stall(peer, None)
        while not peer.waiting and not peer.ws.closed:
            self.tell(peer, 1)
        if peer.ws.closed:
            return
        self.tell(peer, LIMITS.outbox_messages - peer.waiting + beyond)
        assert peer.ws.closed is (beyond == 1), peer
        if resumes:
            self.perform(peer.client.resume, None)

    @precondition(somebody_is_open)
    @rule(peer=OPEN, seconds=st.sampled_from([59.0, 61.0, None]))
    def stall_the_handler(self, peer: Peer, seconds: float | None) -> None:
        """Let a stalled client block its own handler, up to the limit."""
        self.stall(peer, None)
        while peer.client.is_read and not (peer.waiting or peer.obeying or peer.causes):
            self.order(peer, [("echo", ROOMS[0], False, 1)], peer, 0.0, None)
        if seconds is None:
            self.client_vanishes(peer, None)
        else:
            self.let_time_pass(seconds)

    def tell(self, peer: Peer, count: int) -> None:
        """Send messages to one connection."""

        async def tell() -> None:
            assert peer.ws is not None
            for _ in range(count):
                text = self.world.make_text()
                peer.expected.append(text)
                await self.manager.send_to_connection(peer.ws.id, text)

        self.perform(tell, None)

    @precondition(somebody_is_there)
    @rule(peer=PRESENT, turns=TURNS)
    def resume(self, peer: Peer, turns: int | None) -> None:
        if peer.client.stalled:
            self.perform(peer.client.resume, turns)

    @precondition(somebody_is_open)
    @rule(peer=OPEN, code=st.sampled_from([1000, 1001, 4999]), turns=TURNS)
    def client_closes(self, peer: Peer, code: int, turns: int | None) -> None:
        if peer.client.opened and not peer.client.gone:
            peer.causes.append(("the client closed", code))
            self.perform(lambda: peer.client.close(code), turns)

    @precondition(somebody_is_there)
    @rule(peer=PRESENT, turns=TURNS)
    def client_vanishes(self, peer: Peer, turns: int | None) -> None:
        if not peer.client.gone:
            peer.causes.append(("the client vanished", 0))
            self.perform(peer.client.vanish, turns)

    @precondition(somebody_is_there)
    @rule(peer=PRESENT, turns=TURNS)
    def cancel(self, peer: Peer, turns: int | None) -> None:
        cause = ("the task was cancelled", CANCELLED)
        if peer.causes.count(cause) < 2:
            peer.causes.append(cause)
            self.perform(peer.client.task.cancel, turns)

    @precondition(somebody_is_open)
    @rule(seconds=st.sampled_from([0.5, 6.0, 11.0, 61.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.perform(lambda: asyncio.sleep(seconds), None)

    def forget(self) -> None:
        """Remove released connections from the model's rooms."""
        for peer in self.world.peers.values():
            if peer.over:
                for room in ROOMS:
                    self.world.leave(peer, room)

    async def check(self) -> None:
        """Check the invariants of an idle loop."""
        assert not self.world.complaints
        assert not self.loop.failures
        for room, members in self.world.rooms.items():
            real = [connection.id for connection in self.manager._registry.synced.members(room)]
            assert real == [peer.ws.id for peer in members if peer.ws is not None]
            users = [peer.user for peer in members if peer.opened and peer.user is not None]
            assert await self.manager.members(room) == list(dict.fromkeys(users))
        seen = [room for room in ROOMS if any(peer.opened for peer in self.world.rooms[room])]
        assert await self.manager.get_rooms_by_prefix("") == sorted(seen)
        alive = [peer for peer in self.world.peers.values() if peer.opened and not peer.over]
        assert len(self.manager) == len(alive)
        for peer in self.world.peers.values():
            self.check_peer(peer)

    def check_peer(self, peer: Peer) -> None:
        """Check one connection's invariants in an idle loop."""
        client = peer.client
        assert client.violations == [], peer
        if peer.overflown and not peer.opened and not peer.causes:
            peer.causes.append(("overflow in on_connect", 0))
        peer.gone_early = client.gone and not peer.opened
        if peer.busy_since is not None:
            assert "the client vanished" not in dict(peer.causes), peer
            assert self.loop.time() <= peer.busy_since + LIMITS.stall_seconds, peer
        if peer.ws is not None and peer.opened and not peer.causes and peer.ws.closed:
            too_many = peer.waiting > LIMITS.outbox_messages
            assert peer.ws.close_code == SLOW_READER, peer
            assert too_many or peer.stalled_its_handler or not client.is_read, peer
            peer.causes.append(("reads too slowly", SLOW_READER))
        may_open = peer.plan.decision == "accept" and not peer.causes
        assert peer.opened or not (may_open and peer.go_on.is_set()), peer
        assert peer.handled == peer.sent[: len(peer.handled)], peer
        assert client.received == peer.expected[: len(client.received)], peer
        assert len(peer.disconnects) <= peer.opened, peer
        if peer.opened and not peer.causes:
            assert peer.disconnects == [], peer
            assert peer.waiting <= LIMITS.outbox_messages, peer
            assert peer.obeying or peer.handled == peer.sent or not client.is_read, peer
            assert client.is_read or client.stalled or peer.obeying, peer
            if not client.stalled:
                assert client.received == peer.expected, peer

    def check_end(self, peer: Peer) -> None:
        """Check one connection's invariants after its end."""
        assert peer.client.task.done(), peer
        assert len(peer.disconnects) == peer.opened, peer
        if peer.disconnect_began is not None:
            seconds = min(peer.plan.disconnect_seconds, LIMITS.on_disconnect_seconds)
            assert peer.disconnect_ended == peer.disconnect_began + seconds, peer
        if peer.last_order is not None and peer.causes[0][0] in OWN_ENDS:
            assert peer.handled[-1] == peer.last_order, f"{peer!r} handled a message after its end"
        if not peer.opened or len(peer.causes) != 1:
            return
        ((cause, code),) = peer.causes
        by_client = cause.startswith("the client")
        codes = {code} if code else {1005, 1006}
        if peer.ever_stalled:
            codes.add(SLOW_READER)
        assert set(peer.disconnects) <= codes, f"{peer!r} got {peer.disconnects}"
        cut_off = peer.send_failed or peer.cut_off
        if peer.disconnects == [code] and by_client and not cut_off:
            assert peer.handled == peer.sent, peer
        if not by_client and cause != "the task was cancelled" and not peer.ever_stalled:
            assert peer.certain is not None, peer
            assert len(peer.client.received) >= peer.certain, peer
            assert peer.client.close_code == code, peer

    def check_log(self) -> None:
        """Check that only planned errors have been logged."""
        for record in self.records.records:
            error = record.exc_info[1] if record.exc_info else None
            planned = isinstance(error, (PlannedCrash, asyncio.CancelledError, TimeoutError)) or (
                error is None and " took more than " in record.getMessage()
            )
            assert planned, record.getMessage()

    @initialize(ending=st.sampled_from([ending_by_clients, ending_by_server]))
    def choose_ending(self, ending: Callable[[Connections], None]) -> None:
        self.ending = ending

    def teardown(self) -> None:
        """End all connections, and check that nothing is left."""
        try:
            self.perform(lambda: None, None)
            self.ending(self)
            self.perform(lambda: asyncio.sleep(FOR_EVER_SECONDS), None)
            for peer in self.world.peers.values():
                self.check_end(peer)
            assert (len(self.manager), self.manager._registry.synced.members_by_room) == (0, {})
            assert self.manager._registry.synced.rooms_by_member == {}
            assert not asyncio.all_tasks(self.loop)
            assert not [task for task in self.tasks if task.exception()]
            self.check_log()
        finally:
            logging.getLogger().removeHandler(self.records)
            self.loop.close()


class PortableConnections(Connections):
    def make_client(self, peer: Peer, extra: int) -> VirtualClient:
        return PortableClient(
            self.app,
            f"/{peer.name}",
            lambda: self.world.accepted.append(peer),
            accept_iterations=extra % 3,
            raises_after_loss=extra < 3,
        )


class PushConnections(Connections):
    def __init__(self) -> None:
        super().__init__()
        self.config = uvicorn.Config(
            self.app, ws=PushProtocol, ws_ping_interval=None, log_config=None, lifespan="off"
        )
        self.config.load()

    def make_client(self, peer: Peer, extra: int) -> VirtualClient:
        return PushClient(
            self.app,
            f"/{peer.name}",
            lambda: self.world.accepted.append(peer),
            config=self.config,
            deflate=extra == 1,
            accelerated=extra < 3,
            high_water_bytes=40 if extra == 2 else 0,
        )


# Deterministic examples; none is stored on disk.
SETTINGS = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    report_multiple_bugs=False,
)
TestPortableConnections = PortableConnections.TestCase
TestPortableConnections.settings = SETTINGS
TestPushConnections = PushConnections.TestCase
TestPushConnections.settings = SETTINGS
