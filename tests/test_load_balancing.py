"""nginx before the nodes: which requests it retries, and to which node it sends a room."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from .support.documents import nginx_blocks
from .support.http_requests import request
from .support.load_balancer import running_nginx

BOUND_SECONDS = 300


@pytest.mark.timeout(BOUND_SECONDS)
def test_nginx_retries_page_requests_but_not_handshakes(
    nginx: str,
    baked: Callable[..., Path],
    free_port: Callable[[], int],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    """Nodes that fail before they respond may have accepted the handshake already."""
    requests: list[str] = []

    async def abort(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        requests.append(head.split(b" HTTP/")[0].decode())
        writer.transport.abort()

    async def send_requests() -> None:
        async with contextlib.AsyncExitStack() as servers:
            ports = []
            for _ in range(3):
                server = await servers.enter_async_context(
                    await asyncio.start_server(abort, "127.0.0.1", 0)
                )
                ports.append(server.sockets[0].getsockname()[1])
            # max_fails=0 keeps all nodes in use, so only proxy_next_upstream decides about retries.
            with running_nginx(
                ports,
                ("max_fails=1", "max_fails=0"),
                nginx=nginx,
                project=baked(),
                folder=tmp_path,
                port=free_port(),
                environment=environment,
            ) as port:
                for path in ("/ws/chat/general", "/ws/inbox", "/static"):
                    with pytest.raises(InvalidStatus) as refused:
                        await connect(f"ws://127.0.0.1:{port}{path}", proxy=None)
                    assert refused.value.response.status_code == 502
                    assert requests == [f"GET {path}"]
                    requests.clear()
                for method, path, times in (
                    *(("GET", path, 3) for path in ("/", "/docs", "/static/chat/main.js")),
                    *(("POST", "/session", 1), ("GET", "/health", 1)),
                ):
                    response = await asyncio.to_thread(request, port, method, path)
                    assert response.status == 502
                    assert requests == [f"{method} {path}"] * times
                    requests.clear()

    asyncio.run(send_requests())


@contextlib.asynccontextmanager
async def servers_named(names: list[str]) -> AsyncIterator[list[int]]:
    """Run servers that respond to each request with their name, and give their ports."""

    def handler(name: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
        async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            body = name.encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
            writer.close()

        return respond

    async with contextlib.AsyncExitStack() as servers:
        yield [
            (
                await servers.enter_async_context(
                    await asyncio.start_server(handler(name), "127.0.0.1", 0)
                )
            )
            .sockets[0]
            .getsockname()[1]
            for name in names
        ]


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.parametrize("routing", ["each room on one node", "each room in one cluster"])
def test_documented_routing_keeps_a_room_in_one_place(
    nginx: str,
    routing: str,
    baked: Callable[..., Path],
    free_port: Callable[[], int],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    project = baked()
    hashed, split = nginx_blocks(project)
    codes = []
    if routing == "each room on one node":
        changes = [("least_conn;", hashed)]
    else:
        codes = ["~1999999999." + "a" * 22]
        # Two clusters: one of two nodes, one of a single node.
        first = "    upstream nodes {"
        clusters = f"{split}    upstream cluster_b {{ server 10.213.86.13:8000; }}\n"
        changes = [
            (first, f"{clusters}    upstream cluster_a {{"),
            ("        server 10.213.86.13:8000 max_fails=1 fail_timeout=10s;\n", ""),
            ("proxy_pass http://nodes;", "proxy_pass http://$cluster;"),
        ]
    rooms = [f"/ws/chat/room-{number}" for number in range(60)]

    async def request_all_rooms() -> dict[str, set[str]]:
        places: dict[str, set[str]] = {room: set() for room in rooms}
        async with servers_named(["node1", "node2", "node3"]) as ports:
            with running_nginx(
                ports,
                *changes,
                nginx=nginx,
                project=project,
                folder=tmp_path,
                port=free_port(),
                environment=environment,
            ) as port:
                for suffix in ("", "?since=0123456789abcdef:7", *codes, ""):
                    for room in rooms:
                        response = await asyncio.to_thread(request, port, "GET", room + suffix)
                        assert response.status == 200
                        places[room].add(response.body.decode())
        return places

    places = asyncio.run(request_all_rooms())
    if routing == "each room on one node":
        assert all(len(nodes) == 1 for nodes in places.values())
    else:
        assert all(nodes == {"node3"} or "node3" not in nodes for nodes in places.values())
        assert 15 <= sum(nodes == {"node3"} for nodes in places.values()) <= 45
    assert set.union(*places.values()) == {"node1", "node2", "node3"}
