"""``/inspect.json``, in development only: the state of the service for the page ``/inspect``, and its buttons."""

from __future__ import annotations

import asyncio
import os

import falcon
import falcon.asgi
import msgspec

from falcon_pachinko import BackendUnavailable, PachinkoError, WebSocketConnectionManager
from falcon_pachinko.rooms.inspection import Snapshot, take_snapshot
from falcon_pachinko.routing import origin_is_allowed

from ..admin_actions import carry_out
from ..admin_client import AdminError, ask_all, line_of
from ..admin_messages import Action, Answer, Inspect
from ..admin_socket import AdminSocket, sockets_in
from ..announcements import PartialAnnouncement
from ..hosts import ALL_HOSTS
from ..inspection import processes_of
from ..settings import Settings
from .session import read_json

# The page asks once per second; a process that answers later is missing.
OTHERS_SECONDS = 2.0
# The values of Sec-Fetch-Site for the page itself and for an address that is typed. Programs send none.
OWN_SITES = (None, "same-origin", "none")
# Errors of an action whose text is for the operator.
REFUSED = (PachinkoError, ValueError)


def has_inspect_page(settings: Settings) -> bool:
    """Return whether the page exists: in development, for this machine's own names only."""
    return (
        settings.environment == "development"
        and not settings.allow_insecure
        # SECURITY: with any host name, a page of a stranger whose name leads to this machine has the same origin.
        and ALL_HOSTS not in settings.hosts
    )


class InspectResource:
    """The state of the service, and actions on its users.

    SECURITY: only pages of the service itself may use it, also where APP_ALLOWED_ORIGINS lists others.

    Args:
        manager: The connection manager.
        admin: The admin socket of this process.
    """

    def __init__(self, manager: WebSocketConnectionManager, admin: AdminSocket) -> None:
        self.manager = manager
        self.admin = admin

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Send ``{"processes": [...], "problem": ""}``, as ``inspect --json`` prints it, of one user with ``?user=``.

        ``problem`` is a sentence if a process of the service has not answered.
        """
        check_same_origin(req)
        user = req.get_param("user") or None
        found, problem = await self.ask_others(user)
        found[os.getpid()] = take_snapshot(self.manager, user)
        resp.cache_control = ["no-store"]
        resp.media = {"processes": processes_of(found), "problem": problem}

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Carry out an action, in the form of the admin socket, such as ``{"command": "disconnect", "user": "u1"}``.

        The response has the number of rooms for an announcement, else ``{"done": true}``. It is 422 or, while Redis
        is unavailable, 503, each with the reason.
        """
        check_same_origin(req)
        media = await read_json(req)
        try:
            action = msgspec.convert(media, Action)
            answer = await carry_out(self.manager, action, self.admin.room_prefix)
        except BackendUnavailable:
            raise  # the application answers it
        except PartialAnnouncement as error:
            raise falcon.HTTPServiceUnavailable(description=str(error)) from error
        except REFUSED as error:
            raise falcon.HTTPUnprocessableEntity(title="Refused", description=str(error)) from error
        resp.media = msgspec.to_builtins(answer)

    async def ask_others(self, user: str | None) -> tuple[dict[int, Snapshot], str]:
        """Return the state of the other processes on this machine, over their admin sockets, and a problem.

        Without Redis there are none whose rooms the actions would reach.
        """
        found: dict[int, Snapshot] = {}
        own = self.admin.path
        if own is None or self.manager.backend.single:
            return found, ""

        def on_answer(pid: int, answer: Answer) -> None:
            if answer.snapshot is not None:
                found[pid] = answer.snapshot

        others = await asyncio.to_thread(sockets_in, own.parent, own)
        try:
            await ask_all(others, line_of(Inspect(user)), on_answer, OTHERS_SECONDS)
        except AdminError as error:
            return found, str(error)
        return found, ""


def check_same_origin(req: falcon.asgi.Request) -> None:
    """Refuse a request of a page that is not one of this service.

    Raises:
        falcon.HTTPForbidden: It is of another one.
    """
    if req.get_header("Sec-Fetch-Site") not in OWN_SITES or not origin_is_allowed(req, ()):
        raise falcon.HTTPForbidden(
            title="Foreign page", description="Only the page /inspect of this service may do this."
        )
