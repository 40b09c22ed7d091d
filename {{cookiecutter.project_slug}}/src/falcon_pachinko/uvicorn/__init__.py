"""The accelerator for uvicorn: pass ``ws=PushProtocol`` to ``uvicorn.run``; nothing else is needed."""

from .protocol import PushProtocol

__all__ = ["PushProtocol"]
