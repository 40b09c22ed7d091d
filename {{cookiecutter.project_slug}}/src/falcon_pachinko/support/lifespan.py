"""The ASGI lifespan protocol from the side of a server."""

from __future__ import annotations

import asyncio
from typing import Any

Event = dict[str, Any]


class Lifespan:
    """One run of the ASGI lifespan protocol; ``task`` is to be set to a task of :meth:`call_app`.

    Args:
        app: The application.
        state: The mapping that connections get as ``scope["state"]``.
        timeout_seconds: The bound of the startup, and of the shutdown; ``None`` for no bound.
    """

    def __init__(self, app: Any, state: dict[str, Any], timeout_seconds: float | None) -> None:
        self.app = app
        self.state = state
        self.timeout_seconds = timeout_seconds
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.responses: asyncio.Queue[Event] = asyncio.Queue()
        self.task: asyncio.Task[None]

    async def call_app(self) -> None:
        """Call the application with the lifespan scope."""
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        await self.app(scope, self.events.get, self.responses.put)

    async def request(self, step: str) -> None:
        """Request the ``startup`` or the ``shutdown`` and wait until it is complete.

        Raises:
            RuntimeError: The application reported a failure, or ended before.
            TimeoutError: The step took too long.
            Exception: The application raised an exception.
        """
        self.events.put_nowait({"type": f"lifespan.{step}"})
        response = asyncio.ensure_future(self.responses.get())
        try:
            await asyncio.wait(
                {response, self.task},
                timeout=self.timeout_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not response.done():
                if not self.task.done():
                    raise TimeoutError(
                        f"the application's {step} took longer than {self.timeout_seconds} s"
                    )
                self.task.result()
                raise RuntimeError(f"the application ended before its {step} was complete")
        finally:
            response.cancel()
        event = response.result()
        if event["type"] != f"lifespan.{step}.complete":
            raise RuntimeError(f"the application's {step} failed:\n{event.get('message', '')}")
