"""WebSocket resources with rooms and typed message handlers for Falcon.

    app = falcon_pachinko.install(falcon.asgi.App())
    app.add_websocket_route("/ws/chat/{room_name}", ChatRoomResource)

Workers are in ``falcon_pachinko.workers``, backends in ``falcon_pachinko.backends``,
the uvicorn protocol in ``falcon_pachinko.uvicorn``. A name is imported from its module at its first use:
a program that uses none, such as ``python -m falcon_pachinko``, does not import Falcon.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .app import App, install
    from .backends.once import RequestKey
    from .connection.connection import Connection
    from .connection.hooks import HandlerCall, NextHandler
    from .connection.websocket_like import WebSocketLike
    from .errors import (
        BackendUnavailable,
        ConfigurationError,
        Forbidden,
        InvalidPayload,
        InvalidRoomName,
        MessageError,
        OutboxFull,
        PachinkoError,
        ProviderUnavailable,
        RegistrationError,
        Reject,
    )
    from .handlers import handles_binary, handles_message
    from .history import History
    from .limits import Limits, ServerLimits
    from .messages import Message, Payload, ServerError
    from .presence import PresenceBatch
    from .resource import WebSocketResource
    from .rooms.activity import Activity
    from .rooms.manager import WebSocketConnectionManager
    from .route_config import RouteConfig
    from .routing.group import WebSocketGroup
    from .startup import lifespan

__version__ = "0.1.0"

__all__ = [
    "Activity",
    "App",
    "BackendUnavailable",
    "ConfigurationError",
    "Connection",
    "Forbidden",
    "HandlerCall",
    "History",
    "InvalidPayload",
    "InvalidRoomName",
    "Limits",
    "Message",
    "MessageError",
    "NextHandler",
    "OutboxFull",
    "PachinkoError",
    "Payload",
    "PresenceBatch",
    "ProviderUnavailable",
    "RegistrationError",
    "Reject",
    "RequestKey",
    "RouteConfig",
    "ServerError",
    "ServerLimits",
    "WebSocketConnectionManager",
    "WebSocketGroup",
    "WebSocketLike",
    "WebSocketResource",
    "handles_binary",
    "handles_message",
    "install",
    "lifespan",
]

# The module of each public name.
_MODULES = {
    "app": ("App", "install"),
    "backends.once": ("RequestKey",),
    "connection.connection": ("Connection",),
    "connection.hooks": ("HandlerCall", "NextHandler"),
    "connection.websocket_like": ("WebSocketLike",),
    "errors": (
        "BackendUnavailable",
        "ConfigurationError",
        "Forbidden",
        "InvalidPayload",
        "InvalidRoomName",
        "MessageError",
        "OutboxFull",
        "PachinkoError",
        "ProviderUnavailable",
        "RegistrationError",
        "Reject",
    ),
    "handlers": ("handles_binary", "handles_message"),
    "history": ("History",),
    "limits": ("Limits", "ServerLimits"),
    "messages": ("Message", "Payload", "ServerError"),
    "presence": ("PresenceBatch",),
    "resource": ("WebSocketResource",),
    "rooms.activity": ("Activity",),
    "rooms.manager": ("WebSocketConnectionManager",),
    "route_config": ("RouteConfig",),
    "routing.group": ("WebSocketGroup",),
    "startup": ("lifespan",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

# Type checkers use the imports above: for them a wrong name is an error.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name from its module (PEP 562)."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """Return the names of the module, those that have not been used included."""
        return sorted({*globals(), *__all__})
