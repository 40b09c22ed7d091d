"""Claims of requests that are handled once."""

from collections.abc import Sequence

from falcon_pachinko.backends.once import Claim, ClaimState, OnceRun, RequestKey

from .backends import RecordingNode

NEW, RUNNING = Claim(ClaimState.NEW), Claim(ClaimState.RUNNING)
INTERRUPTED, ACKNOWLEDGED = Claim(ClaimState.INTERRUPTED), Claim(ClaimState.DONE)
CLIENT = "0123456789abcdef" * 2


def run_of(
    ref: str, *, user: str | None = "alice", client: str = CLIENT, seconds: float = 60.0
) -> OnceRun:
    return OnceRun(RequestKey(user, client, ref), seconds)


async def claim(node: RecordingNode, run: OnceRun, *, repeatable: bool = False) -> Claim:
    return await node.backend.claim_request(run, repeatable=repeatable)


async def state_of(
    node: RecordingNode, ref: str, *, repeatable: bool = False, client: str = CLIENT
) -> Claim:
    """Claim a request, and undo it."""
    run = run_of(ref, client=client)
    found = await claim(node, run, repeatable=repeatable)
    if found == NEW:
        node.backend.release_request(run, repeatable=True)
    return found


async def finish(node: RecordingNode, refs: Sequence[str], reply: bytes = b"{}") -> None:
    for ref in refs:
        run = run_of(ref)
        assert await claim(node, run) == NEW
        node.backend.finish_request(run, reply)
