"""Compare the reader of plain text frames with websockets' parser on random bytes of a client.

python -m tests.framework.stress.frame_fuzz --minutes 10
"""

import argparse
import asyncio
import itertools
import random
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from uvicorn.server import ServerState
from websockets.utils import apply_mask

from falcon_pachinko import Limits
from falcon_pachinko.uvicorn.frames import SLICE_BYTES
from falcon_pachinko.uvicorn.protocol import PushSansIOProtocol

from ..support.servers import load_config
from ..support.stranger import BINARY, CLOSE, CONTINUATION, HANDSHAKE, PING, PONG, TEXT

MAX_BYTES = 66_000
LIMITS = Limits(message_fragments=6, inbox_messages=5, frames_per_second=1.0)
MAX_LOOP_ITERATIONS = 500
SIZES = (*(0, 1, 2, 7, 50, 124, 125, 126, 127, 128, 300, 4_080, 4_096), 65_535, 65_536, MAX_BYTES)
# Large messages are rare, so that more cases fit into a second.
WEIGHTS = (*(4, 4, 4, 8, 8, 4, 8, 8, 4, 4, 4, 1), 1, 0.3, 0.3, 0.3)
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a server has made of a client's bytes.

    Attributes:
        messages: The messages of the application.
        closed: The events of the disconnect.
        written: All bytes to the client, after the handshake.
        parsed_texts: The number of texts that websockets has parsed.
    """

    messages: list[str | bytes]
    closed: list[dict[str, Any]]
    written: bytes
    parsed_texts: int

    @property
    def last_frame(self) -> bytes:
        """The last frame to the client; all are shorter than 128 bytes."""
        start = 0
        while start + 2 + (self.written[start + 1 : start + 2] or b"\0")[0] < len(self.written):
            start += 2 + self.written[start + 1]
        return self.written[start:]

    @property
    def failed(self) -> bool:
        """Whether the server has closed the connection because of a frame."""
        return bool(self.closed) and self.last_frame[2:4] in FAILURES


FAILURES = {code.to_bytes(2, "big") for code in (1002, 1007, 1009, 1011, 4029)}


class Transport:
    """The part of a transport that the protocol uses."""

    def __init__(self, client: int) -> None:
        self.client = client
        self.written = bytearray()
        self.reading = True
        self.ended = False

    def write(self, data: bytes) -> None:
        assert not self.ended, data
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.ended

    def close(self) -> None:
        self.ended = True

    abort = close

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        # An address of its own, because frames are counted for each.
        address = (f"10.{self.client >> 16}.{self.client >> 8 & 255}.{self.client & 255}", 1)
        if name == "socket":
            names = {"getsockname": lambda: address, "getpeername": lambda: address}
            return SimpleNamespace(family=2, **names)
        return address if name in ("sockname", "peername") else default


class Parsing(PushSansIOProtocol):
    """The protocol, which counts the texts that websockets has parsed."""

    parsed_texts = 0

    def send_receive_event_to_app(self) -> None:
        self.parsed_texts += self.curr_msg_data_type == "text"
        super().send_receive_event_to_app()


class Parsed(Parsing):
    """The protocol without the reader of plain text frames."""

    accelerated = False


class Arena:
    """Servers for one client each, in the running event loop."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.clients = 0
        self.configs = {
            deflate: load_config(self.app, ws_max_size=MAX_BYTES, ws_per_message_deflate=deflate)
            for deflate in (False, True)
        }

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            event = await receive()
            self.events.append(event)
            if event["type"] == "websocket.disconnect":
                return

    async def run(self, kind: type[Parsing], reads: Iterable[bytes], deflate: bool) -> Outcome:
        """Let a client send bytes in these reads, and disconnect."""
        self.events = []
        self.clients += 1
        transport: Any = Transport(self.clients)
        state = ServerState()
        protocol = kind(self.configs[deflate], state, {})
        protocol.connection_made(transport)
        request = HANDSHAKE.removesuffix(b"\r\n") + DEFLATE if deflate else HANDSHAKE
        protocol.receive_handshake(request, False)
        assert protocol.inbox is not None
        protocol.inbox.limits = LIMITS
        await self.wait(lambda: protocol.handshake_complete)
        assert transport.written.startswith(b"HTTP/1.1 101 "), transport.written
        transport.written.clear()
        for number, data in enumerate(reads):
            if not await self.wait(lambda: transport.reading or transport.ended):
                raise AssertionError("reading is paused forever")
            if transport.ended:
                break
            protocol.data_received(data)
            if number % 3 == 0:
                await asyncio.sleep(0)
        await self.wait(lambda: not protocol.unparsed or transport.ended)
        protocol.connection_lost(None)
        for task in state.tasks.copy():
            await task
        messages = [e.get("text", e.get("bytes")) for e in self.events if "code" not in e]
        closed = [event for event in self.events if "code" in event]
        return Outcome(messages, closed, bytes(transport.written), protocol.parsed_texts)

    async def wait(self, condition: Callable[[], object]) -> bool:
        """Run the loop until a condition holds, within a bound; return whether it does."""
        for _ in range(MAX_LOOP_ITERATIONS):
            if condition():
                return True
            await asyncio.sleep(0)
        return bool(condition())

    async def compare(
        self, frames: list[bytes], reads: list[bytes], *, deflate: bool = False
    ) -> Outcome:
        """Check that both readers agree on the same reads; return what the faster one has made of them.

        Args:
            frames: The same bytes, in pieces of which none contains more than a frame.
            reads: The bytes as they are received.
            deflate: Whether compression is negotiated.
        """
        fast = await self.run(Parsing, reads, deflate)
        parsed = await self.run(Parsed, reads, deflate)
        finest = await self.run(Parsed, frames, deflate)
        assert fast.closed == parsed.closed
        assert fast.last_frame == parsed.last_frame
        if not parsed.failed:
            assert fast.written == parsed.written
            assert fast.messages == parsed.messages == finest.messages
            return fast
        # NOTE: websockets drops what precedes an error in the same slice, so it depends on how TCP splits the data.
        assert finest.messages[: len(fast.messages)] == fast.messages
        assert finest.messages[: len(parsed.messages)] == parsed.messages
        if max(map(len, reads)) <= SLICE_BYTES:
            assert fast.messages[: len(parsed.messages)] == parsed.messages
            assert fast.written == parsed.written
        return fast


