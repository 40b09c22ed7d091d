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


def test_requests_with_once_that_fail_together_are_not_sent_one_after_the_other() -> None:
    run = Run({})
    run.step("open")
    for name in "abc":
        run.step("request", name, "clientWait", {}, {"once": True})
    run.client.machine.fail_requests("receiveQueueFull")
    run.simulation.settle()
    failed = {"a": "receiveQueueFull", "b": "notSent", "c": "notSent"}
    run.step("expect", {"errors": failed, "sentRefs": ["1"], "queued": 0, "waitMs": None})


def test_a_request_with_once_whose_turn_comes_with_a_loss_was_not_sent() -> None:
    run = Run({})
    run.step("open")
    run.step("request", "a", "clientWait", {}, {"once": True})
    run.step("request", "b", "clientWait", {}, {"once": True, "timeoutMs": 50})
    run.simulation.socket.receive({"type": "serverAck", "payload": {}, "ref": "1"})
    run.step("end", 1006)
    run.step("expect", {"queued": 1})
    run.step("pass", 50)
    run.step("expect", {"errors": {"b": "notSent"}, "queued": 0})


def test_an_unwritten_request_that_has_failed_is_not_queued_again() -> None:
    run = Run({})
    run.step("open")
    run.step("request", "late", "clientWait", {}, {"timeoutMs": 100})
    run.step("request", "kept", "clientWait", {})
    run.step("request", "once", "clientWait", {}, {"once": True})
    run.step("send", "plain", {}, True)
    unwritten = list(run.simulation.socket.sent)
    run.step("pass", 100)
    for text in reversed(unwritten):
        run.client.machine.requeue(text)
    run.step("end", 1006)
    run.step("expect", {"errors": {"late": "timeout"}, "queued": 3})
    run.step("retryNow")
    run.step("open")
    run.step("expect", {"sentRefs": ["2", "3", None]})
