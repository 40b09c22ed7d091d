"""Compare the accelerated handshake with websockets' parser on random requests and answers of an application.

python -m tests.framework.stress.handshake_fuzz --minutes 10
"""

import argparse
import asyncio
import logging
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from uvicorn.server import ServerState

from falcon_pachinko.uvicorn.handshake import HandshakeProtocol
from falcon_pachinko.uvicorn.handshake_check import knows_handshake
from falcon_pachinko.uvicorn.plain_handshake import read_plain_handshake
from falcon_pachinko.uvicorn.protocol import PushSansIOProtocol

from ..support.servers import ParsingSansIOProtocol, load_config

ITERATIONS = 12
# How many changes a request has.
CHANGE_COUNTS = (0, 1, 1, 1, 2, 3)
# A text frame with a mask of zeros, a ping, a close, and the beginning of a frame.
FRAMES = (b"\x81\x82\0\0\0\0hi", b"\x89\x80\0\0\0\0", b"\x88\x80\0\0\0\0", b"\x81\x85\0\0")
DATE = re.compile(rb"[Dd]ate: [^\r]*")
KEY = (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")

Head = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a server has made of a handshake.

    Attributes:
        scopes: The scope that the application got, if it has been called.
        events: What the application received, and the exceptions of its ``send``.
        written: All bytes to the client, without the time of the response.
        closed: Whether the server has ended the connection.
        logged: The lines of uvicorn and websockets.
        state: The state of the connection for websockets.
    """

    scopes: list[Any]
    events: list[Any]
    written: bytes
    closed: bool
    logged: list[str]
    state: dict[str, Any]


class Transport:
    """The part of a transport that the protocol uses."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.written += data

    def close(self) -> None:
        self.closed = True

    abort = write_eof = close

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None: ...

    resume_reading = pause_reading

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        address = ("127.0.0.1", 1)
        if name == "socket":
            names = {"getsockname": lambda: address, "getpeername": lambda: address}
            return SimpleNamespace(family=2, **names)
        return default


class Arena(logging.Handler):
    """Servers for one client each, in the running event loop."""

    def __init__(self) -> None:
        super().__init__()
        self.scopes: list[Any] = []
        self.events: list[Any] = []
        self.logged: list[str] = []
        self.answers: tuple[dict[str, Any], ...] = ()
        self.configs = {
            deflate: load_config(self.app, ws_per_message_deflate=deflate)
            for deflate in (False, True)
        }

    def emit(self, record: logging.LogRecord) -> None:
        self.logged.append(record.getMessage())

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """Send the answers, whatever becomes of each, and receive what has come."""
        extensions = dict.fromkeys(scope["extensions"])
        self.scopes.append({**scope, "extensions": extensions})
        self.events.append(await receive())
        for answer in self.answers:
            try:
                await send(answer)
            except Exception as error:
                self.events.append((type(error), str(error)))
        while True:
            event = await receive()
            self.events.append(event)
            if event["type"] == "websocket.disconnect":
                return

    async def run(
        self, kind: type[PushSansIOProtocol], head: bytes, early: bytes, deflate: bool, tail: Head
    ) -> Outcome:
        """Let a client send a request and some bytes, and disconnect."""
        self.scopes, self.events, self.logged = [], [], []
        transport: Any = Transport()
        state = ServerState()
        state.default_headers = list(tail)
        protocol = kind(self.configs[deflate], state, {"a": 1})
        protocol.connection_made(transport)
        protocol.receive_handshake(head, False)
        if early and not transport.closed:
            protocol.data_received(early)
        for _ in range(ITERATIONS):
            await asyncio.sleep(0)
        closed = transport.closed
        names = ("state", "extensions", "subprotocol", "close_sent", "close_rcvd", "eof_sent")
        found = {name: getattr(protocol.conn, name) for name in names}
        found["extensions"] = [repr(extension) for extension in found["extensions"]]
        protocol.connection_lost(None)
        for task in state.tasks.copy():
            await task
        written = DATE.sub(b"date:", transport.written)
        return Outcome(self.scopes, self.events, written, closed, self.logged, found)

    async def compare(
        self,
        head: bytes,
        answers: tuple[dict[str, Any], ...],
        early: bytes = b"",
        *,
        deflate: bool = False,
        tail: Head,
    ) -> Outcome:
        """Check that both ways agree; return the outcome.

        Args:
            head: The request.
            answers: The events that the application sends.
            early: What the client sends before the response.
            deflate: Whether the server accepts compression.
            tail: The headers that the server adds to each response.
        """
        self.answers = answers
        fast = await self.run(PushSansIOProtocol, head, early, deflate, tail)
        parsed = await self.run(ParsingSansIOProtocol, head, early, deflate, tail)
        assert fast == parsed, (head, answers, early, deflate)
        return fast


def browser(rng: random.Random) -> Head:
    """Return the headers of a browser's handshake."""
    return [
        (b"host", b"chat.example.com"),
        (b"connection", rng.choice((b"Upgrade", b"upgrade", b"keep-alive, Upgrade"))),
        (b"upgrade", rng.choice((b"websocket", b"WebSocket"))),
        (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
        (b"origin", b"https://chat.example.com"),
        (b"sec-websocket-version", b"13"),
        (b"accept-language", b"en-US,en;q=0.9"),
        (b"cookie", b"session=0123456789abcdef; name=\xc3\xa4"),
        KEY,
        (b"sec-websocket-extensions", b"permessage-deflate; client_max_window_bits"),
    ]


NAMES = (
    b"connection",
    b"content-length",
    b"cookie",
    b"Host",
    b"origin",
    b"sec-websocket-extensions",
    b"sec-websocket-key",
    b"sec-websocket-protocol",
    b"sec-websocket-version",
    b"transfer-encoding",
    b"upgrade",
    b"x y",
    b"x\xe4",
    b"",
    # Most additions change nothing else.
    *(b"x-%d" % number for number in range(14)),
)
VALUES = (
    *(b"", b" ", b"0", b"1", b"8", b"13", b"13, 13", b"chat", b"chat, b", b",,,", b"a\tb", b"\xe4"),
    *(b"Upgrade", b"upgrade,", b", Upgrade", b"keep-alive", b"websocket", b"websocket/13", b"h2c"),
    *(b"x: y", b":", b'"quoted"', b"a\x00b", b"a\x7fb", b"a\rb", b"a\nb", b" a", b"a ", b"\ta\t"),
    *(b"AAAAAAAAAAAAAAAAAAAAAA==", b"AAAAAAAAAAAAAAAAAAAAAB==", b"AAAA", b"A" * 24, b"-" * 22),
    *(b"dGhlIHNhbXBsZSBub25jZQ", b"dGhlIHNhbXBsZSBub25jZQ==\t", b"dGhl IHNhbXBsZSBub25jZQ=="),
    *(b"permessage-deflate", b"x-webkit-deflate-frame", b";;;", b"chunked", b"a" * 8_200),
)
CHANGES: dict[str, Callable[[random.Random, Head], None]] = {
    "remove": lambda rng, head: head.pop(rng.randrange(len(head))) and None,
    "repeat": lambda rng, head: head.insert(rng.randrange(len(head) + 1), rng.choice(head)),
    "add": lambda rng, head: head.insert(
        rng.randrange(len(head) + 1), (rng.choice(NAMES), rng.choice(VALUES))
    ),
    "replace": lambda rng, head: replace(rng, head, lambda name, _: (name, rng.choice(VALUES))),
    "rename": lambda rng, head: replace(rng, head, lambda _, value: (rng.choice(NAMES), value)),
    "upper": lambda rng, head: replace(rng, head, lambda name, value: (name.upper(), value)),
    "another key": lambda rng, head: replace(rng, head, lambda _, value: (KEY[0], value[:24])),
    "flip": lambda rng, head: replace(rng, head, lambda name, value: (name, flip(rng, value))),
    "shuffle": lambda rng, head: rng.shuffle(head),
    "many": lambda rng, head: head.extend((b"x-%d" % i, b"a") for i in range(rng.randrange(130))),
}


def replace(rng: random.Random, head: Head, change: Callable[[bytes, bytes], Any]) -> None:
    """Replace one header."""
    index = rng.randrange(len(head))
    head[index] = change(*head[index])


def flip(rng: random.Random, value: bytes) -> bytes:
    """Replace one byte."""
    index = rng.randrange(len(value) + 1)
    return value[:index] + rng.randbytes(1) + value[index + 1 :]


REQUEST_LINES = (
    *(b"GET / HTTP/1.1", b"GET /a%20b?c=%20d HTTP/1.1", b"GET /?? HTTP/1.1", b"GET //a HTTP/1.1"),
    *(b"GET * HTTP/1.1", b"GET /#a HTTP/1.1", b"GET http://a/b HTTP/1.1", b"GET /%ff HTTP/1.1"),
)
ODD_REQUEST_LINES = (
    *(
        b"POST / HTTP/1.1",
        b"GET / HTTP/1.0",
        b"GET / HTTP/2",
        b"get / HTTP/1.1",
        b"GET  / HTTP/1.1",
    ),
    *(b"GET /\xe4 HTTP/1.1", b"GET / a HTTP/1.1", b"GET /\x7f HTTP/1.1", b"GET /\x00 HTTP/1.1"),
    *(b"", b"GET", b"GET / HTTP/1.1 ", b" GET / HTTP/1.1", b"GET /" + b"a" * 8_190 + b" HTTP/1.1"),
)


def request(rng: random.Random) -> bytes:
    """Return a request: often that of a browser, else with some changes."""
    line = rng.choice(REQUEST_LINES if rng.random() < 0.9 else ODD_REQUEST_LINES)
    head = browser(rng)
    for _ in range(rng.choice(CHANGE_COUNTS)):
        if head:
            CHANGES[rng.choice(tuple(CHANGES))](rng, head)
    separator = b": " if rng.random() < 0.95 else rng.choice((b":", b":  ", b":\t", b" : "))
    lines = [line, *(name + separator + value for name, value in head)]
    return (b"\r\n" if rng.random() < 0.98 else b"\n").join([*lines, b"", b""])


ACCEPT: dict[str, Any] = {"type": "websocket.accept"}
TEXT: dict[str, Any] = {"type": "websocket.send", "text": "hello"}
CLOSE: dict[str, Any] = {"type": "websocket.close", "code": 4001, "reason": "enough"}
START: dict[str, Any] = {"type": "websocket.http.response.start", "status": 418, "headers": []}
BODY: dict[str, Any] = {"type": "websocket.http.response.body", "body": b"no"}
ANSWERS: tuple[tuple[dict[str, Any], ...], ...] = (
    (ACCEPT,),
    (ACCEPT, TEXT),
    (ACCEPT, TEXT, CLOSE),
    ({**ACCEPT, "subprotocol": None, "headers": []}, TEXT),
    ({**ACCEPT, "subprotocol": "chat"}, TEXT),
    ({**ACCEPT, "headers": [(b"Set-Cookie", b"a=b"), (b"x-\xe4", b"\xe4")]}, TEXT),
    ({**ACCEPT, "headers": [(b"x", b"a\r\ninjected: b")]}, TEXT, CLOSE),
    ({**ACCEPT, "headers": [(b"x", b"a\nb")]}, ACCEPT, TEXT),
    (ACCEPT, ACCEPT, TEXT),
    (CLOSE, ACCEPT),
    ({"type": "websocket.close"},),
    (START, BODY),
    (START, ACCEPT, BODY),
    (TEXT, ACCEPT, TEXT),
    (),
)
TAILS: tuple[Head, ...] = (
    [(b"date", b"Sat, 01 Jan 2000 00:00:00 GMT"), (b"server", b"uvicorn")],
    [],
    [(b"Server", b"a\xe4\tb"), (b"X-Empty", b"")],
    [(b"x-\xc4", b"\xc4")],
    [(b"x", b"a\nb")],
)


async def fuzz(arena: Arena, rng: random.Random) -> bool:
    """Compare the two ways once; return whether the handshake was a plain one."""
    head, deflate = request(rng), rng.random() < 0.3
    early = b"".join(rng.choices(FRAMES, k=rng.randrange(3))) if rng.random() < 0.3 else b""
    tail = rng.choice(TAILS) if rng.random() < 0.3 else TAILS[0]
    await arena.compare(head, rng.choice(ANSWERS), early, deflate=deflate, tail=tail)
    return read_plain_handshake(head, extensions=deflate) is not None


async def fuzz_for(seconds: float, seed: int) -> tuple[int, int]:
    """Compare the two ways for a time; return the number of plain handshakes and that of others."""
    assert knows_handshake(HandshakeProtocol), "both ways would be the same"
    end = time.monotonic() + seconds
    counts = [0, 0]
    arena, logger = Arena(), logging.getLogger("uvicorn.error")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(arena)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        while time.monotonic() < end:
            rng = random.Random(seed + sum(counts))
            counts[not await fuzz(arena, rng)] += 1
    except BaseException:
        print(f"the seed of the last case is {seed + sum(counts)}", flush=True)
        raise
    finally:
        logger.removeHandler(arena)
        logger.setLevel(level)
        logger.propagate = propagate
    return counts[0], counts[1]


def main() -> None:
    """Compare for the given time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options: Any = parser.parse_args()
    print(
        f"comparing handshakes for {options.minutes:g} minutes with --seed {options.seed}",
        flush=True,
    )
    plain, other = asyncio.run(fuzz_for(options.minutes * 60, options.seed))
    print(f"{plain} plain handshakes and {other} others: both ways agree")


if __name__ == "__main__":
    main()
