"""Groups of routes: one prefix, and options that they share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..errors import RegistrationError
from ..limits import DEFAULT_LIMITS, Limits
from ..resource import WebSocketResource
from ..route_config import DEFAULT_ROUTE_CONFIG, Around, RouteConfig
from .route import ClassFactory, ResourceFactory


class GroupRoute(NamedTuple):
    """The arguments of ``add_websocket_route`` for one route of a group."""

    uri_template: str
    resource: ResourceFactory
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class WebSocketGroup:
    """Several routes under a prefix; ``app.add_websocket_group(group)`` adds them.

    Args:
        prefix: What their URI templates begin with, such as ``/ws`` or ``/ws/{tenant}``; may be empty.
        around: Hooks around the handlers of all routes: inside those of ``install``, outside those of the route.
        factory: Makes the resources: called with the class of the route and its arguments, as in
            ``factory(ChatResource, *args, **kwargs)``. By default the class is called. A route whose resource is
            another callable makes its own.
        allowed_origins: As in ``RouteConfig``, for routes without any of their own.
        limits: The bounds of connections, for routes without any of their own; they replace those of the classes.

    Raises:
        RegistrationError: An argument cannot work.
    """

    def __init__(
        self,
        prefix: str,
        *,
        around: Sequence[Around] = (),
        factory: Callable[..., WebSocketResource] | None = None,
        allowed_origins: Collection[str] = (),
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        if not isinstance(prefix, str) or prefix.endswith("/"):
            raise RegistrationError(f"the prefix of a group is {prefix!r}: write it like '/ws'")
        if not (factory is None or callable(factory)):
            raise RegistrationError(f"the factory of a group is {factory!r}: pass a callable")
        self.prefix = prefix
        self.factory = factory
        self.config = RouteConfig(limits=limits, allowed_origins=allowed_origins, around=around)
        self.routes: list[GroupRoute] = []
        self.is_added = False

    def add_route(
        self,
        path: str,
        resource: ResourceFactory,
        /,
        *args: Any,
        route_config: RouteConfig = DEFAULT_ROUTE_CONFIG,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Add a route, as ``app.add_websocket_route`` does; its options take precedence over those of the group.

        Args:
            path: The rest of the URI template after the prefix, such as ``/chat/{room_name}``; may be empty.
            resource: As for ``add_websocket_route``.
            args: As for ``add_websocket_route``.
            route_config: As for ``add_websocket_route``.
            name: As for ``add_websocket_route``.
            kwargs: As for ``add_websocket_route``.

        Raises:
            RegistrationError: The template does not begin with ``/``, or an application has got the group already.
        """
        template = f"{self.prefix}{path}"
        if not template.startswith("/") or not (path == "" or path.startswith("/")):
            raise RegistrationError(f"{path!r} in the group {self.prefix!r}: begin it with '/'")
        if self.is_added:
            raise RegistrationError(
                f"{template!r} would be missing in the application: add it before add_websocket_group"
            )
        shared = self.config
        config = replace(
            route_config,
            limits=shared.limits if route_config.limits is DEFAULT_LIMITS else route_config.limits,
            allowed_origins=route_config.allowed_origins or shared.allowed_origins,
            around=(*shared.around, *route_config.around),
        )
        if self.factory is not None and isinstance(resource, type):
            resource = ClassFactory(self.factory, resource)
        options = {**kwargs, "route_config": config, "name": name}
        self.routes.append(GroupRoute(template, resource, args, options))
