"""What the vectors do not show: a client that reads nothing, and a wake-up that repeats."""

from .simulation import Run


def announced() -> Run:
    run = Run({})
    run.step("open")
    payload = {"connection": "c", "heartbeatSeconds": 20}
    run.step("receive", {"type": "serverPosition", "payload": payload, "id": "e:0"})
    return run


def test_a_client_that_reads_nothing_does_not_count_as_silent_server() -> None:
    run = announced()
    run.client.machine.full_streams.add(run)
    run.step("pass", 100_000)
    run.step("expect", {"state": "open", "sent": []})
    run.client.machine.full_streams.clear()
    run.step("pass", 40_000)
    run.step("expect", {"sockets": 2})


def test_a_wake_up_asks_nothing_while_no_answer_can_be_read() -> None:
    run = announced()
    run.client.machine.full_streams.add(run)
    run.step("wake")
    run.step("pass", 100_000)
    run.step("expect", {"state": "open", "sent": []})
    run.client.machine.full_streams.clear()
    run.step("wake")
    run.step("expect", {"sentTypes": ["clientPing"]})


def test_a_late_timer_asks_once_more_and_not_forever() -> None:
    run = announced()
    for _ in range(2):
        run.step("sleep", 60_000)
        run.step("expect", {"state": "open", "waitMs": 3_000})
    run.step("sleep", 60_000)
    run.step("expect", {"state": "waiting"})
