"""The part of an application that adds its routes, and returns their URLs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import falcon.asgi

from ..errors import RegistrationError
from ..rooms.manager import WebSocketConnectionManager
from ..route_config import DEFAULT_ROUTE_CONFIG, Around, Authenticate, RouteConfig
from ..server.root_path import check_route_path
from .group import WebSocketGroup
from .rooms_route import RoomsRoute, route_of
from .route import ResourceFactory, WebSocketRoute, check_resource
from .urls import RouteURL


class RoutedApp(falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]):
    """A Falcon application with WebSocket routes.

    Attributes:
        ws_connection_manager: The connection manager.
        ws_routes: The WebSocket routes in the order in which they were added.
        ws_urls: The URLs of the named ones.
    """

    __slots__ = ()

    ws_connection_manager: ClassVar[WebSocketConnectionManager]
    ws_routes: ClassVar[list[WebSocketRoute]]
    ws_urls: ClassVar[dict[str, RouteURL]]
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
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Serve WebSocket connections to a URI template.

        Args:
            uri_template: As in ``falcon.App.add_route``; its fields are keyword arguments of ``on_connect``.
            resource: A ``WebSocketResource`` class, or a callable that returns such a resource. It is called
                for each connection.
            args: The arguments of the call.
            route_config: The limits, the history, the origins and the hooks of this route.
            name: The name of the route for :meth:`ws_url_for`; none by default.
            kwargs: The keyword arguments of the call.

        Raises:
            RegistrationError: The resource, its handlers or its ``on_connect`` cannot work, or another route has
                the name.
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
        self._add(route, name)

    def add_websocket_group(self, group: WebSocketGroup) -> None:
        """Add the routes of a group, in their order.

        Raises:
            RegistrationError: As for :meth:`add_websocket_route`.
            ConfigurationError: As for :meth:`add_websocket_route`.
        """
        group.is_added = True
        for uri_template, resource, args, kwargs in group.routes:
            self.add_websocket_route(uri_template, resource, *args, **kwargs)

    def add_rooms_route(
        self, uri_template: str, rooms_template: str, *, name: str | None = None
    ) -> None:
        """Serve connections that may be in several rooms, each as on a connection of its own to another route.

        The ``on_connect`` of a room gets the request of this connection.

        Args:
            uri_template: The template of these connections, such as ``/ws``.
            rooms_template: That of a route that has been added: it has one field more, the name of the room.
            name: As for :meth:`add_websocket_route`.

        Raises:
            RegistrationError: There is no such route, it does not declare the class of its resources, or another
                route has the name.
            ConfigurationError: The template begins with the path prefix of the application.
        """
        rooms = route_of(rooms_template, self.ws_routes)
        self._add(RoomsRoute(uri_template, rooms, self.router_options.converters), name)

    def ws_url_for(self, name: str, /, **parameters: object) -> str:
        """Return the path of a URL of a named route, such as ``/ws/chat/a%20b``.

        It begins with the ``root_path`` of ``install``. A prefix that only the server knows is not part of it: put
        ``req.root_path`` before it in an application that another one mounts.

        Args:
            name: The name of the route.
            parameters: The values of all fields of its URI template, as texts or with ``str()`` like those that its
                ``on_connect`` gets. They are percent-encoded (RFC 3986).

        Raises:
            RegistrationError: No route has the name, a field has no value, or a value no field.
            ValueError: No URL has the value of a field: it is empty, does not match the converter, or has a ``/``.
        """
        if name not in self.ws_urls:
            known = ", ".join(map(repr, self.ws_urls)) or "none has a name"
            raise RegistrationError(f"no WebSocket route has the name {name!r} ({known})")
        return self.ws_root_path + self.ws_urls[name].path_of(parameters)

    def _add(self, route: WebSocketRoute, name: str | None) -> None:
        if name is not None and (not isinstance(name, str) or not name):
            raise RegistrationError(f"the name of {route.uri_template!r} is {name!r}: give a text")
        if name in self.ws_urls:
            other = self.ws_urls[name].uri_template
            raise RegistrationError(
                f"{other!r} and {route.uri_template!r} have the same name {name!r}: rename one of them"
            )
        self.add_route(route.uri_template, route)
        self.ws_routes.append(route)
        if name is not None:
            self.ws_urls[name] = RouteURL(route.uri_template, self.router_options.converters)
