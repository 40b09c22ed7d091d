"""A room is a client of its own, without a connection of its own."""

from falcon_pachinko.client.room_machine import join_room

from .simulation import Run


def test_a_room_is_joined_once_and_again_after_it_was_closed() -> None:
    run = Run({})
    run.step("join", "a")
    first = run.rooms["a"].machine
    assert join_room(run.client.machine, "a") is first
    run.step("leave", "a")
    assert join_room(run.client.machine, "a") is not first


def test_a_room_waits_for_its_server_without_a_timeout_of_its_own() -> None:
    run = Run({})
    run.step("open")
    run.step("join", "a")
    run.step("pass", 3_600_000)
    run.step("room", "a", ["expect", {"state": "connecting"}])
    run.step("expect", {"state": "open", "sockets": 1})
