"""The state machine of a client, without input or output: the same as in ``web/realtime.js``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from ..close_codes import ABNORMAL_CLOSURE, NORMAL_CLOSURE
from ..messages import ENCODER
from .core import Core
from .envelope import decode
from .liveness import Liveness
from .options import Options
from .platform import Platform, Socket
from .policy import announced_delay, is_terminal_code
from .positions import Positions, Progress
from .requests import Requests
from .rooms import Rooms
from .sign_in import FetchToken, SignIn
from .status import State, Status

logger = logging.getLogger(__name__)

# One per room of a connection, and spare ones for epochs that have ended.
MAX_POSITIONS = 16
SERVER_REFERENCE = "server:"


class Machine(Core):
    """A client that reconnects: statuses, a bounded queue, requests, recovery, liveness, rooms.

    Args:
        url: A ``ws:`` or ``wss:`` URL.
        options: The bounds and delays.
        platform: Clocks, timers and sockets.
        client_id: 128 random bits in hexadecimal by which the server knows this client on all its connections.
        headers: Headers of each handshake.
        fetch_token: Fetches a token for each handshake; ``None`` for no token.
    """

    def __init__(
        self,
        url: str,
        options: Options,
        platform: Platform,
        *,
        client_id: str = "",
        headers: Mapping[str, str] | None = None,
        fetch_token: FetchToken | None = None,
    ) -> None:
        super().__init__(options, platform)
        self.url = url
        self.client_id = client_id
        self.headers = dict(headers or {})
        self.last_reference = 0
        self.positions = Positions(MAX_POSITIONS)
        self.liveness = Liveness(self)
        self.requests = Requests(self)
        self.rooms = Rooms(self)
        self.sign_in = SignIn(self, fetch_token)
        self.connection: Machine = self

    @property
    def queued_messages(self) -> int:
        """The number of messages that wait for a connection, an answer to a probe, or an earlier reply."""
        return len(self.queue) + self.requests.waiting

    def next_reference(self) -> str:
        """Return a new reference: unique for this client, whichever of its rooms sends it."""
        self.last_reference += 1
        return str(self.last_reference)

    def start(self) -> None:
        """Start the first attempt, or the next one."""
        self.stop_timer()
        self.sign_in.stop()
        self.liveness.reset()
        self.attempt += 1
        if not self.sign_in.has_token:
            self.open_socket(None)
        self.start_timer(self.options.connect_timeout_seconds, self.on_connect_timeout)
        self.set_status(Status(State.CONNECTING))
        if self.sign_in.has_token:
            self.sign_in.fetch_for_handshake()

    def on_connect_timeout(self) -> None:
        """Give up an attempt: there is no token, or no answer to the handshake."""
        reason = "token: no result in time" if self.socket is None else ""
        self.lose(self.socket, ABNORMAL_CLOSURE, reason)

    def open_socket(self, token: str | None) -> None:
        """Start a handshake."""
        headers = (
            self.headers if token is None else self.headers | {"Authorization": f"Bearer {token}"}
        )
        self.socket = self.platform.connect(self.url_now(), headers, self)

    def url_now(self) -> str:
        """Return the URL with the positions, the ids of earlier connections, and the id of the client."""
        query = [("since", each) for each in self.positions.since]
        query += [("connection", each) for each in self.positions.connection_ids]
        query += [("client", self.client_id)]
        parts = urlsplit(self.url)
        joined = "&".join(filter(None, [parts.query, urlencode(query)]))
        return urlunsplit(parts._replace(query=joined))

    def write(self, text: str) -> bool:
        """Send or queue a message; return whether it was accepted."""
        base = self.connection
        is_ready = base.socket is not None and base.socket.is_open and not base.liveness.is_probing
        if self.state is State.OPEN and self.socket is not None and is_ready:
            if self.socket.buffered_bytes > self.options.max_buffered_bytes:
                return False
            self.socket.send(text, partial(self.requeue, text))
            return True
        if self.state is State.CLOSED or self.queued_messages >= self.options.max_queued_messages:
            return False
        self.queue.append(text)
        return True

    def requeue(self, text: str) -> None:
        """Queue a message that a lost connection has not written, before those that were sent after it.

        There may be more of them than the bound of the queue; their size has the bound of a connection. A request that
        has failed meanwhile is dropped.
        """
        if self.state is not State.CLOSED and self.requests.is_wanted(text):
            self.queue.insert(0, text)

    def send_queues(self) -> None:
        """Send what has been queued, in all rooms."""
        for machine in (self, *self.rooms.machines.values()):
            if machine.socket is not None:
                machine.send_queue(machine.socket)

    def retry_now(self) -> None:
        """Retry at once; no effect in any state but ``WAITING``."""
        if self.state is State.WAITING:
            self.start()

    def reconnect(self) -> None:
        """Replace the connection with a new one; no effect in any state but ``OPEN``."""
        socket = self.socket
        if self.state is not State.OPEN or socket is None:
            return
        self.reset_if_stable()
        socket.return_unsent()
        self.socket = self.opened_at = None
        socket.close()
        self.requests.reject_sent(is_final=False)
        self.start()
        self.rooms.drop()

    def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Close for good: queued messages are discarded, and no further message is received."""
        if self.state is State.CLOSED:
            return
        socket, self.socket = self.socket, None
        if socket is not None:
            if self.liveness.is_probing:
                self.send_queue(socket)
            socket.close(code, reason)
        self.end(code, reason)

    # The events of sockets.

    def on_open(self, socket: Socket) -> None:
        """Join the rooms, then send what was queued."""
        if socket is not self.socket:
            return
        self.stop_timer()
        self.opened_at = self.platform.monotonic()
        self.rooms.join_waiting()
        self.send_queue(socket)
        self.set_status(Status(State.OPEN))

    def on_end(self, socket: Socket, code: int, reason: str, *, is_dropped: bool = False) -> None:
        """The connection has ended."""
        self.lose(socket, code, reason, is_dropped=is_dropped)

    def on_message(self, socket: Socket, data: object) -> None:
        """Receive a message; one that is not valid is logged and ignored."""
        if socket is not self.socket:
            return
        self.liveness.on_message(socket)
        if isinstance(data, str):
            self.message_size = len(data)
        message = decode(data)
        if message is None:
            logger.warning("ignored a message from the server: it is not a JSON object with a type")
            return
        if self.connection is self and self.rooms.refuse_all(message):
            pass
        elif isinstance(message.get("room"), str) and self.connection is self:
            self.rooms.receive(message)
        elif message["type"] is None:
            # It has a position, even if no application can receive it.
            self.positions.advance(message.get("id"), None, message["payload"])
            logger.warning("ignored a message from the server: it has no type")
        else:
            self.receive(socket, message)

    def receive(self, socket: Socket, message: dict[str, Any]) -> None:
        """Receive a valid message of this connection, or of this room."""
        message_type, payload = message["type"], message["payload"]
        if message_type == "serverPosition":
            # First: a room that finds a gap replaces the connection, which ends this expectation.
            self.liveness.expect(socket, payload.get("heartbeatSeconds"))
            if payload.get("rooms"):
                self.rooms.receive_positions(payload["rooms"])
        progress = self.positions.advance(message.get("id"), message_type, payload)
        if progress is Progress.GAP:
            self.recover(socket)
        if progress is not Progress.NEW:
            return
        reference = message.get("ref")
        if isinstance(reference, str) and reference.startswith(SERVER_REFERENCE):
            self.on_request(message, lambda reply: self.reply(socket, reference, reply))
        elif reference is not None:
            self.requests.settle(str(reference), message_type, payload)
        elif not self.sign_in.receive(socket, message_type, payload):
            self.on_message_received(message)

    def recover(self, socket: Socket) -> None:
        """Messages are missing: get them by a reconnection."""
        self.lose(socket, ABNORMAL_CLOSURE, "")

    def reply(self, socket: Socket, reference: str, payload: object) -> None:
        """Reply to a request of the server, over the connection that it came from."""
        if socket is self.socket and socket.is_open:
            message = {"type": "clientReply", "ref": reference, "payload": payload}
            socket.send(ENCODER.encode(message).decode())

    # Steps of the methods above.

    def lose(
        self, socket: Socket | None, code: int, reason: str, *, is_dropped: bool = False
    ) -> None:
        """Wait for the next attempt, or close for good after a terminal code.

        Args:
            socket: The lost connection; ``None`` before the handshake.
            code: The close code.
            reason: The close reason.
            is_dropped: For a room: its connection is lost, so it is joined again without a delay of its own.
        """
        if socket is not self.socket:
            return
        now = self.platform.monotonic()
        self.reset_if_stable()
        if is_terminal_code(code):
            self.end(code, reason)
        else:
            if socket is not None:
                socket.return_unsent()
            self.release()
            self.requests.reject_sent(is_final=False)
            delay = announced_delay(code, reason)
            if delay is None:
                delay = self.retry_delay(self.failures)
            self.failures += 1
            self.start_timer(delay, self.retry_now)
            self.set_status(Status(State.WAITING, now + delay, code, reason))
            if is_dropped:
                self.failures -= 1
                self.retry_now()
        if socket is not None:
            socket.close()
        self.rooms.drop()

    def end(self, code: int, reason: str) -> None:
        """Close for good."""
        self.release()
        self.requests.reject_sent(is_final=True)
        self.queue.clear()
        self.rooms.end(code, reason)
        self.set_status(Status(State.CLOSED, None, code, reason))

    def fail_requests(self, code: str) -> None:
        """Fail all requests without a reply."""
        for request in list(self.requests.pending.values()):
            self.requests.fail(request, code)

    def release(self) -> None:
        """Forget the connection and everything that ends with it."""
        self.stop_timer()
        self.sign_in.stop()
        self.attempt += 1
        self.socket = self.opened_at = None
        self.liveness.is_probing = False
