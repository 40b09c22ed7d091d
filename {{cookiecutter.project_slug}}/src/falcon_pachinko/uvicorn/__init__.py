"""The accelerator for uvicorn: pass ``ws=PushProtocol, http=BoundedHTTPProtocol`` to ``uvicorn.run``."""

from .http import BoundedHTTPProtocol
from .protocol import PushProtocol

__all__ = ["BoundedHTTPProtocol", "PushProtocol"]
