"""A simulated environment for the state machine, and the interpreter of the vectors that realtime.js shares."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from falcon_pachinko.client.machine import Machine
from falcon_pachinko.client.options import Options
from falcon_pachinko.client.platform import SocketEvents
from falcon_pachinko.client.room_machine import RoomMachine, join_room
from falcon_pachinko.client.status import Status
from falcon_pachinko.errors import RequestFailed

FILE = Path(__file__).parents[2] / "overlay/web/realtime_vectors.json"
VECTORS: dict[str, Any] = json.loads(FILE.read_text("utf-8"))

REQUEST_SECONDS, ONCE_SECONDS = 10.0, 60.0
OPTIONS = {
    "baseDelayMs": "base_delay_seconds",
    "maxDelayMs": "max_delay_seconds",
    "stableAfterMs": "stable_after_seconds",
    "connectTimeoutMs": "connect_timeout_seconds",
    "heartbeatTimeoutMs": "heartbeat_timeout_seconds",
    "probeTimeoutMs": "probe_timeout_seconds",
}
COUNTS = {"maxQueuedMessages": "max_queued_messages", "maxBufferedBytes": "max_buffered_bytes"}


def options_of(given: Mapping[str, int]) -> Options:
    """Return the options of a vector, whose times are in milliseconds."""
    values: dict[str, Any] = {OPTIONS[k]: v / 1_000 for k, v in given.items() if k in OPTIONS}
    return Options(**values, **{COUNTS[k]: v for k, v in given.items() if k in COUNTS})


class FakeSocket:
    """A socket whose server side is the vector."""

    def __init__(self, url: str, headers: Mapping[str, str], events: SocketEvents) -> None:
        self.url, self.headers, self.events = url, headers, events
        self.is_open = False
        self.buffered_bytes = 0
        self.sent: list[str] = []
        self.closings: list[tuple[int, str]] = []

    def send(self, text: str, unsent: Callable[[], object] | None = None) -> None:
        assert self.is_open, "it sends without a connection"
        self.sent.append(text)

    def return_unsent(self) -> None:
        pass

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.closings.append((code, reason))
        self.is_open = False

    def open(self) -> None:
        self.is_open = True
        self.events.on_open(self)

    def receive(self, message: object) -> None:
        self.events.on_message(self, json.dumps(message))

    def end(self, code: int, reason: str = "") -> None:
        self.is_open = False
        self.events.on_end(self, code, reason)


class FakeTimer:
    """A pending call of a simulation."""

    def __init__(self, simulation: "Simulation", at: float, call: Callable[[], object]) -> None:
        self.simulation, self.at, self.call = simulation, at, call
        simulation.timers.append(self)

    def cancel(self) -> None:
        if self in self.simulation.timers:
            self.simulation.timers.remove(self)


class Simulation:
    """Clocks, randomness, timers and sockets without waiting."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.clock_offset = 1_700_000_000.0
        self.timers: list[FakeTimer] = []
        self.soon: list[Callable[[], object]] = []
        self.sockets: list[FakeSocket] = []

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + self.clock_offset

    def random(self) -> float:
        return 0.5

    def call_later(self, seconds: float, call: Callable[[], object]) -> FakeTimer:
        return FakeTimer(self, self.now + seconds, call)

    def call_soon(self, call: Callable[[], object]) -> object:
        self.soon.append(call)
        return None

    def connect(self, url: str, headers: Mapping[str, str], events: SocketEvents) -> FakeSocket:
        self.sockets.append(FakeSocket(url, headers, events))
        return self.sockets[-1]

    @property
    def socket(self) -> FakeSocket:
        return self.sockets[-1]

    def settle(self) -> None:
        """Run the calls that are due."""
        while self.soon:
            self.soon.pop(0)()

    def pass_time(self, seconds: float) -> None:
        """Advance the clocks, and call the timers that expire."""
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer.at <= end + 1e-6]:
            first = min(due, key=lambda timer: timer.at)
            first.cancel()
            self.now = max(self.now, first.at)
            first.call()
        self.now = end

    def sleep(self, seconds: float) -> None:
        """Suspend the process: the only timer is late."""
        [timer] = self.timers
        timer.cancel()
        self.now += seconds
        timer.call()


