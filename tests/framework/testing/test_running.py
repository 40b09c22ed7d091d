"""A running application: its stop, its end, and a failed worker."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

import falcon_pachinko.testing
from falcon_pachinko import App
from falcon_pachinko.testing import Running
from falcon_pachinko.workers import WorkerController

from .lobby import Open, make_app


async def test_stop_closes_every_connection(chat: Running) -> None:
    async with chat.connect("/lobby/alice") as alice, chat.connect("/lobby/bob") as bob:
        chat.stop()
        assert await alice.wait_closed() == (1012, "")
        assert await bob.wait_closed() == (1012, "")
        with pytest.raises(OSError, match=r"stopped|refused|reset|Connect call failed"):
            async with chat.connect("/lobby/late"):
                pass


async def test_the_end_of_the_context_closes_open_connections(open_app: Open) -> None:
    async with AsyncExitStack() as clients:
        async with open_app(make_app()) as chat:
            alice = await clients.enter_async_context(chat.connect("/lobby/alice"))
        assert await alice.wait_closed() == (1012, "")


async def test_a_failed_worker_fails_its_own_test_only(
    open_app: Open, caplog: pytest.LogCaptureFixture
) -> None:
    failing = asyncio.Event()

    async def worker() -> None:
        await failing.wait()
        raise ZeroDivisionError("a bug")

    app, workers = make_app(), WorkerController()

    @app.lifespan
    async def lifespan(_: App) -> AsyncIterator[None]:
        await workers.start(worker)
        yield
        await workers.stop()

    async def observe_failure() -> None:
        async with open_app(app) as chat, chat.connect("/lobby/alice") as alice:
            failing.set()
            assert await alice.wait_closed() == (1012, "")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError, match="the application requested a shutdown"):
        await observe_failure()
    assert signal.getsignal(signal.SIGTERM) is before
    assert "worker died" in caplog.text


def test_the_public_names_are_listed() -> None:
    assert sorted(falcon_pachinko.testing.__all__) == [
        "Client",
        "Closed",
        "JoinRefused",
        "Refused",
        "Running",
        "Served",
        "Undeclared",
        "connect",
        "declarations",
        "run",
        "serve",
    ]
    assert all(hasattr(falcon_pachinko.testing, name) for name in falcon_pachinko.testing.__all__)