def frame(rng: random.Random, first: int, data: bytes, form: int = 0, masked: bool = True) -> bytes:
    """Return a frame with a random mask.

    Args:
        rng: The source of the mask.
        first: The first byte.
        data: The payload, not masked.
        form: The bits of the length, 7, 16 or 64; by default the shortest.
        masked: Whether it is masked.
    """
    size = len(data)
    form = form or (7 if size < 126 else 16 if size < 65_536 else 64)
    mask = rng.randbytes(4)
    second = 0x80 if masked else 0
    if form == 7:
        head = bytes((first, second | size))
    else:
        head = bytes((first, second | (126 if form == 16 else 127)))
        head += struct.pack("!H" if form == 16 else "!Q", size)
    return head + (mask + apply_mask(data, mask) if masked else data)


def text(rng: random.Random, size: int) -> bytes:
    """Return valid UTF-8 of a size, with characters of 1 to 4 bytes."""
    alphabet = rng.choice(("ab", "aß", "€", "a\U0001f600", "{}\x00\x7f"))
    data = "".join(rng.choices(alphabet, k=min(size, 50))).encode()
    data = (data * (size // max(1, len(data)) + 1))[:size].decode(errors="ignore").encode()
    return data + b"x" * (size - len(data))


def size_of(rng: random.Random) -> int:
    return rng.choices(SIZES, WEIGHTS)[0]


def plain(rng: random.Random) -> list[bytes]:
    return [frame(rng, 0x80 | TEXT, text(rng, size_of(rng)))]


def fragmented(rng: random.Random) -> list[bytes]:
    """Return a message in fragments, with pings between them; a character may be in two of them."""
    parts, data = [], text(rng, rng.randrange(200))
    cuts = sorted(rng.choices(range(len(data) + 1), k=rng.randrange(1, LIMITS.message_fragments)))
    first = rng.choice((TEXT, BINARY))
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        parts.append(frame(rng, first, data[start:end]))
        first = CONTINUATION
        if rng.random() < 0.2:
            parts.append(frame(rng, 0x80 | PING, b"between"))
    last = max(index for index, part in enumerate(parts) if part[0] & 0x0F != PING)
    parts[last] = bytes([parts[last][0] | 0x80]) + parts[last][1:]
    return parts


GOOD: dict[str, Callable[[random.Random], list[bytes]]] = {
    "plain": plain,
    "binary": lambda rng: [frame(rng, 0x80 | BINARY, rng.randbytes(size_of(rng)))],
    "fragmented": fragmented,
    "long form": lambda rng: [frame(rng, 0x81, text(rng, rng.randrange(126)), 16)],
    "longest form": lambda rng: [frame(rng, 0x81, text(rng, size_of(rng)), 64)],
    "ping": lambda rng: [frame(rng, 0x80 | PING, rng.randbytes(rng.randrange(126)))],
    "pong": lambda rng: [frame(rng, 0x80 | PONG, rng.randbytes(rng.randrange(126)))],
}
BAD_UTF8 = (
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc0\x80",
    b"\x80",
    b"\xe2\x82",
)
BAD: dict[str, Callable[[random.Random], list[bytes]]] = {
    "invalid UTF-8": lambda rng: [
        frame(
            rng,
            0x81,
            text(rng, rng.randrange(130)) + rng.choice(BAD_UTF8) + b"a" * rng.randrange(3),
        )
    ],
    "invalid UTF-8 in fragments": lambda rng: [
        frame(rng, TEXT, b"ab\xe2"),
        frame(rng, 0x80 | CONTINUATION, rng.choice((b"\x28", b""))),
    ],
    "reserved bits": lambda rng: [
        frame(rng, 0x81 | rng.randrange(1, 8) << 4, text(rng, size_of(rng)))
    ],
    "reserved opcode": lambda rng: [
        frame(rng, 0x80 | rng.choice((*range(3, 8), *range(11, 16))), text(rng, rng.randrange(200)))
    ],
    "not masked": lambda rng: [frame(rng, 0x81, text(rng, size_of(rng)), masked=False)],
    "too big": lambda rng: [frame(rng, 0x81, text(rng, MAX_BYTES + 1))],
    "impossible size": lambda rng: [b"\x81\xff" + rng.randbytes(12)],
    "continuation of nothing": lambda rng: [frame(rng, 0x80 | CONTINUATION, b"abc")],
    "text in a fragmented message": lambda rng: [frame(rng, TEXT, b"abc"), *plain(rng)],
    "too many fragments": lambda rng: [
        frame(rng, TEXT, b"a"),
        *(frame(rng, CONTINUATION, b"") for _ in range(LIMITS.message_fragments)),
        # NOTE: without an end, the next text would be another error.
        frame(rng, 0x80 | CONTINUATION, b""),
    ],
    "long ping": lambda rng: [frame(rng, 0x80 | PING, bytes(126))],
    "fragmented ping": lambda rng: [frame(rng, PING, b"abc")],
    "short close": lambda rng: [frame(rng, 0x80 | CLOSE, b"\x03")],
    "invalid close": lambda rng: [frame(rng, 0x80 | CLOSE, b"\x03\xed")],
    "invalid reason": lambda rng: [frame(rng, 0x80 | CLOSE, b"\x03\xe8\xff")],
}
CLOSES: dict[str, Callable[[random.Random], list[bytes]]] = {
    "close": lambda rng: [frame(rng, 0x80 | CLOSE, b"\x03\xe8bye")],
    "empty close": lambda rng: [frame(rng, 0x80 | CLOSE, b"")],
}


def cut(data: bytes, positions: Iterable[int]) -> list[bytes]:
    """Split data at positions."""
    cuts = sorted({0, len(data), *positions})
    return [data[start:end] for start, end in itertools.pairwise(cuts)]


def random_reads(rng: random.Random, frames: list[bytes]) -> list[bytes]:
    """Join frames to reads: one, a frame each, or cut anywhere."""
    data = b"".join(frames)
    match rng.choices(("one", "frames", "some", "many"), (3, 3, 3, 1))[0]:
        case "one":
            return [data]
        case "frames":
            return [each for each in frames if each]
        case "some":
            return cut(data, (rng.randrange(len(data) + 1) for _ in range(rng.randrange(1, 8))))
        case _:
            size = rng.choice((1, 2, 3, 7, 64, 1_000)) if len(data) < 3_000 else 1_500
            return cut(data, range(0, len(data), size))


async def fuzz_once(arena: Arena, seed: str) -> tuple[str, Outcome]:
    """Compare the readers on the stream of a seed; return its kind and the outcome."""
    rng = random.Random(seed)
    kinds = rng.choices(tuple(GOOD), (10, 1, 1, 1, 0.5, 1, 1), k=rng.randrange(1, 40))
    frames = [part for kind in kinds for part in GOOD[kind](rng)]
    name = rng.choice(("good", "truncated", "changed", *BAD, *CLOSES))
    if name == "truncated":
        frames[-1] = frames[-1][: rng.randrange(len(frames[-1]))]
    elif name == "changed":
        data = bytearray(b"".join(frames)[:SLICE_BYTES])
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        # NOTE: of two errors in one slice, the later one may decide, so the slices have to be the same.
        frames = [bytes([byte]) for byte in data]
        reads = cut(bytes(data), (rng.randrange(len(data) + 1) for _ in range(rng.randrange(4))))
        return name, await arena.compare(frames, reads)
    elif name != "good":
        frames += (BAD | CLOSES)[name](rng)
        # What follows is dropped.
        frames += [part for _ in range(rng.randrange(3)) for part in plain(rng)]
    deflate = rng.random() < 0.1
    return name, await arena.compare(frames, random_reads(rng, frames), deflate=deflate)


async def fuzz(
    seed: int, *, seconds: float = float("inf"), cases: int | None = None
) -> Counter[str]:
    """Compare the readers on random streams, for a time or a number of cases.

    Returns:
        The number of cases by kind, of those that ``failed``, and of the ``texts`` and the ``parsed texts`` among them.

    Raises:
        AssertionError: The readers disagree; a note names the seed of the case.
    """
    arena, counts = Arena(), Counter[str]()
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end and number != cases:
        case = f"{seed}-{number}"
        try:
            name, outcome = await fuzz_once(arena, case)
        except Exception as error:
            error.add_note(f"the seed of the case is {case!r}")
            raise
        number += 1
        counts[name] += 1
        counts["failed"] += outcome.failed
        counts["texts"] += sum(isinstance(message, str) for message in outcome.messages)
        counts["parsed texts"] += outcome.parsed_texts
    return counts


def main() -> None:
    """Fuzz for minutes; print what has been compared."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options: Any = parser.parse_args()
    print(f"comparing the readers of frames with --seed {options.seed}", flush=True)
    counts = asyncio.run(fuzz(options.seed, seconds=options.minutes * 60))
    if not counts["texts"] > counts["parsed texts"]:
        sys.exit("all texts have been parsed by websockets: the run is inconclusive")
    print("the readers agree:", ", ".join(f"{count} {name}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
