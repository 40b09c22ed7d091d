"""The only timer of a connection, and the queue."""

from .simulation import Run


def test_a_new_timer_replaces_the_one_before() -> None:
    run = Run({})
    machine, called = run.client.machine, list[str]()
    machine.start_timer(1, lambda: called.append("first"))
    machine.start_timer(2, lambda: called.append("second"))
    run.simulation.pass_time(5)
    assert called == ["second"]
    machine.start_timer(1, lambda: called.append("stopped"))
    machine.stop_timer()
    machine.stop_timer()
    run.simulation.pass_time(5)
    assert called == ["second"]


def test_a_queue_is_kept_where_the_socket_is_not_open() -> None:
    run = Run({})
    run.step("send", "a", {}, True)
    machine = run.client.machine
    assert machine.socket is not None
    machine.send_queue(machine.socket)
    run.step("expect", {"queued": 1, "sent": []})
