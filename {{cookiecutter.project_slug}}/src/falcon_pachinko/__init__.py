"""WebSocket resources with rooms and typed message handlers for Falcon.

    app = falcon_pachinko.install(falcon.asgi.App())
    app.add_websocket_route("/ws/chat/{room_name}", ChatRoomResource)

Workers are in ``falcon_pachinko.workers``, backends in ``falcon_pachinko.backends``,
the uvicorn protocol in ``falcon_pachinko.uvicorn``.
"""

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
