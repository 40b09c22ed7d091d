"""The accelerator for uvicorn: pass ``ws=PushProtocol, http=BoundedHTTPProtocol`` to ``uvicorn.run``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .protocol import PushProtocol

if TYPE_CHECKING:
    from .http import BoundedHTTPProtocol

__all__ = ["BoundedHTTPProtocol", "PushProtocol"]


def __getattr__(name: str) -> object:
    """Import ``BoundedHTTPProtocol`` on first use: uvicorn also works without the httptools that it needs."""
    if name == "BoundedHTTPProtocol":
        from .http import BoundedHTTPProtocol

        return BoundedHTTPProtocol
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
