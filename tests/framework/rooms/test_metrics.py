"""Each metric of an application is moved by its event."""

import asyncio
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import BackendUnavailable, ServerLimits, WebSocketLike, install
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.publication import Publication
from falcon_pachinko.rooms.metrics import AppMetrics
from falcon_pachinko.server.metrics import METRICS
from falcon_pachinko.testing import Refused, Running, run
from falcon_pachinko.workers import Backoff, WorkerController

from ..support.backends import wait_until
from ..support.counted import LIMITS, Hall, ServerSaid, counted_app, number
from ..support.redis_servers import RedisServer


async def wait_number(metrics: AppMetrics, expected: float, name: str, *labels: str) -> None:
    await wait_until(lambda: number(metrics, name, *labels) == expected)


async def test_all_metrics_have_numbers() -> None:
    _, metrics = counted_app()
    assert set(metrics.measure()) == {metric.name for metric in METRICS}
    assert number(metrics, "processes") == 1
    assert number(metrics, "redis_up") == 1
    (labels,) = dict(metrics.measure()["build_info"])
    assert labels[0] == "1.2.3"
    assert labels[1].startswith("4.")


async def test_connections_rooms_members_accepts_and_closes() -> None:
    app, metrics = counted_app(server_limits=ServerLimits(connections=50))
    async with run(app) as running:
        assert number(metrics, "connections_limit") == 50
        async with running.connect("/alice") as alice, running.connect("/idle"):
            assert number(metrics, "connections") == 2
            assert number(metrics, "accepts_total") == 2
            assert number(metrics, "rooms") == number(metrics, "members") == 1
            assert number(metrics, "join_seconds") == 1
            await alice.close()
            await wait_number(metrics, 1, "closes_total", "1000")
            assert number(metrics, "connections") == 1
            assert number(metrics, "rooms") == number(metrics, "members") == 0
        assert number(metrics, "closes_total", "1000") == 2


@pytest.mark.parametrize(("code", "label"), [(4100, "4100"), (4777, "other"), (4029, "4029")])
async def test_a_close_code_that_nothing_declares_is_counted_as_other(
    code: int, label: str
) -> None:
    app, metrics = counted_app()
    async with run(app) as running, running.connect("/alice") as alice:
        await alice.send("leave", {"code": code})
        assert (await alice.wait_closed())[0] == code
        await wait_number(metrics, 1, "closes_total", label)
        counted = [value for _, value in metrics.measure()["closes_total"] if value]
        assert counted == [1.0]


async def test_a_client_cannot_add_a_close_code() -> None:
    app, metrics = counted_app()
    async with run(app) as running:
        for code in (3001, 3002, 4998):
            async with running.connect("/alice") as alice:
                await alice.close(code)
        await wait_number(metrics, 3, "closes_total", "other")


