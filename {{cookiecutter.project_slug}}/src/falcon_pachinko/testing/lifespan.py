"""An application's life without a server: startup before the test, shutdown after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ..connection.inbox import Event
from .errors import fail
from .tasks import wait_ended


class Lifespan:
    """One run of the ASGI lifespan protocol.

    Args:
        app: The application.
        state: What it may put there is seen by each connection as ``scope["state"]``.
        timeout_seconds: How long the start and the end may take, each.
    """

    def __init__(self, app: Any, state: dict[str, Any], timeout_seconds: float) -> None:
        self.app = app
        self.state = state
        self.timeout_seconds = timeout_seconds
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.answers: asyncio.Queue[Event] = asyncio.Queue()
        self.task: asyncio.Task[None]

    async def live(self) -> None:
        """Call the application."""
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        await self.app(scope, self.events.get, self.answers.put)

    async def ask(self, step: str) -> None:
        """Ask for one step and wait until it is done.

        Raises:
            RuntimeError: The application says that it failed, or has ended without an answer.
            TimeoutError: It takes too long.
            Exception: What the application raises.
        """
        self.events.put_nowait({"type": f"lifespan.{step}"})
        answer = asyncio.ensure_future(self.answers.get())
        try:
            await asyncio.wait(
                {answer, self.task},
                timeout=self.timeout_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not answer.done():
                if not self.task.done():
                    raise TimeoutError(
                        f"the application's {step} was not done within {self.timeout_seconds} s"
                    )
                self.task.result()
                raise RuntimeError(f"the application ended without an answer to its {step}")
        finally:
            answer.cancel()
        event = answer.result()
        if event["type"] != f"lifespan.{step}.complete":
            raise RuntimeError(f"the application's {step} failed:\n{event.get('message', '')}")


@asynccontextmanager
async def living(app: Any, state: dict[str, Any], timeout_seconds: float) -> AsyncIterator[None]:
    """Start an application; at the end let it stop.

    Raises:
        RuntimeError: Its start or its stop failed; the message is the application's.
        TimeoutError: One of them took too long.
        Exception: What the application raises.
    """
    lifespan = Lifespan(app, state, timeout_seconds)
    lifespan.task = asyncio.create_task(lifespan.live(), name="lifespan")
    failure: BaseException | None = None
    try:
        await lifespan.ask("startup")
        try:
            yield
        except BaseException as error:
            failure = error
            raise
        finally:
            try:
                await lifespan.ask("shutdown")
            except Exception as error:
                fail(error, failure)
    finally:
        lifespan.task.cancel()
        await wait_ended(lifespan.task, timeout_seconds)
        if lifespan.task.done() and not lifespan.task.cancelled():
            lifespan.task.exception()  # what comes after the last answer, servers ignore too
