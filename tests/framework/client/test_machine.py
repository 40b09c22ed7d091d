"""The state machine of the client: the vectors that it shares with realtime.js."""

from typing import Any

import pytest

from falcon_pachinko.client.machine import Machine
from falcon_pachinko.client.policy import is_terminal_code

from .simulation import VECTORS, Run, Simulation, options_of


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: str(vector["name"]))
def test_the_machine_behaves_as_the_vector_of_both_clients(vector: dict[str, Any]) -> None:
    run = Run(vector)
    for number, step in enumerate(vector["steps"], start=1):
        try:
            run.step(*step)
        except AssertionError as error:
            error.add_note(f"step {number}: {step}")
            raise


def test_the_vectors_cover_each_part_of_the_machine() -> None:
    actions = {step[0] for vector in VECTORS["vectors"] for step in vector["steps"]}
    assert {"open", "end", "pass", "wake", "sleep", "request", "join", "leave"} <= actions
    assert len(VECTORS["vectors"]) >= 45


def test_the_machine_closes_on_each_terminal_code_and_retries_on_each_other_one() -> None:
    for code in range(1000, 5000):
        run = Run({})
        run.step("open")
        run.step("end", code, "why")
        state = "closed" if is_terminal_code(code) else "waiting"
        run.step("expect", {"state": state, "code": code, "reason": "why"})
        if state == "closed":
            run.step("expect", {"waitMs": None})


def test_later_events_of_an_attempt_that_has_timed_out_are_ignored() -> None:
    run = Run({"options": {"connectTimeoutMs": 700, "baseDelayMs": 100}, "listen": ["late"]})
    slow = run.simulation.socket
    run.step("pass", 700)
    slow.open()
    slow.receive({"type": "late"})
    slow.end(4401)
    run.step("expect", {"state": "waiting", "received": [], "waitMs": 50})
    run.step("pass", 50)
    run.step("open")
    slow.end(1006)
    run.step("expect", {"state": "open", "waitMs": None})


def test_a_request_of_the_server_is_answered_over_the_connection_that_it_came_from() -> None:
    run = Run({})
    replies: list[Any] = []
    run.client.machine.on_request = lambda message, reply: replies.append(reply)
    run.step("open")
    run.step("receive", {"type": "serverAsk", "payload": {}, "ref": "server:1"})
    run.step("receive", {"type": "serverAsk", "payload": {}, "ref": "server:2"})
    replies[0]({"result": True})
    reply = {"type": "clientReply", "ref": "server:1", "payload": {"result": True}}
    run.step("expect", {"sent": [reply]})
    run.step("end", 1012)
    run.step("retryNow")
    run.step("open")
    replies[1]({"result": True})
    run.step("expect", {"sent": []})


def test_the_url_of_a_handshake_keeps_the_query_of_the_application() -> None:
    simulation = Simulation()
    machine = Machine("ws://a.test/x?y=1", options_of({}), simulation, client_id="c" * 32)
    machine.start()
    assert simulation.socket.url == f"ws://a.test/x?y=1&client={'c' * 32}"
