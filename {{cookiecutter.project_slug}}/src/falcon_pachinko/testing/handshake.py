"""From an address to a client, over a real socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypedDict

from websockets.asyncio.client import connect as open_connection
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

from .client import WAIT_SECONDS, Client
from .contract import Declaration
from .errors import Refused

# How long a server may take to answer a close; then the connection is broken.
CLOSE_SECONDS = 1.0

SMALL_BUFFER_BYTES = 4096


class Handshake(TypedDict, total=False):
    """What a client may say when it connects; :func:`connect` explains each."""

    headers: Mapping[str, str] | None
    cookies: Mapping[str, str] | None
    subprotocols: Sequence[str]
    origin: str | None
    small_buffer: bool
    timeout_seconds: float


def check_path(path: str) -> None:
    """Refuse a path that would run into the port.

    Raises:
        ValueError: It does not begin with "/".
    """
    if not path.startswith("/"):
        raise ValueError(f"path {path!r} must begin with '/'")


def check_options(options: Handshake) -> None:
    """Refuse options that nobody would look at.

    Raises:
        TypeError: One is not of :class:`Handshake`.
    """
    known = Handshake.__annotations__
    for name in options:
        if name not in known:
            raise TypeError(f"connect() has no option {name!r}, but {', '.join(known)}")


@asynccontextmanager
async def connect(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    cookies: Mapping[str, str] | None = None,
    subprotocols: Sequence[str] = (),
    origin: str | None = None,
    small_buffer: bool = False,
    timeout_seconds: float = WAIT_SECONDS,
    declaration: Declaration | None = None,
    **options: Any,
) -> AsyncIterator[Client]:
    """Connect to a server; the connection is closed at the end.

    Args:
        url: Such as ``ws://127.0.0.1:8000/ws/chat/general?user=Alice``.
        headers: More headers of the handshake.
        cookies: Cookies by name.
        subprotocols: Those that are offered.
        origin: What a browser says about the page, such as ``https://example.com``.
        small_buffer: Prepare for ``pause_reading()``: the kernel buffers little, nothing is compressed.
        timeout_seconds: The bound of the handshake and of every wait of the client.
        declaration: What the application may send here; :func:`declarations` finds it.
        options: More options of ``websockets.asyncio.client.connect``.

    Raises:
        Refused: The server answered with an HTTP status instead of accepting.
        TimeoutError: It did not answer.
        OSError: It cannot be reached.
        Undeclared: It has sent something that is not declared.
    """
    settings: dict[str, Any] = {
        "close_timeout": CLOSE_SECONDS,
        "max_queue": None,  # only pause_reading() makes a slow client
        "max_size": None,
        **options,
    }
    if small_buffer:
        settings |= {"sock": await small_socket(url), "compression": None}
    with explained(url, timeout_seconds):
        connection = await open_connection(
            url,
            additional_headers=all_headers(headers, cookies),
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            origin=None if origin is None else Origin(origin),
            proxy=None,
            open_timeout=timeout_seconds,
            **settings,
        )
    client = Client(connection, timeout_seconds, declaration)
    failure: BaseException | None = None
    try:
        yield client
    except BaseException as error:
        failure = error
        raise
    finally:
        await client.leave()
        await client.check_rest(failure)


@contextmanager
def explained(url: str, timeout_seconds: float) -> Iterator[None]:
    """Say what went wrong with a handshake."""
    try:
        yield
    except InvalidStatus as refused:
        raise Refused(refused.response) from None
    except TimeoutError:
        raise TimeoutError(
            f"the handshake with {url} was not answered within {timeout_seconds} s"
        ) from None


def all_headers(
    headers: Mapping[str, str] | None, cookies: Mapping[str, str] | None
) -> list[tuple[str, str]]:
    """The headers, and the cookies as one more."""
    found = list((headers or {}).items())
    if cookies:
        found.append(("Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items())))
    return found


async def small_socket(url: str) -> socket.socket:
    """A connected socket in which the kernel buffers little; by itself it may grow to megabytes."""
    address = parse_uri(url)
    loop = asyncio.get_running_loop()
    (family, kind, protocol, _, place), *_ = await loop.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM
    )
    connected = socket.socket(family, kind, protocol)
    try:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        connected.setblocking(False)
        async with asyncio.timeout(WAIT_SECONDS):
            await loop.sock_connect(connected, place)
    except BaseException:
        connected.close()
        raise
    return connected
