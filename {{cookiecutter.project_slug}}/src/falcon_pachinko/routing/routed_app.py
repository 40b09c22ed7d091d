"""The part of an application that adds its routes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import falcon.asgi

from ..rooms.manager import WebSocketConnectionManager
from ..route_config import DEFAULT_ROUTE_CONFIG, Around, Authenticate, RouteConfig
from ..server.root_path import check_route_path
from .rooms_route import RoomsRoute, route_of
from .route import ResourceFactory, WebSocketRoute, check_resource


class RoutedApp(falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]):
    """A Falcon application with WebSocket routes.

    Attributes:
        ws_connection_manager: The connection manager.
        ws_routes: The WebSocket routes in the order in which they were added.
    """

    __slots__ = ()

    ws_connection_manager: ClassVar[WebSocketConnectionManager]
    ws_routes: ClassVar[list[WebSocketRoute]]
    ws_allowed_origins: ClassVar[Collection[str]]
    ws_root_path: ClassVar[str] = ""
    ws_authenticate: ClassVar[Authenticate | None]
    ws_around: ClassVar[Sequence[Around]]

    def add_route(self, uri_template: str, resource: object, **kwargs: Any) -> None:
        """Add a route, as in Falcon.

        Raises:
            ConfigurationError: The template begins with the path prefix of the application.
        """
        check_route_path(uri_template, self.ws_root_path)
        super().add_route(uri_template, resource, **kwargs)

    def add_static_route(self, prefix: str, *args: Any, **kwargs: Any) -> None:
        """Serve the files of a folder, as in Falcon.

        Raises:
            ConfigurationError: The route begins with the path prefix of the application.
        """
        check_route_path(prefix, self.ws_root_path)
        super().add_static_route(prefix, *args, **kwargs)

    def add_websocket_route(
        self,
        uri_template: str,
        resource: ResourceFactory,
        /,
        *args: Any,
        route_config: RouteConfig = DEFAULT_ROUTE_CONFIG,
        **kwargs: Any,
    ) -> None:
        """Serve WebSocket connections to a URI template.

        Args:
            uri_template: As in ``falcon.App.add_route``; its fields are keyword arguments of ``on_connect``.
            resource: A ``WebSocketResource`` class, or a callable that returns such a resource. It is called
                for each connection.
            args: The arguments of the call.
            route_config: The limits, the history, the origins and the hooks of this route.
            kwargs: The keyword arguments of the call.

        Raises:
            RegistrationError: The resource, its handlers or its ``on_connect`` cannot work.
            ConfigurationError: The template begins with the path prefix of the application.
        """
        config = replace(route_config, around=(*self.ws_around, *route_config.around))
        if not config.allowed_origins:
            config = replace(config, allowed_origins=self.ws_allowed_origins)
        if config.authenticate is None:
            # NOTE: read from the class, or a function would become a method of the application.
            config = replace(config, authenticate=type(self).ws_authenticate)
        config = check_resource(uri_template, resource, args, kwargs, config)
        route = WebSocketRoute(
            uri_template, resource, args, kwargs, self.ws_connection_manager, config
        )
        self.add_route(uri_template, route)
        self.ws_routes.append(route)

    def add_rooms_route(self, uri_template: str, rooms_template: str) -> None:
        """Serve connections that may be in several rooms, each as on a connection of its own to another route.

        The ``on_connect`` of a room gets the request of this connection.

        Args:
            uri_template: The template of these connections, such as ``/ws``.
            rooms_template: That of a route that has been added: it has one field more, the name of the room.

        Raises:
            RegistrationError: There is no such route, or it does not declare the class of its resources.
            ConfigurationError: The template begins with the path prefix of the application.
        """
        rooms = route_of(rooms_template, self.ws_routes)
        route = RoomsRoute(uri_template, rooms, self.router_options.converters)
        self.add_route(uri_template, route)
        self.ws_routes.append(route)
