"""The framework and the bare loop in one process, so that only their code differs."""

from typing import Any

from . import bare, ours


async def app(scope: Any, receive: Any, send: Any) -> None:
    serve = bare.app if scope.get("path", "").startswith("/bare/") else ours.app
    await serve(scope, receive, send)
