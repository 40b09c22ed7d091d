"""Several rooms on one connection: many names, a reply of another attempt, a probe."""

import json

from falcon_pachinko.client.rooms import MAX_JOIN_CHARACTERS

from .simulation import Run


def test_many_rooms_are_joined_by_several_messages_of_a_bounded_size() -> None:
    run = Run({})
    names = [f"room {number:03} " + "x" * 100 for number in range(300)]
    for name in names:
        run.step("join", name)
    run.step("open")
    sent = run.simulation.socket.sent
    joined = [each["room"] for text in sent for each in json.loads(text)["payload"]["rooms"]]
    assert joined == names
    assert 1 < len(sent) < 10
    assert max(map(len, sent)) < MAX_JOIN_CHARACTERS + 500


def test_a_reply_to_another_request_joins_no_room() -> None:
    run = Run({})
    run.step("join", "a")
    run.step("open")
    run.step("receive", {"type": "serverJoined", "payload": {}, "ref": "9", "room": "a"})
    run.step("room", "a", ["expect", {"state": "connecting"}])
    run.step("receive", {"type": "serverError", "payload": {}, "ref": "1", "room": "a"})
    run.step("room", "a", ["expect", {"state": "waiting", "code": 1013}])


def test_messages_of_rooms_wait_for_the_answer_to_a_probe() -> None:
    run = Run({})
    run.step("join", "a")
    run.step("open")
    run.step("receive", {"type": "serverJoined", "payload": {}, "ref": "1", "room": "a"})
    run.step("receive", {"type": "serverPosition", "payload": {"heartbeatSeconds": 20}})
    run.step("wake")
    run.step("room", "a", ["send", "note", {}, True])
    run.step("expect", {"sentTypes": ["clientJoin", "clientPing"]})
    run.step("receive", {"type": "serverPong", "payload": {}})
    run.step("expect", {"sentTypes": ["clientJoin", "clientPing", "note"]})
