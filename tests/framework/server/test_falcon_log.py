"""A client's mistake on a WebSocket is no error in the log."""

import logging
from typing import Any

import falcon
import falcon.asgi
import pytest

from falcon_pachinko import WebSocketLike, WebSocketResource, install
from falcon_pachinko.testing import serve


class Hall(WebSocketResource):
    """Refuses each connection with the HTTP status in its path."""

    async def on_connect(self, req: Any, ws: WebSocketLike, *args: Any, **params: Any) -> bool:
        raise falcon.HTTPError(int(params["status"]))


@pytest.mark.parametrize(
    ("path", "level"),
    [
        ("/hall/404", logging.INFO),
        ("/none", logging.INFO),
        ("/hall/499", logging.INFO),
        ("/hall/500", logging.ERROR),
        ("/hall/503", logging.ERROR),
    ],
)
async def test_only_an_error_of_the_service_is_logged_as_one(
    path: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = install(falcon.asgi.App())
    app.add_websocket_route("/hall/{status}", Hall)
    async with serve(app) as running:
        with pytest.raises(Exception, match="403"):
            async with running.connect(path):
                pass
    [record] = [each for each in caplog.records if each.name == "falcon"]
    assert (record.levelno, record.levelname) == (level, logging.getLevelName(level))


def test_a_mistake_is_left_out_above_the_level_info() -> None:
    install(falcon.asgi.App())
    logger, lines = logging.getLogger("falcon"), list[str]()
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    try:
        for code in (3404, 3503):
            logger.error("[FALCON] HTTPError %s. Closing with code %s", "x", code)
        logger.error("other")
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
    assert lines == ["[FALCON] HTTPError x. Closing with code 3503", "other"]
