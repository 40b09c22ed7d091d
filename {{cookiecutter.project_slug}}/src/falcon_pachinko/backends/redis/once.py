"""Requests that are handled once in all processes that share a Redis or Valkey."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

from ...errors import BackendUnavailable
from ...support.tasks import TaskSet
from ..once import Claim, ClaimState, OnceRun, stored_reply
from . import operations
from .operations import Operation
from .pipeline import Pipeline

# The interval at which an outcome that Redis has not taken is sent again.
RETRY_SECONDS = 0.5


class RedisOnce:
    """The requests that this node handles.

    The token of an execution begins with the name of its node. An execution has ended without an outcome if its node
    is not live, or if this node does not know it: then the reply to its claim was lost, and it has not begun.

    Attributes:
        active: The tokens of executions whose outcome Redis does not have yet.

    Args:
        pipeline: Executes operations.
        node_id: The name of the node.
        tasks: Runs the tasks that repeat outcomes.
    """

    def __init__(self, pipeline: Pipeline, node_id: str, tasks: TaskSet) -> None:
        self.pipeline = pipeline
        self.node_id = node_id
        self.tasks = tasks
        self.active: set[str] = set()
        self.numbers = itertools.count(1)

    async def claim(self, run: OnceRun, *, repeatable: bool) -> Claim:
        """Claim a request."""
        self.pipeline.check_available()
        run.token = f"{self.node_id}-{next(self.numbers)}"
        self.active.add(run.token)
        try:
            state, detail = await self.pipeline.call(
                operations.claim_request(run, again=repeatable)
            )
            if state is ClaimState.RUNNING:
                state, detail = await self._take_over(run, detail.decode(), repeatable)
        except BaseException:
            # NOTE: Redis may have executed the claim, of an execution that does not begin, or execute it until its deadline.
            self.active.discard(run.token)
            release = operations.release_request(run, again=True)
            seconds = self.pipeline.client.answer_seconds
            self.tasks.create_task(self._save_later(run, release, seconds))
            raise
        if state is not ClaimState.NEW:
            self.active.discard(run.token)
        return Claim(state, detail if state is ClaimState.DONE else b"")

    async def _take_over(
        self, run: OnceRun, holder: str, repeatable: bool
    ) -> tuple[ClaimState, bytes]:
        """Claim a request that another execution has, if that has ended without an outcome."""
        node = holder.partition("-")[0]
        if node == self.node_id:
            has_ended = again = holder not in self.active
        else:
            live_nodes = await self.pipeline.call(operations.live_nodes())
            # NOTE: after a time in which no node could renew, another one may still handle the request.
            has_ended = node not in live_nodes and not self.pipeline.client.in_doubt()
            again = repeatable
        if not has_ended:
            return ClaimState.RUNNING, b""
        return await self.pipeline.call(
            operations.claim_request(run, ended=holder, again=again or repeatable)
        )

    def finish(self, run: OnceRun, reply: bytes) -> None:
        """Store the reply of an execution."""
        self._save(run, operations.finish_request(run, stored_reply(reply)))

    def release(self, run: OnceRun, *, repeatable: bool) -> None:
        """End an execution without a reply."""
        if run.published:
            self.finish(run, b"")
        else:
            self._save(run, operations.release_request(run, again=repeatable))

    def _save(self, run: OnceRun, operation: Operation[None]) -> None:
        """Store the outcome of an execution; repeat it after an outage."""

        def on_saved(_: object) -> None:
            self.active.discard(run.token)

        def on_failure(_: object) -> None:
            if not self.pipeline.has_ended:
                self.tasks.create_task(self._save_later(run, operation, RETRY_SECONDS))

        self.pipeline.submit(operation, on_saved, on_failure)

    async def _save_later(self, run: OnceRun, operation: Operation[None], seconds: float) -> None:
        """After a time, repeat an outcome until Redis has taken it, or its time is over."""
        loop = asyncio.get_running_loop()
        until = loop.time() + run.seconds
        while loop.time() < until:
            await asyncio.sleep(seconds)
            seconds = RETRY_SECONDS
            if not self.pipeline.outage:
                with contextlib.suppress(BackendUnavailable):
                    await self.pipeline.submit(operation)
                    break
        # NOTE: not before: an execution that is not active counts as one that has not begun.
        self.active.discard(run.token)
