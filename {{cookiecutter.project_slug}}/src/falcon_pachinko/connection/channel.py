"""A channel: one room of a connection that is in several rooms."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from msgspec import UNSET, UnsetType

from ..close_codes import ABNORMAL_CLOSURE, NORMAL_CLOSURE, close_event
from .carrier import Channels
from .channel_inbox import ChannelInbox, Demultiplexer
from .channel_outbox import ChannelOutbox
from .connection import Connection
from .inbox import Event
from .outbox import OnFailure, Send
from .state import CONNECTING, OPEN, State
from .transaction import AcceptTransaction


class ChannelEnds:
    """Makes the inbox and the outbox of a channel, as a server does for a connection: a ``PushExtension``."""

    flood = 0.0

    def __init__(self, inbox: ChannelInbox, outbox: ChannelOutbox) -> None:
        self.inbox = inbox
        self.outbox = outbox

    async def receive(self) -> Event:
        """Fail: messages are in the inbox."""
        raise NotImplementedError

    async def send(self, event: Event) -> None:
        """Fail: messages are in the outbox."""
        raise NotImplementedError

    def make_inbox(self, on_disconnect: Callable[[Event], None]) -> ChannelInbox:
        """Return the inbox; the connection reports its end to :meth:`Channel.end`."""
        return self.inbox

    def make_outbox(self, send: Send, on_failure: OnFailure) -> ChannelOutbox:
        """Return the outbox; the connection is the one that fails."""
        return self.outbox


class Channel(Connection):
    """One room of a connection that is in several rooms: the ``ws`` of the handlers of its resource.

    Its messages carry the name of the room. A close of it leaves the room and closes nothing else; a client that
    reads too slowly loses the whole connection.

    Attributes:
        room: The client's name of the room.
        left: Whether the client has asked to leave.

    Args:
        carrier: The connection.
        room: The client's name of the room.
        ref: The ``ref`` of its request to join.
        node_id: The prefix of the id.
    """

    __slots__ = ("_carrier", "left", "room")

    # A channel has the parts that ChannelEnds makes, for its whole life.
    _carrier: Connection
    _inbox: ChannelInbox  # pyright: ignore[reportIncompatibleVariableOverride]
    _outbox: ChannelOutbox  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        carrier: Connection,
        demultiplexer: Demultiplexer,
        room: str,
        ref: str | UnsetType = UNSET,
        node_id: str = "",
    ) -> None:
        outbox = ChannelOutbox(carrier._outbox, room, ref)
        ends = ChannelEnds(ChannelInbox(demultiplexer), outbox)
        super().__init__(ends.receive, ends.send, ends, node_id)
        self._carrier = carrier  # pyright: ignore[reportIncompatibleMethodOverride]
        self.room = room
        self.left = False
        self.take_identity()

    def __repr__(self) -> str:
        return f"<Channel {self.id} of {self._carrier.id} user={self.user!r} {self.state.name.lower()}>"

    async def accept(
        self, subprotocol: str | None = None, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Do nothing: the response to the handshake of the connection has been sent."""

    def abort(self, code: int, reason: str) -> None:
        """Close the whole connection, whose client does not read; a channel that is not accepted is refused."""
        if self.state is CONNECTING:
            self._start_closing(close_event(code, reason))
        elif not self.closed:
            self._carrier.abort(code, reason)

    async def leave(self, ref: str | UnsetType) -> None:
        """Leave the room for a request of the client, with the request's ``ref``."""
        if not self.closed:
            self.left = True
            self._outbox.leave_ref = ref
            await self.close(NORMAL_CLOSURE)

    def take_identity(self) -> None:
        """Take over the user and the session of the connection, but for its end, which closes the connection."""
        carrier = self._carrier
        self.identity, self.session_id = carrier.identity, carrier.session_id
        self.signed_in_at, self.client_id = carrier.signed_in_at, carrier.client_id
        if carrier.user is not None:
            self.user = carrier.user

    def end(self, close_code: int | None) -> None:
        """End with the connection; messages that have arrived may still be handled."""
        if not self.closed:
            self._on_disconnect({"code": close_code or ABNORMAL_CLOSURE})

    @property
    def _siblings(self) -> Channels:
        assert self._carrier._channels is not None
        return self._carrier._channels

    @property
    def _rate_key(self) -> Hashable:
        """What the rate of messages is counted for: all rooms together."""
        return self._carrier._rate_key

    @property
    def _is_accepted(self) -> bool:
        """Whether a client sees close codes: always."""
        return True

    async def _accept_handshake(self) -> None:
        """Do nothing: the connection has been accepted."""

    async def _open(self) -> AcceptTransaction | None:
        """Send the reply to the client's request, then its own messages of the transaction."""
        await self._siblings.wait_turn(self)
        if self._transaction is not None:
            self._outbox.confirm()
        return await super()._open()

    def _set_state(self, state: State, close_code: int | None) -> None:
        super()._set_state(state, close_code)
        if state is not OPEN:
            self._siblings.on_channel_closed(self)
