"""What the vectors do not show of requests: several at once, late and unknown replies."""

from .simulation import Run


def test_a_reply_with_an_unknown_reference_has_no_effect() -> None:
    run = Run({"listen": ["serverAck"]})
    run.step("open")
    run.step("request", "r", "clientWait", {})
    for reference in ("7", 1, None, "", "server"):
        run.step("receive", {"type": "serverAck", "payload": {}, "ref": reference})
    run.step("receive", {"type": "serverAck", "payload": {}, "ref": "1"})
    run.step("receive", {"type": "serverAck", "payload": {}, "ref": "1"})
    run.step("expect", {"replies": {"r": ["serverAck", {}]}, "errors": {}, "waitMs": None})


def test_requests_fail_together_and_are_forgotten() -> None:
    run = Run({})
    run.step("open")
    for number in range(3):
        run.step("request", str(number), "clientWait", {}, {"once": number == 2})
    run.client.machine.fail_requests("receiveQueueFull")
    failed = dict.fromkeys("012", "receiveQueueFull")
    run.step("expect", {"errors": failed, "queued": 0, "waitMs": None})


def test_an_error_without_its_fields_is_still_an_error() -> None:
    run = Run({})
    run.step("open")
    run.step("request", "r", "clientWait", {})
    run.step("receive", {"type": "serverError", "payload": {}, "ref": "1"})
    run.step("expect", {"errors": {"r": ""}})
