"""The operations on requests that are handled once: requests, and replies as values."""

from falcon_pachinko.backends.once import ClaimState, OnceRun, RequestKey
from falcon_pachinko.backends.redis import operations
from falcon_pachinko.backends.redis.script import once_tag

RUN = OnceRun(RequestKey("alice", "c" * 32, "7"), 1.5)


def test_replies_are_decoded() -> None:
    claim = operations.claim_request(RUN, again=True)
    assert claim.decode([b"done", b"{\xff}"]) == (ClaimState.DONE, b"{\xff}")
    assert claim.decode([b"running", b"node-1"]) == (ClaimState.RUNNING, b"node-1")
    assert claim.request[-4:] == ("", 1_500, "", True)
    assert operations.finish_request(RUN, b"{}").decode(1) is None


def test_all_clients_of_a_user_share_a_slot_that_does_not_show_the_user() -> None:
    other = OnceRun(RequestKey("alice", "d" * 32, "8"), 1.5)
    tags = {operations.release_request(each, again=True).tag for each in (RUN, other)}
    assert tags == {once_tag("alice", "")}
    assert "alice" not in str(tags)
    assert once_tag(None, "c" * 32) != once_tag("c" * 32, "c" * 32)
    assert once_tag("\ud800", "") != once_tag("?", "")
