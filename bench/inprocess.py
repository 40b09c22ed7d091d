"""The work of Python per message in one process, without sockets: a count that guards CI.

The protocol gets the bytes of frames and writes to a transport that only counts, so neither the kernel
nor another process takes part. What is counted are executed instructions of Python's bytecode and calls of
functions in C: the same code gives the same count on any machine, however busy it is. CPU time per message
is printed beside it; other programs change that by a fifth, even relative to a loop in the same process.

The count has no weight for an instruction, and does not see the work within C: compare servers with
``python -m bench``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import struct
import sys
import time
from types import FrameType
from typing import Any

import uvicorn
import uvloop
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.utils import apply_mask

from falcon_pachinko import lifespan
from falcon_pachinko.uvicorn import PushProtocol

from .servers import bare, ours

HANDSHAKE = (
    b"GET %b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT = b'{"type":"post","payload":{"text":"%b"}}' % (b"somebody says something, " * 3)
MASK = b"\x12\x34\x56\x78"
FRAME = struct.pack("!BB", 0x81, 0x80 | len(TEXT)) + MASK + apply_mask(TEXT, MASK)
CONNECTIONS = 100
# The iterations of the event loop in which a message, and all handshakes, must have been answered.
ITERATIONS, HANDSHAKE_ITERATIONS = 50, 2_000
# Of a repetition, all connections send a message each, or one sends to all.
REPETITIONS = 3
ROUNDS = 2

# The name of a measurement, the protocol, the application, the path, and the deliveries per message.
CASES: dict[str, tuple[type[asyncio.Protocol], Any, bytes, int]] = {
    "echo, bare": (WebSocketsSansIOProtocol, bare.app, b"/echo", 1),
    "echo, portable": (WebSocketsSansIOProtocol, ours.app, b"/echo", 1),
    "echo, push": (PushProtocol, ours.app, b"/echo", 1),
    "delivery, bare": (WebSocketsSansIOProtocol, bare.app, b"/room/bare", CONNECTIONS),
    "delivery, portable": (WebSocketsSansIOProtocol, ours.app, b"/room/portable", CONNECTIONS),
    "delivery, push": (PushProtocol, ours.app, b"/room/push", CONNECTIONS),
}


class CountingSocket:
    """The part of a socket that uvicorn reads."""

    family = 2

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 8000

    def getpeername(self) -> tuple[str, int]:
        return "127.0.0.1", 40_000

    def fileno(self) -> int:
        return -1


class CountingTransport(asyncio.Transport):
    """A transport that counts its writes."""

    protocol: Any

    def __init__(self) -> None:
        super().__init__({"socket": CountingSocket(), "peername": ("127.0.0.1", 40_000)})
        self.writes = 0
        self.closing = False

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: object) -> None:
        self.writes += 1

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Connections:
    """The connections of a case."""

    def __init__(
        self, protocol: type[asyncio.Protocol], app: Any, path: bytes, deliveries: int
    ) -> None:
        config = uvicorn.Config(
            app, ws_per_message_deflate=False, lifespan="off", log_level="warning"
        )
        config.load()
        self.deliveries = deliveries
        self.transports = [CountingTransport() for _ in range(CONNECTIONS)]
        create: Any = protocol
        options = {"config": config, "server_state": ServerState(), "app_state": {}}
        for transport in self.transports:
            each = create(**options, _loop=asyncio.get_running_loop())
            transport.set_protocol(each)
            each.connection_made(transport)
            each.data_received(HANDSHAKE % path)

    async def wait_for_writes(self, expected: int, iterations: int = ITERATIONS) -> None:
        """Wait until the last connection has written so often."""
        last = self.transports[-1]
        for _ in range(iterations):
            if last.writes >= expected:
                return
            await asyncio.sleep(0)
        raise RuntimeError(f"a connection wrote {last.writes} of {expected} times")

    async def exchange(self) -> None:
        """Send messages, and wait for the answers."""
        senders = self.transports if self.deliveries == 1 else self.transports[:1]
        for _ in range(REPETITIONS):
            expected = self.transports[-1].writes + 1
            for sender in senders:
                sender.protocol.data_received(FRAME)
            await self.wait_for_writes(expected)

    async def close(self) -> None:
        """End all connections."""
        for transport in self.transports:
            transport.protocol.connection_lost(None)
        for _ in range(ITERATIONS):
            await asyncio.sleep(0)


class Counter:
    """Counts the instructions of Python and the calls of C, except those of this module.

    Attributes:
        instructions: The number of executed instructions.
        calls_of_c: The number of calls.
    """

    def __init__(self) -> None:
        self.instructions = self.calls_of_c = 0

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        """Count an instruction; see ``sys.settrace``."""
        if event == "call":
            if frame.f_code.co_filename == __file__:
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self.instructions += event == "opcode"
        return self.trace

    def profile(self, frame: FrameType, event: str, argument: object) -> None:
        """Count a call; see ``sys.setprofile``."""
        self.calls_of_c += event == "c_call" and frame.f_code.co_filename != __file__

    async def count(self, connections: Connections) -> None:
        """Count the work of messages."""
        before_trace, before_profile = sys.gettrace(), sys.getprofile()
        sys.settrace(self.trace)
        sys.setprofile(self.profile)
        try:
            await connections.exchange()
        finally:
            sys.setprofile(before_profile)
            sys.settrace(before_trace)


async def measure() -> dict[str, dict[str, float]]:
    """Return the work of each case per delivery: the least of several rounds."""
    found: dict[str, dict[str, float]] = {}
    async with lifespan(ours.app):
        for name, case in CASES.items():
            connections = Connections(*case)
            await connections.wait_for_writes(1, HANDSHAKE_ITERATIONS)
            await connections.exchange()
            gc.collect()
            rounds = [await measure_round(connections) for _ in range(ROUNDS)]
            await connections.close()
            found[name] = {
                figure: min(each[figure] for each in rounds) / (REPETITIONS * CONNECTIONS)
                for figure in rounds[0]
            }
    return found


async def measure_round(connections: Connections) -> dict[str, float]:
    """Return the work of the messages of a round."""
    counter = Counter()
    await counter.count(connections)
    started = time.thread_time()
    await connections.exchange()
    seconds = time.thread_time() - started
    return {
        "instructions": counter.instructions,
        "calls_of_c": counter.calls_of_c,
        "cpu_us": seconds * 1e6,
    }


def main() -> None:
    """Print the costs as JSON."""
    print(json.dumps(uvloop.run(measure()), indent=1))


if __name__ == "__main__":
    main()