class Watched:
    """A machine, with what it has reported since the last look."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.received: list[dict[str, Any]] = []
        self.statuses: list[Status] = []
        machine.on_message_received = self.received.append
        machine.on_status = self.statuses.append


class Run:
    """One vector."""

    def __init__(self, vector: Mapping[str, Any]) -> None:
        self.simulation = Simulation()
        self.listen = vector.get("listen", ())
        options = options_of(vector.get("options", {}))
        machine = Machine("ws://server.test/room", options, self.simulation, client_id="ab" * 16)
        self.client = Watched(machine)
        self.rooms: dict[str, Watched] = {}
        self.replies: dict[str, list[Any]] = {}
        self.errors: dict[str, str] = {}
        machine.start()

    def step(self, action: str, *given: Any, at: Watched | None = None) -> None:
        """Run one step, for the client or for a room."""
        watched = at or self.client
        machine, simulation = watched.machine, self.simulation
        if action == "open":
            simulation.socket.open()
        elif action == "end":
            simulation.socket.end(*given)
        elif action == "receive":
            simulation.socket.receive(*given)
        elif action == "pass":
            simulation.pass_time(given[0] / 1_000)
        elif action == "sleep":
            simulation.sleep(given[0] / 1_000)
        elif action == "setClock":
            simulation.clock_offset += given[0] / 1_000
        elif action == "wake":
            machine.liveness.wake()
        elif action == "buffer":
            simulation.socket.buffered_bytes = given[0]
        elif action == "closing":
            simulation.socket.is_open = False
        elif action == "send":
            text = json.dumps({"type": given[0], "payload": given[1]})
            assert machine.write(text) is given[2]
        elif action == "request":
            self.request(machine, *given)
        elif action == "retryNow":
            machine.retry_now()
        elif action == "reconnect":
            machine.reconnect()
        elif action == "close":
            machine.close(*given)
        elif action == "join":
            room: RoomMachine = join_room(machine, given[0])
            self.rooms[given[0]] = Watched(room)
            room.start()
        elif action == "leave":
            self.rooms[given[0]].machine.close()
        elif action == "room":
            self.step(*given[1], at=self.rooms[given[0]])
        else:
            assert action == "expect", f"unknown step {action}"
            self.expect(watched, given[0])
        simulation.settle()

    def request(
        self,
        machine: Machine,
        name: str,
        message_type: str,
        payload: object,
        how: Mapping[str, Any] | None = None,
    ) -> None:
        """Start a request whose result has a name."""
        how = how or {}
        is_once = how.get("once", False)
        default = ONCE_SECONDS if is_once else REQUEST_SECONDS
        reference = machine.next_reference()
        text = json.dumps({"type": message_type, "payload": payload, "ref": reference})

        def settle(error: RequestFailed | None, found: str, content: dict[str, Any]) -> None:
            if error is None:
                self.replies[name] = [found, content]
            else:
                self.errors[name] = error.code

        seconds = how["timeoutMs"] / 1_000 if "timeoutMs" in how else default
        machine.requests.start(reference, text, seconds, settle, is_once=is_once)

    def expect(self, watched: Watched, expected: Mapping[str, Any]) -> None:
        """Compare the state with the one that a vector expects."""
        found = {name: self.fact(watched, name) for name in expected}
        assert found == expected

    def fact(self, watched: Watched, name: str) -> Any:
        """Return the state."""
        machine, simulation = watched.machine, self.simulation
        socket, status = simulation.socket, machine.status
        query = parse_qs(urlsplit(socket.url).query)
        sent = [json.loads(text) for text in socket.sent]
        if name in ("received", "recoveries"):
            return self.take(watched, name)
        if name in ("replies", "errors"):
            source: dict[str, Any] = self.replies if name == "replies" else self.errors
            taken = dict(source)
            source.clear()
            return taken
        facts: dict[str, Callable[[], Any]] = {
            "state": lambda: status.state.value,
            "code": lambda: status.code,
            "reason": lambda: status.reason,
            "waitMs": self.wait_ms,
            "sockets": lambda: len(simulation.sockets),
            "closings": lambda: len(socket.closings),
            "queued": lambda: machine.queued_messages,
            "sent": lambda: sent,
            "sentTypes": lambda: [each["type"] for each in sent],
            "sentRefs": lambda: [each.get("ref") for each in sent],
            "since": lambda: query.get("since", []),
            "connection": lambda: query.get("connection", []),
            "clientIds": lambda: len(
                {parse_qs(urlsplit(each.url).query)["client"][0] for each in simulation.sockets}
            ),
        }
        return facts[name]()

    def wait_ms(self) -> int | None:
        """Return the time until the client's only timer."""
        assert len(self.simulation.timers) <= 1, "more than one timer"
        for timer in self.simulation.timers:
            return round((timer.at - self.simulation.now) * 1_000)
        return None

    def take(self, watched: Watched, name: str) -> list[Any]:
        """Return the messages of the types that a vector listens to, or the outcomes of recoveries."""
        if name == "recoveries":
            positions = [each for each in watched.received if each["type"] == "serverPosition"]
            watched.received = [each for each in watched.received if each not in positions]
            watched.machine.on_message_received = watched.received.append
            outcomes = [each["payload"].get("recovered") for each in positions]
            return [each for each in outcomes if each is not None]
        taken = [each for each in watched.received if each["type"] in self.listen]
        watched.received = [each for each in watched.received if each not in taken]
        watched.machine.on_message_received = watched.received.append
        return [[each["type"], each["payload"]] for each in taken]
