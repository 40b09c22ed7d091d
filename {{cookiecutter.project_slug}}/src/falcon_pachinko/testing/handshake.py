"""Connecting a client over a real socket."""

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

# The time for a server to answer a close, before the connection is aborted.
CLOSE_SECONDS = 1.0

SMALL_BUFFER_BYTES = 4096


class Handshake(TypedDict, total=False):
    """Options of a handshake; see :func:`connect`."""

    headers: Mapping[str, str] | None
    cookies: Mapping[str, str] | None
    subprotocols: Sequence[str]
    origin: str | None
    small_buffer: bool
    timeout_seconds: float


def check_path(path: str) -> None:
    """Check that a path can follow a host and port.

    Raises:
        ValueError: The path does not begin with "/".
    """
    if not path.startswith("/"):
        raise ValueError(f"path {path!r} must begin with '/'")


def check_options(options: Handshake) -> None:
    """Check the names of options.

    Raises:
        TypeError: An option is not in :class:`Handshake`.
    """
    known = Handshake.__annotations__
    for name in options:
        if name not in known:
            raise TypeError(f"connect() has no option {name!r}; options: {', '.join(known)}")


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
    """Connect to a server, and close the connection at the end.

    Args:
        url: The address, such as ``ws://127.0.0.1:8000/ws/chat/general?user=Alice``.
        headers: Additional request headers.
        cookies: Cookies by name.
        subprotocols: The offered subprotocols.
        origin: The ``Origin`` header of a browser, such as ``https://example.com``.
        small_buffer: For ``pause_reading()``: use a small kernel buffer and no compression.
        timeout_seconds: The bound of the handshake and of every wait of the client.
        declaration: The messages that the application may send; see :func:`declarations`.
        options: Options of ``websockets.asyncio.client.connect``.

    Raises:
        Refused: The server rejected the handshake with an HTTP status.
        TimeoutError: The server did not respond.
        OSError: The server cannot be reached.
        Undeclared: The application sent an undeclared message or close code.
    """
    settings: dict[str, Any] = {
        "close_timeout": CLOSE_SECONDS,
        "max_queue": None,  # only pause_reading() makes a slow client
        "max_size": None,
        **options,
    }
    if small_buffer:
        settings |= {"sock": await small_socket(url), "compression": None}
    with translate_errors(url, timeout_seconds):
        connection = await open_connection(
            url,
            additional_headers=request_headers(headers, cookies),
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
        await client.aclose()
        await client.check_unread(failure)


@contextmanager
def translate_errors(url: str, timeout_seconds: float) -> Iterator[None]:
    """Raise the test kit's errors of a handshake."""
    try:
        yield
    except InvalidStatus as refused:
        raise Refused(refused.response) from None
    except TimeoutError:
        raise TimeoutError(
            f"no response to the handshake with {url} within {timeout_seconds} s"
        ) from None


def request_headers(
    headers: Mapping[str, str] | None, cookies: Mapping[str, str] | None
) -> list[tuple[str, str]]:
    """Return the headers, with the cookies as a ``Cookie`` header."""
    merged = list((headers or {}).items())
    if cookies:
        merged.append(("Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items())))
    return merged


async def small_socket(url: str) -> socket.socket:
    """Return a connected socket with a small receive buffer, instead of up to megabytes."""
    address = parse_uri(url)
    loop = asyncio.get_running_loop()
    (family, kind, protocol, _, sockaddr), *_ = await loop.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM
    )
    connected = socket.socket(family, kind, protocol)
    try:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        connected.setblocking(False)
        async with asyncio.timeout(WAIT_SECONDS):
            await loop.sock_connect(connected, sockaddr)
    except BaseException:
        connected.close()
        raise
    return connected