def of(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


async def refuse(running: Running, path: str, address: str, origin: str | None = None) -> None:
    with pytest.raises(Refused):
        async with running.connect(path, headers=of(address), origin=origin):
            pass


# An address has six handshakes.
SLOW: dict[str, Any] = {"handshakes_per_second": 0.001, "handshake_burst": 6}


async def test_refusals_by_reason() -> None:
    limits = ServerLimits(connections=2, connections_per_address=1, **SLOW)
    app, metrics = counted_app(server_limits=limits, trusted_proxies=["*"])
    first, second, third = "192.0.2.1", "192.0.2.2", "192.0.2.3"
    async with run(app) as running:
        await refuse(running, "/refused", first)
        await wait_number(metrics, 1, "refusals_total", "handler")
        await refuse(running, "/alice", first, "https://evil.example")
        assert number(metrics, "refusals_total", "origin") == 1
        async with running.connect("/expired", headers=of(first)) as expired:
            assert (await expired.wait_closed())[0] == 4401
        await wait_number(metrics, 1, "refusals_total", "session")
        async with running.connect("/alice", headers=of(first)):
            await refuse(running, "/alice", first)
            assert number(metrics, "refusals_total", "address_full") == 1
            async with running.connect("/bob", headers=of(second)):
                await refuse(running, "/carol", third)
                assert number(metrics, "refusals_total", "full") == 1
        await refuse(running, "/refused", first)
        await refuse(running, "/alice", first)
        assert number(metrics, "refusals_total", "address_rate") == 1
        assert number(metrics, "accepts_total") == 2


async def test_messages_in_by_type_and_the_time_of_their_handlers() -> None:
    app, metrics = counted_app()
    async with run(app) as running, running.connect("/alice") as alice:
        await alice.receive_until("serverPosition")
        for _ in range(20):
            await alice.send("echo", {"text": "a"})
            await alice.receive()
        assert number(metrics, "messages_in_total", "echo") == 20
        assert number(metrics, "handler_seconds", "echo") == 1  # of a sample
        await alice.send("echo", {"text": 1})
        await alice.receive()
        assert number(metrics, "messages_in_total", "invalid") == 1
        await alice.send_raw('{"type": "made up by a client"}')
        await alice.send_raw("no JSON")
        await alice.send_raw(b"data")
        await alice.send("clientPing")
        await alice.receive_until("serverPong")
        assert number(metrics, "messages_in_total", "unknown") == 2
        assert number(metrics, "messages_in_total", "binary") == 1
        assert number(metrics, "messages_in_total", "clientPing") == 1
        kinds = {labels[0] for labels, _ in metrics.measure()["messages_in_total"]}
        assert "made up by a client" not in kinds


async def test_messages_out_count_once_per_recipient() -> None:
    app, metrics = counted_app()
    async with (
        run(app) as running,
        running.connect("/alice") as alice,
        running.connect("/bob") as bob,
    ):
        for client in (alice, bob):
            await client.receive_until("serverPosition")
        before = number(metrics, "messages_out_total")
        assert before == 2
        await alice.send("say", {"text": "to both"})
        await alice.receive()
        await bob.receive()
        assert number(metrics, "messages_out_total") == before + 2
        await alice.send("whisper", {"text": "to bob"})
        await bob.receive()
        assert number(metrics, "messages_out_total") == before + 3
        await alice.send("echo", {"text": "to alice"})
        await alice.receive()
        assert number(metrics, "messages_out_total") == before + 4
        await app.ws_connection_manager.send_to_user("bob", {"type": "x"})
        await bob.receive()
        assert number(metrics, "messages_out_total") == before + 5


class Goodbye(Hall):
    """A room whose users say goodbye to the others."""

    async def on_disconnect(self, ws: WebSocketLike, code: int) -> None:
        await self.broadcast_to_room("hall", ServerSaid(text="Goodbye"), exclude_self=True)


async def test_a_message_without_its_closing_sender_does_not_lower_the_number() -> None:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/{name}", Goodbye)
    metrics = AppMetrics(app)
    async with run(app) as running:
        for closed in range(1, 4):
            async with running.connect("/alice") as alice:
                await alice.receive_until("serverPosition")
                before = number(metrics, "messages_out_total")
            await wait_number(metrics, closed, "closes_total", "1000")
            assert number(metrics, "messages_out_total") >= before >= closed


async def test_messages_above_the_rate_of_all_or_of_a_type() -> None:
    app, metrics = counted_app()
    async with run(app) as running, running.connect("/alice") as alice:
        await alice.receive_until("serverPosition")
        for _ in range(2):
            await alice.send("leave", {})
        await alice.receive_until("serverError")
        assert number(metrics, "rate_refusals_total") == 1
        for _ in range(int(LIMITS.message_burst) - 1):
            await alice.send("clientPing")
        await alice.receive_until("serverError")
        assert number(metrics, "rate_refusals_total") == 2


async def test_a_reconnecting_client_has_recovered_or_not() -> None:
    app, metrics = counted_app()
    async with run(app) as running, running.connect("/bob") as bob:
        position = (await bob.receive_until("serverPosition"))[-1]["id"]
        async with running.connect(f"/alice?since={position}") as alice:
            await alice.receive_until("serverPosition")
            assert number(metrics, "recoveries_total", "yes") == 1
        async with running.connect("/alice?since=unknown:1") as alice:
            await alice.receive_until("serverPosition")
            assert number(metrics, "recoveries_total", "no") == 1
        assert number(metrics, "recoveries_total", "yes") == 1


async def test_outboxes_and_slow_readers() -> None:
    app, metrics = counted_app()
    async with run(app) as running, running.connect("/alice"), running.connect("/bob") as bob:
        first, second = app.ws_connection_manager
        for connection, size in ((first, 100), (second, 30)):
            connection._outbox.backlog.add(Publication.of_text("x" * size), LIMITS)
        await wait_number(metrics, 130, "outbox_bytes")  # at the next check, within a second
        assert number(metrics, "outbox_largest_bytes") == 100
        for connection in (first, second):
            connection._outbox.discard()
        await wait_number(metrics, 0, "outbox_bytes")
        second.abort(4008, "reads too slowly")
        assert (await bob.wait_closed())[0] == 4008
        await wait_number(metrics, 1, "slow_readers_total")
        assert number(metrics, "closes_total", "4008") == 1


async def test_the_memory_of_histories() -> None:
    app, metrics = counted_app()
    async with run(app) as running, running.connect("/alice") as alice:
        assert number(metrics, "history_bytes") == 0
        await alice.send("say", {"text": "kept"})
        await alice.receive_until("serverSaid")
        assert number(metrics, "history_bytes") > 100


async def test_workers_their_starts_and_deaths() -> None:
    app, metrics = counted_app()
    attempts = 0

    async def worker() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise BackendUnavailable("a test")
        await asyncio.Event().wait()

    backoff = Backoff(base_seconds=0.001)
    workers = WorkerController(manager=app.ws_connection_manager, restart=backoff)
    await workers.start(worker)
    await wait_number(metrics, 2, "worker_starts_total")
    assert number(metrics, "worker_deaths_total") == 1
    assert number(metrics, "workers") == 1
    await workers.stop()
    assert number(metrics, "workers") == 0
    assert number(metrics, "worker_deaths_total") == 1


@pytest.mark.redis
async def test_calls_to_redis_lag_and_outages(redis_server: RedisServer) -> None:
    backend = backend_from_url(redis_server.url, prefix="metrics")
    app, metrics = counted_app(backend=backend)
    async with run(app) as running, running.connect("/alice") as alice:
        await alice.receive_until("serverPosition")
        assert number(metrics, "redis_up") == 1
        assert number(metrics, "redis_call_seconds") > 0
        await alice.send("say", {"text": "over Redis"})
        await alice.receive_until("serverSaid")
        assert number(metrics, "redis_lag_seconds") >= 1
        (_, lag), *_ = metrics.measure()["redis_lag_seconds"]
        assert isinstance(lag, list)
        assert lag[0] < 5.0
        redis_server.pause()
        try:
            with pytest.raises(BackendUnavailable):
                await app.ws_connection_manager.get_rooms_by_prefix("")
            assert number(metrics, "redis_up") == 0
            await wait_until(lambda: number(metrics, "redis_unavailable_seconds_total") > 0)
        finally:
            redis_server.resume()
        await wait_number(metrics, 1, "redis_up")
        lasted = number(metrics, "redis_unavailable_seconds_total")
        assert lasted > 0
        await asyncio.sleep(0)
        assert number(metrics, "redis_unavailable_seconds_total") == lasted


async def test_the_lag_of_the_event_loop() -> None:
    _, metrics = counted_app()
    metrics.loop_lag.start()
    await wait_until(lambda: number(metrics, "event_loop_lag_seconds") > 0)
    metrics.loop_lag.stop()


async def test_a_route_whose_class_is_unknown_has_metrics_too() -> None:
    app = install(falcon.asgi.App())

    def make_hall() -> Any:
        return Hall()

    app.add_websocket_route("/{name}", make_hall)
    metrics = AppMetrics(app)
    async with run(app) as running, running.connect("/alice"):
        assert number(metrics, "connections") == 1


async def test_a_connection_in_several_rooms_counts_once_and_each_room_as_a_member() -> None:
    app, metrics = counted_app()
    app.add_rooms_route("/", "/{name}")
    async with run(app) as running, running.connect("/") as client:
        for name in ("alice", "alice2"):
            await client.send("clientJoin", {"room": name})
        await client.receive_until("serverJoined")
        assert number(metrics, "connections") == number(metrics, "accepts_total") == 1
        assert number(metrics, "members") >= 1
        assert number(metrics, "messages_out_total") >= 1
    await wait_number(metrics, 1, "closes_total", "1000")


def test_an_application_without_metrics_has_the_plain_classes() -> None:
    app = install(falcon.asgi.App())
    assert type(app.ws_connection_manager._registry).__name__ == "ConnectionRegistry"
    assert not app.ws_connection_manager.backend.counters.counting
