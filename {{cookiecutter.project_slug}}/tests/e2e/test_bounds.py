"""The bounds of the process: connections, requests, and readiness shortly before the maximum."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from ..conftest import Server

WAIT_SECONDS = 20.0


async def test_the_process_is_not_ready_before_it_refuses_connections(
    serve: Callable[..., Server],
) -> None:
    server = serve(APP_MAX_CONNECTIONS="20")
    assert "this process takes 20 connections" in server.output()
    host, _, port = server.url.removeprefix("http://").partition(":")
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            httpx.AsyncClient(trust_env=False, timeout=WAIT_SECONDS)
        )
        url = f"{server.url}/ready"
        assert (await client.get(url)).status_code == 200
        writers = [(await asyncio.open_connection(host, int(port)))[1] for _ in range(18)]
        full = ["19 of 20 connections are in use"]
        async with asyncio.timeout(WAIT_SECONDS):  # The service accepts them one after the other.
            while (ready := await client.get(url)).json().get("reasons") != full:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert ready.status_code == 503
        writers.append((await asyncio.open_connection(host, int(port)))[1])
        reader, writer = await asyncio.open_connection(host, int(port))
        writers.append(writer)
        async with asyncio.timeout(WAIT_SECONDS):
            response = await reader.read()
        assert response.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"\r\nretry-after: " in response
        for writer in writers:
            writer.close()
    async with asyncio.timeout(WAIT_SECONDS), httpx.AsyncClient(trust_env=False) as client:
        while (await client.get(f"{server.url}/ready")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_request_above_the_bounds_is_answered(serve: Callable[..., Server]) -> None:
    server = serve()
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_SECONDS) as client:
        for headers, path, body, status in (
            ({"X": "a" * 20_000}, "/health", b"", 200),
            ({"X": "a" * 40_000}, "/health", b"", 431),
            ({f"X-{number}": "a" for number in range(100)}, "/health", b"", 431),
            ({}, "/health?" + "a" * 9_000, b"", 414),
            ({}, "/session", b"a" * 65_537, 413),
        ):
            response = await client.request(
                "POST" if body else "GET", server.url + path, headers=headers, content=body or None
            )
            assert response.status_code == status
