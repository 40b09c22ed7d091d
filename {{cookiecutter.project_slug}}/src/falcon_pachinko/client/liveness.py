"""The detection of dead connections, by the heartbeat that the server announces."""

from __future__ import annotations

from ..close_codes import ABNORMAL_CLOSURE
from .core import Core
from .platform import Socket

HEARTBEAT_MARGIN_SECONDS = 5.0
# A timer that is later than this was suspended: messages may be waiting behind it.
LATE_SECONDS = 2.0
# The longest timer that platforms support.
MAX_TIMER_SECONDS = (2**31 - 1) / 1_000
PROBE = '{"type":"clientPing","payload":{}}'


class Liveness:
    """The time since the last message, and a probe where it is too long.

    Attributes:
        is_probing: Whether ``clientPing`` has been sent and nothing has arrived since. Messages are queued meanwhile.
        silence_seconds: The longest time without a message; 0 while the server has announced no heartbeat.
    """

    def __init__(self, machine: Core) -> None:
        self.machine = machine
        self.is_probing = False
        self.silence_seconds = 0.0
        self.received_at = self.instant()

    def instant(self) -> tuple[float, float]:
        """Return the present on two clocks: one may stand still during a sleep, the other one may be set."""
        platform = self.machine.platform
        return platform.monotonic(), platform.wall()

    def since(self, past: tuple[float, float]) -> float:
        """Return the time that has passed, in seconds."""
        monotonic, wall = self.instant()
        return max(monotonic - past[0], wall - past[1])

    def reset(self) -> None:
        """Forget the heartbeat of an earlier connection."""
        self.silence_seconds = 0.0
        self.is_probing = False

    def on_message(self, socket: Socket) -> None:
        """Record that something has arrived; it answers a probe."""
        machine = self.machine
        self.received_at = self.instant()
        if self.is_probing:
            self.is_probing = False
            machine.send_queues()
            self.watch(socket)

    def expect(self, socket: Socket, heartbeat_seconds: object) -> None:
        """Expect messages at the interval that the server announces."""
        if isinstance(heartbeat_seconds, bool) or not isinstance(heartbeat_seconds, (int, float)):
            return
        if not heartbeat_seconds > 0:
            return
        is_first = not self.silence_seconds
        given = self.machine.options.heartbeat_timeout_seconds
        self.silence_seconds = given or 2 * heartbeat_seconds + HEARTBEAT_MARGIN_SECONDS
        if is_first:
            self.watch(socket)

    def watch(self, socket: Socket) -> None:
        """Check at the end of the longest silence whether a message has arrived.

        PERF: a message does not restart the timer; a check that comes too early does.
        """

        def check() -> None:
            if self.machine.full_streams:
                self.received_at = self.instant()
            excess = self.since(self.received_at) - self.silence_seconds
            # A timer may be early by the resolution of its clock.
            if excess < -0.0001:
                self.watch(socket)
            elif excess < LATE_SECONDS:
                self.machine.lose(socket, ABNORMAL_CLOSURE, "")
            else:
                self.probe(socket)

        left = self.silence_seconds - self.since(self.received_at)
        self.machine.start_timer(min(max(left, 0.0), MAX_TIMER_SECONDS), check)

    def wake(self) -> None:
        """Handle a sign that the connection may have died unnoticed, such as a change of the network."""
        machine = self.machine
        machine.retry_now()
        # An answer cannot be read while a queue of received messages is full.
        is_reading = not machine.full_streams
        if (
            machine.socket is not None
            and self.silence_seconds
            and not self.is_probing
            and is_reading
        ):
            self.probe(machine.socket)

    def probe(self, socket: Socket, *, is_first: bool = True) -> None:
        """Ask the server for an answer, and reconnect if nothing arrives in time.

        Args:
            socket: The connection.
            is_first: Whether to ask again if the timer is late.
        """
        self.is_probing = True
        sent_at, seconds = self.instant(), self.machine.options.probe_timeout_seconds

        def check() -> None:
            if is_first and self.since(sent_at) >= seconds + LATE_SECONDS:
                self.probe(socket, is_first=False)
            else:
                self.machine.lose(socket, ABNORMAL_CLOSURE, "")

        self.machine.start_timer(seconds, check)
        if socket.is_open:
            socket.send(PROBE)
