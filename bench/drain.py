"""The drain of a node: its clients move to another one, which has live traffic of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from picows import WSFrame, WSMsgType, WSTransport

from falcon_pachinko.client.policy import announced_delay
from falcon_pachinko.close_codes import NO_STATUS_RECEIVED
from falcon_pachinko.server.drain import DEFAULT_CONNECTIONS_PER_SECOND

from .child import python, start
from .listeners import WAIT_SECONDS, Listener, connect
from .live import compare, live_traffic
from .plan import Order, Outcome
from .valkey import URL_VARIABLE, Valkey

ROOM_SIZE = 20
# The waits of clients, and the handshakes of the last ones.
LATEST_SECONDS = 15.0


class Moving(Listener):
    """A client that learns when it may reconnect."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = asyncio.get_running_loop().create_future()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Keep a message, or the code and the reason of the close."""
        if frame.msg_type == WSMsgType.CLOSE:
            reason = (frame.get_close_message() or b"").decode()
            self.closed.set_result((frame.get_close_code() or NO_STATUS_RECEIVED, reason))
            transport.disconnect()
        else:
            super().on_ws_frame(transport, frame)


async def move(client: Moving, path: str, port: int) -> bool:
    """Reconnect a client to another node when it is closed; return whether it has missed nothing."""
    await asyncio.sleep(announced_delay(*await client.closed) or 0.0)
    returned = await connect(port, f"{path}?since={client.position['id']}", Listener())
    await returned.positioned
    returned.transport.disconnect(False)
    return bool(returned.position["payload"]["recovered"])


@contextlib.asynccontextmanager
async def drain(valkey: Valkey) -> AsyncIterator[Callable[[Order], Awaitable[Outcome]]]:
    """Stop a node whose clients are closed at the default rate, in the seconds of a round."""
    environment = os.environ | {URL_VARIABLE: valkey.url}
    serve = python("-m", "bench.asgi", "bench.servers.ours:app", "--push")
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(start("the other node", serve, Path(), environment))
        other_port = int(other.read_line(WAIT_SECONDS))
        p99_ms = stack.enter_context(live_traffic(other_port, environment))
        rounds = 0

        async def measure(order: Order) -> Outcome:
            nonlocal rounds
            rounds += 1
            count = max(1, round(order.seconds * DEFAULT_CONNECTIONS_PER_SECOND))
            paths = [f"/kept/moving{rounds}-{number // ROOM_SIZE}" for number in range(count)]
            command = [*serve, "--drain", str(order.seconds)]
            with start("the node", command, Path(), environment) as node:
                port = int(node.read_line(WAIT_SECONDS))
                clients = [await connect(port, path, Moving()) for path in paths]
                for client in clients:
                    await client.positioned
                await p99_ms()
                await asyncio.sleep(order.seconds)
                before_ms = await p99_ms()
                started = time.perf_counter()
                os.kill(node.pid, signal.SIGTERM)
                async with asyncio.timeout(order.seconds + LATEST_SECONDS):
                    moves = [move(*each, other_port) for each in zip(clients, paths, strict=True)]
                    complete = await asyncio.gather(*moves)
                seconds = time.perf_counter() - started
                during_ms = await p99_ms()
            return compare(before_ms, during_ms, sum(complete), count, seconds)

        yield measure
