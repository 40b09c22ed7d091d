"""Requests and connections while an identity provider does not respond."""

import logging
import time
from typing import Any

import falcon.asgi
import falcon.testing
import httpx
import pytest

from falcon_pachinko import BackendUnavailable, ProviderUnavailable, RegistrationError, install
from falcon_pachinko.server.unavailable import UnavailableHandler
from falcon_pachinko.testing import connect

from ..support.servers import SERVERS
from ..support.signed_in import Hall, signed_in, user

TEXT = "You cannot be signed in right now: try again."


@pytest.mark.parametrize("server", SERVERS)
async def test_middleware_that_cannot_tell_closes_a_websocket_with_1013(
    server: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with signed_in(server=server, t=ProviderUnavailable("timeout")) as world:
        alice = await world.connect()
        assert await alice.wait_closed() == (1013, TEXT)
        assert world.events == []
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert "'/hall': temporarily unavailable: timeout" in warnings


async def test_client_that_offers_subprotocols_gets_the_first_one_and_the_close_code() -> None:
    async with signed_in(t=ProviderUnavailable("timeout")) as world:
        url = world.endpoint.ws_url("/hall?token=t")
        async with connect(url, subprotocols=["one", "two"]) as alice:
            assert alice.subprotocol == "one"
            assert await alice.wait_closed() == (1013, TEXT)


async def test_an_outage_logs_one_line_in_ten_seconds_with_the_number_of_requests(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handler = UnavailableHandler()
    request = falcon.testing.create_asgi_req(path="/page")
    for count in (3, 2, 1):
        for _ in range(count):
            with pytest.raises(falcon.HTTPServiceUnavailable):
                await handler.answer(request, None, ProviderUnavailable("timeout"), {})
        assert 9 < handler.next_warning_at - time.monotonic() <= 10
        handler.next_warning_at = time.monotonic()
    assert [record.getMessage() for record in caplog.records] == [
        "'/page': temporarily unavailable: timeout",
        "'/page': temporarily unavailable: timeout (2 more since the last warning)",
        "'/page': temporarily unavailable: timeout (1 more since the last warning)",
    ]


async def test_middleware_that_has_accepted_already_closes_with_1013() -> None:
    class Accepting:
        async def process_request_ws(self, req: Any, ws: Any) -> None:
            await ws.accept()
            raise ProviderUnavailable("timeout")

    async with signed_in(t=user()) as world:
        world.app.add_middleware(Accepting())
        alice = await world.connect()
        assert await alice.wait_closed() == (1013, TEXT)


async def test_middleware_that_cannot_tell_answers_http_with_503() -> None:
    class Page:
        async def on_get(self, req: Any, resp: Any) -> None:
            resp.text = req.context.user.name

    async with signed_in(t=ProviderUnavailable("timeout"), u=user()) as world:
        world.app.add_route("/page", Page())
        url = f"http://127.0.0.1:{world.endpoint.port}/page"
        async with httpx.AsyncClient() as client:
            response = await client.get(url, params={"token": "t"})
            assert response.status_code == 503
            assert response.headers["Retry-After"] == "5"
            assert response.json()["description"] == TEXT
            assert (await client.get(url, params={"token": "u"})).text == "Alice"


@pytest.mark.parametrize(
    "error", [ProviderUnavailable("timeout"), BackendUnavailable("no Redis")], ids=str
)
async def test_on_connect_that_cannot_tell_closes_with_1013(error: Exception) -> None:
    class Asking(Hall):
        async def on_connect(self, *args: Any, **params: Any) -> bool:
            await self.join_room("lobby")
            raise error

    async with signed_in(Asking, t=user()) as world:
        alice = await world.connect()
        assert (await alice.wait_closed())[0] == 1013
        registry = world.app.ws_connection_manager._registry
        await world.wait_until(lambda: not registry.pending)
        assert world.events == []
        assert registry.synced.members_by_room == {}


async def test_program_may_handle_the_error_itself() -> None:
    async def handle(req: Any, resp: Any, error: Any, params: Any, ws: Any = None) -> None:
        await ws.accept()
        await ws.close(4900)

    async with signed_in(t=ProviderUnavailable("timeout")) as world:
        world.app.add_error_handler(ProviderUnavailable, handle)
        alice = await world.connect()
        assert (await alice.wait_closed())[0] == 4900


@pytest.mark.parametrize(
    "authenticate", ["token", len, lambda token: None], ids=["text", "builtin", "lambda"]
)
def test_authenticate_must_be_a_coroutine_function(authenticate: Any) -> None:
    with pytest.raises(RegistrationError, match="pass a coroutine function"):
        install(falcon.asgi.App(), authenticate=authenticate)
