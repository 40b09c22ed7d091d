"""The context of a resource's methods, and the close codes of custom error handlers."""

import asyncio
from contextvars import ContextVar, Token
from typing import Any

import falcon
import falcon.asgi
import pytest

from falcon_pachinko import Limits, WebSocketLike, handles_message

from .support.servers import RECEIVING_SERVERS
from .support.signed_in import Hall, signed_in, user

tenant: ContextVar[str] = ContextVar("tenant")


class Tenant(Hall):
    """Sets a context variable in ``on_connect`` and resets it in ``on_disconnect``."""

    limits = Limits(close_seconds=0.3)
    token: Token[str]

    async def on_connect(self, req: Any, ws: WebSocketLike, *args: Any, **params: Any) -> bool:
        self.token = tenant.set("acme")
        return True

    @handles_message("rename")
    async def rename(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        self.events.append(tenant.get())
        tenant.set("other")

    @handles_message("crash")
    async def crash(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        raise ZeroDivisionError

    @handles_message("ignore")
    async def ignore(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        self.events.append("busy")
        while not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                self.events.append("ignored")

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        self.events.append(tenant.get())
        tenant.reset(self.token)
        self.events.append(tenant.get(None))
        await super().on_disconnect(ws, close_code)
        self.released.set()


@pytest.mark.parametrize("server", RECEIVING_SERVERS)
@pytest.mark.parametrize(("ending", "code"), [("close", 1001), ("crash", 1011)])
async def test_methods_of_a_resource_share_one_context(server: str, ending: str, code: int) -> None:
    async with signed_in(Tenant, server=server, t=user()) as world:
        alice = await world.connect()
        await alice.send("rename")
        await alice.send("say")
        assert (await alice.receive())["type"] == "said"
        if ending == "close":
            await alice.close(1001)
        else:
            await alice.send("crash")
            assert (await alice.wait_closed())[0] == code
        await world.wait_until(lambda: len(world.events) == 4)
        # NOTE: hypercorn reports each close of a client as 1006.
        expected = 1006 if (server, ending) == ("hypercorn", "close") else code
        assert world.events == ["acme", "other", None, ("left", expected)]
    assert tenant.get(None) is None


async def test_connections_do_not_share_their_context() -> None:
    async with signed_in(Tenant, t=user()) as world:
        alice, bob = await world.connect(), await world.connect()
        for client in (alice, alice, bob):
            await client.send("rename")
            await client.send("say")
            await client.receive()
        assert world.events == ["acme", "other", "acme"]


async def test_handler_that_is_abandoned_does_not_prevent_the_reset() -> None:
    async with signed_in(Tenant, t=user()) as world:
        alice = await world.connect()
        await alice.send("ignore")
        await world.wait_until(lambda: world.events == ["busy"])
        await alice.close()
        await world.wait_until(lambda: ("left", 1000) in world.events)
        events = [each for each in world.events if each != "ignored"]
        assert events == ["busy", "acme", None, ("left", 1000)]


async def close_with_4123(req: Any, resp: Any, error: Any, params: Any, ws: Any = None) -> None:
    await ws.send_text("last words")
    await ws.close(4123, "custom")


async def raise_conflict(req: Any, resp: Any, error: Any, params: Any, ws: Any = None) -> None:
    raise falcon.HTTPConflict


async def only_log(req: Any, resp: Any, error: Any, params: Any, ws: Any = None) -> None:
    pass


async def fail(req: Any, resp: Any, error: Any, params: Any, ws: Any = None) -> None:
    raise KeyError("in the error handler")


@pytest.mark.parametrize("server", RECEIVING_SERVERS)
@pytest.mark.parametrize(
    ("handler", "code"),
    [(close_with_4123, 4123), (raise_conflict, 3409)],
    ids=["close", "raise"],
)
async def test_on_disconnect_gets_the_code_of_a_custom_error_handler(
    server: str, handler: Any, code: int
) -> None:
    async with signed_in(Tenant, server=server, t=user()) as world:
        world.app.add_error_handler(ZeroDivisionError, handler)
        alice = await world.connect()
        await alice.send("crash")
        if code == 4123:
            assert await alice.receive_raw() == "last words"
        assert (await alice.wait_closed())[0] == code
        await world.wait_until(lambda: world.events[-1:] == [("left", code)])
        assert world.events.count(("left", code)) == 1
        await world.wait_until(lambda: len(world.app.ws_connection_manager) == 0)


@pytest.mark.parametrize("handler", [only_log, fail], ids=["log", "fail"])
async def test_error_handler_that_does_not_close_counts_as_1011(handler: Any) -> None:
    async with signed_in(Tenant, t=user()) as world:
        world.app.add_error_handler(ZeroDivisionError, handler)
        alice = await world.connect()
        await alice.send("crash")
        await alice.wait_closed()
        await world.wait_until(lambda: world.events[-1:] == [("left", 1011)])
        assert len(world.events) == 3  # one call of on_disconnect
        await world.wait_until(lambda: len(world.app.ws_connection_manager) == 0)


async def test_on_disconnect_after_a_crash_still_reaches_its_client() -> None:
    class Polite(Tenant):
        async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
            await ws.send_text(f"closing with {close_code}")
            await super().on_disconnect(ws, close_code)

    async with signed_in(Polite, t=user()) as world:
        world.app.add_error_handler(ZeroDivisionError, close_with_4123)
        alice = await world.connect()
        await alice.send("crash")
        assert await alice.receive_raw() == "last words"
        assert await alice.receive_raw() == "closing with 4123"
        assert await alice.wait_closed() == (4123, "custom")
