"""The ASGI lifespan of an application without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ..support.lifespan import Lifespan
from .errors import raise_or_note
from .tasks import wait_ended


@asynccontextmanager
async def run_lifespan(
    app: Any, state: dict[str, Any], timeout_seconds: float
) -> AsyncIterator[None]:
    """Run the startup of an application, and its shutdown at the end.

    Raises:
        RuntimeError: The startup or the shutdown failed, with the application's message.
        TimeoutError: The startup or the shutdown took too long.
        Exception: The application raised an exception.
    """
    lifespan = Lifespan(app, state, timeout_seconds)
    lifespan.task = asyncio.create_task(lifespan.call_app(), name="lifespan")
    failure: BaseException | None = None
    try:
        await lifespan.request("startup")
        try:
            yield
        except BaseException as error:
            failure = error
            raise
        finally:
            try:
                await lifespan.request("shutdown")
            except Exception as error:
                raise_or_note(error, failure)
    finally:
        lifespan.task.cancel()
        await wait_ended(lifespan.task, timeout_seconds)
        if lifespan.task.done() and not lifespan.task.cancelled():
            lifespan.task.exception()  # servers ignore errors after the shutdown, too
