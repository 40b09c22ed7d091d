"""A route on which one connection is in several rooms, each with a resource of its own."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import falcon.asgi
import falcon.routing
import msgspec

from ..connection.channel_inbox import Demultiplexer
from ..connection.envelope import explain
from ..connection.joins import ClientJoin, ClientLeave
from ..connection.replies import request_of, send_error
from ..connection.websocket_like import WebSocketLike
from ..contract import Contract
from ..errors import InvalidPayload, InvalidRoomName, RegistrationError
from ..lifecycle import Lifecycle
from ..messages import CLIENT_JOIN, CLIENT_LEAVE, ServerError
from ..names import check_room_name
from ..resource import WebSocketResource
from ..route_config import RouteConfig
from .channels import RoomChannels
from .route import TEMPLATE_FIELD, WebSocketRoute, client_id_in

DECODER = msgspec.json.Decoder(ClientJoin | ClientLeave)


class RoomsResource(WebSocketResource):
    """The behaviour of a connection in several rooms itself: its clients join and leave."""

    def __init__(self, rooms: RoomChannels) -> None:
        self.rooms = rooms

    async def on_unhandled(self, ws: WebSocketLike, message: str | bytes) -> None:
        """Join or leave, or reply to a message that no room and no handler of the framework gets.

        Raises:
            InvalidPayload: The payload of a request to join or leave does not match.
        """
        request = request_of(message)
        if request.type not in (CLIENT_JOIN, CLIENT_LEAVE):
            await self.refuse(ws, message, request.room, request.ref)
            return
        try:
            asked = DECODER.decode(message)
        except (ValueError, RecursionError) as error:
            reason, field = explain(error)
            raise InvalidPayload(request.type, field, reason) from None
        if isinstance(asked, ClientJoin):
            await self.rooms.join(asked.payload, asked.ref)
        else:
            await self.rooms.leave(asked.payload.room, asked.ref)

    async def refuse(self, ws: WebSocketLike, message: str | bytes, room: Any, ref: Any) -> None:
        """Reply to a message with a room that is not joined, or to an unknown one."""
        if isinstance(room, str) and len(room) <= self.connection.limits.max_message_bytes // 8:
            error = ServerError(code="notJoined", error="Join the room before sending to it.")
            self.rooms.reply(error, room, ref)
        elif room is not msgspec.UNSET and room is not None:
            await send_error(ws, "invalidRoom", "The room of a message is a text.", message)
        else:
            await super().on_unhandled(ws, message)

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        """End all rooms: each calls the ``on_disconnect`` of its resource."""
        await self.rooms.aclose()


class RoomsRoute(WebSocketRoute):
    """The object that Falcon calls for each connection that may be in several rooms.

    Args:
        uri_template: The URI template.
        rooms: The route whose resources the rooms have.
        converters: The converters of the application's URI templates.
    """

    def __init__(
        self, uri_template: str, rooms: WebSocketRoute, converters: Mapping[str, type]
    ) -> None:
        self.rooms = rooms
        self.room_parameter = room_parameter_of(uri_template, rooms.uri_template)
        resource_class = rooms.resource_class
        self.rooms_config = rooms.config.for_class(resource_class)
        super().__init__(
            uri_template,
            rooms.factory,
            rooms.args,
            rooms.kwargs,
            rooms.manager,
            connection_config(self.rooms_config),
        )
        self.router = falcon.routing.CompiledRouter()
        self.router.options.converters.update(converters)
        self.router.add_route(rooms.uri_template, object())

    @property
    def contract(self) -> Contract:
        """The messages and close codes of a connection and of all its rooms."""
        return Contract.of(self.resource_class, self.rooms_config, has_rooms=True)

    async def on_websocket(
        self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket, **params: Any
    ) -> None:
        """Run the life of the connection, which begins without a room."""
        connection = await self.admit(req, ws)
        if connection is None:
            return
        demultiplexer = Demultiplexer(connection._inbox)
        connection._inbox = demultiplexer
        connection._configure(self.config)
        connection._identify(getattr(req.context, "user", None))
        connection.client_id = client_id_in(req)
        find = functools.partial(self.parameters_of, fields=params)
        rooms = RoomChannels(self.rooms, connection, demultiplexer, req, find)
        connection._channels = rooms
        resource = RoomsResource(rooms)
        resource.connection, resource.manager = connection, self.manager
        await Lifecycle(resource, connection, self.manager._registry).run(req, {})

    def parameters_of(self, room: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments of ``on_connect`` for a room, as for its URL.

        Args:
            room: The client's name of the room.
            fields: The fields of this route's URL.

        Raises:
            InvalidRoomName: It is not valid, or the URL template of the rooms does not match it.
        """
        check_room_name(room)
        values = {**fields, self.room_parameter: room}
        path = TEMPLATE_FIELD.sub(lambda found: str(values[found[1]]), self.rooms.uri_template)
        found = self.router.find(path)
        if found is None:
            raise InvalidRoomName("a room has no such name", room)
        parameters: dict[str, Any] = found[2]
        return parameters


def route_of(uri_template: str, routes: Iterable[WebSocketRoute]) -> WebSocketRoute:
    """Return the route with a template.

    Raises:
        RegistrationError: There is none.
    """
    for route in routes:
        if route.uri_template == uri_template:
            return route
    raise RegistrationError(
        f"{uri_template!r} is not the template of a WebSocket route: add that route first"
    )


def room_parameter_of(uri_template: str, rooms_template: str) -> str:
    """Return the field of a template of rooms that the template of the connections lacks.

    Raises:
        RegistrationError: There is none, or there are several.
    """
    given = set(TEMPLATE_FIELD.findall(uri_template))
    fields = set(TEMPLATE_FIELD.findall(rooms_template))
    if len(fields - given) != 1 or given - fields:
        raise RegistrationError(
            f"{uri_template!r} cannot serve the rooms of {rooms_template!r}: it needs all fields of that template but"
            " the name of the room"
        )
    (name,) = fields - given
    return str(name)


def connection_config(config: RouteConfig) -> RouteConfig:
    """Return the configuration of a connection that carries the rooms of a route."""
    limits = config.limits
    heartbeat = config.heartbeat_interval
    return replace(
        config,
        history=None,
        presence_batch=None,
        limits=replace(
            limits,
            heartbeat_seconds=math.inf if heartbeat is None else heartbeat,
            # NOTE: on_disconnect of its rooms may follow a handler that has to be cancelled.
            on_disconnect_seconds=limits.on_disconnect_seconds + 3 * limits.close_seconds,
        ),
    )
