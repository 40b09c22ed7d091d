"""The accelerated handshake is used only with releases of uvicorn and websockets that it knows."""

from collections.abc import Iterator
from typing import Any

import falcon.asgi
import pytest
import uvicorn
import websockets.protocol
import websockets.server
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.version import version

from falcon_pachinko import WebSocketResource, install
from falcon_pachinko.testing import connect, serve
from falcon_pachinko.uvicorn import PushProtocol, plain_handshake
from falcon_pachinko.uvicorn.handshake import HandshakeProtocol
from falcon_pachinko.uvicorn.handshake_check import knows_handshake


@pytest.fixture(autouse=True)
def unchecked() -> Iterator[None]:
    """Check again in each test, and after it."""
    knows_handshake.cache_clear()
    yield
    knows_handshake.cache_clear()


def test_the_installed_releases_are_known(caplog: pytest.LogCaptureFixture) -> None:
    assert knows_handshake(HandshakeProtocol)
    assert caplog.records == []


def test_variables_of_other_programs_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "auto")
    assert knows_handshake(HandshakeProtocol)


class OtherAccept(websockets.server.ServerProtocol):
    def accept(self, request: Any) -> Any:
        response = super().accept(request)
        response.headers["X-New"] = "1"
        return response


class OtherState(websockets.server.ServerProtocol):
    def accept(self, request: Any) -> Any:
        self.handshake_time = 1
        return super().accept(request)


class OtherParser(websockets.server.ServerProtocol):
    @property
    def parser(self) -> Any:
        return self._parser

    @parser.setter
    def parser(self, value: Any) -> None:
        self._parser = iter((1, 2, 3))


UVICORN = "uvicorn.protocols.websockets.websockets_sansio_impl"


@pytest.mark.parametrize("kind", [OtherAccept, OtherState, OtherParser])
def test_another_websockets_is_not_known(
    kind: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(f"{UVICORN}.ServerProtocol", kind)
    assert not knows_handshake(HandshakeProtocol)
    assert not knows_handshake(HandshakeProtocol)
    (record,) = caplog.records
    assert f"uvicorn {uvicorn.__version__} with websockets {version}" in record.getMessage()
    assert "install" in record.getMessage()


def test_another_uvicorn_is_not_known(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handle_connect = WebSocketsSansIOProtocol.handle_connect

    def connect_otherwise(self: Any, event: Any) -> None:
        handle_connect(self, event)
        self.scope["extensions"]["from the request"] = {"names": list(event.headers)}

    monkeypatch.setattr(WebSocketsSansIOProtocol, "handle_connect", connect_otherwise)
    assert not knows_handshake(HandshakeProtocol)
    assert len(caplog.records) == 1


async def test_an_unknown_release_serves_with_the_parser_of_websockets(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        plain_handshake, "SWITCHING", b"HTTP/1.1 101 Changed\r\nSec-WebSocket-Accept: "
    )
    app = install(falcon.asgi.App())
    app.add_websocket_route("/", WebSocketResource)
    async with serve(app, ws=PushProtocol, ws_per_message_deflate=False) as served:
        for _ in range(2):
            async with connect(served.ws_url("/")) as client:
                await client.send("unknown")
                assert (await client.receive())["type"] == "serverError"
    lines = [line for line in caplog.messages if "handshake of uvicorn" in line]
    assert len(lines) == 1
