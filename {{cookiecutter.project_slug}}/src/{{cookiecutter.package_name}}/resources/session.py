"""``/session``: who is signed in, the refresh of a session, tickets, sign-out, and sign-in by name."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import falcon
import falcon.asgi

from falcon_pachinko import WebSocketConnectionManager
from falcon_pachinko.errors import TooManyRestrictions

from ..auth import BEARER, COOKIE
from ..cookies import SessionCookie
from ..tokens import Session, Tokens
from ..users import User, check, fault_of_user_name

if TYPE_CHECKING:
    from ..oidc.provider import OpenIdProvider

logger = logging.getLogger(__name__)

MAX_NAME_CHARACTERS = 40
TICKET_SECONDS = 60
RETRY_AFTER_SECONDS = 60


class SessionResource:
    """The session of a request, and its end.

    Args:
        tokens: The session tokens.
        cookie: The session cookie.
        manager: Revokes sessions.
        sign_in: How a user signs in: ``name``, ``provider`` or ``none``.
        provider: Has sessions of its own; ``None`` for no provider.
    """

    def __init__(
        self,
        tokens: Tokens,
        cookie: SessionCookie,
        manager: WebSocketConnectionManager,
        sign_in: str,
        provider: OpenIdProvider | None = None,
    ) -> None:
        self.tokens = tokens
        self.cookie = cookie
        self.manager = manager
        self.sign_in = sign_in
        self.provider = provider

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Return the signed-in user, ``null`` for nobody, and how a user signs in."""
        user: User | None = req.context.user
        resp.media = {
            "user": None if user is None else shown(user),
            "expiresAt": None if user is None else user.expires_at,
            "signIn": self.sign_in,
        }

    async def on_delete(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Sign out: end the session, or with ``?everywhere=true`` all sessions of the user, and the cookie.

        The connections of these sessions are closed in all processes, and their tokens are no longer valid. The
        answer is 503 if that is not certain (BackendUnavailable), or there is no place for it (TooManyRestrictions);
        the cookie stays, so that the request can be repeated.
        """
        session: Session | None = req.context.session
        if session is not None:
            user = session.user
            # NOTE: no token of the session is valid for longer, refreshed ones included.
            remaining = (user.expires_at or 0.0) - time.time()
            seconds = max(self.tokens.lifetime_seconds, remaining)
            try:
                if req.get_param_as_bool("everywhere", default=False):
                    await self.manager.revoke_sessions(user.id, seconds=seconds)
                elif user.session_id is not None:
                    await self.manager.revoke_session(user.session_id, seconds=seconds)
            except TooManyRestrictions as error:
                logger.error("a session was not ended: %s", error)
                raise falcon.HTTPServiceUnavailable(
                    title="Not signed out",
                    description="Too many sessions have been ended: try again later.",
                    retry_after=RETRY_AFTER_SECONDS,
                ) from error
        self.cookie.delete(req, resp)
        url = None
        if self.provider is not None and req.context.proof == COOKIE:
            url = await self.provider.logout_url(self.provider.base_url(req) + "/")
        resp.media = {"logoutUrl": url}


class NamedSessionResource(SessionResource):
    """Sign-in by name besides, for development and tests only."""

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Sign in: ``{"name": "Alice"}`` gives 201 and a token.

        There is no cookie, so that each tab of a browser can be another user.
        """
        name = read_name(await read_json(req))
        token, session = self.tokens.start(User(id=name, name=name))
        resp.status = falcon.HTTP_201
        resp.media = {
            "user": shown(session.user),
            "token": token,
            "expiresAt": session.user.expires_at,
        }


class RefreshResource:
    """Longer sessions.

    Args:
        tokens: The session tokens.
        cookie: The session cookie.
        manager: Issues tickets.
    """

    def __init__(
        self, tokens: Tokens, cookie: SessionCookie, manager: WebSocketConnectionManager
    ) -> None:
        self.tokens = tokens
        self.cookie = cookie
        self.manager = manager

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Give the session a new token, and a ticket with which an open WebSocket follows it.

        The token is set as the cookie again, or is in the body for a request with a bearer token.
        """
        require_json(req)
        refreshed = self.tokens.refresh(signed_in(req))
        if refreshed is None:
            raise not_signed_in()
        token, session = refreshed
        media: dict[str, Any] = {"expiresAt": session.user.expires_at}
        media["ticket"] = await issue_ticket(self.manager, self.tokens, session)
        if req.context.proof == COOKIE:
            seconds = max(1, int((session.user.expires_at or 0.0) - time.time()))
            self.cookie.set(req, resp, token, seconds)
        elif req.context.proof == BEARER:
            media["token"] = token
        resp.media = media


class TicketResource:
    """One-time tickets for WebSocket handshakes, for clients without a cookie that cannot set a header.

    Args:
        tokens: The session tokens.
        manager: Issues tickets.
    """

    def __init__(self, tokens: Tokens, manager: WebSocketConnectionManager) -> None:
        self.tokens = tokens
        self.manager = manager

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Issue a ticket for this session: 201."""
        require_json(req)
        ticket = await issue_ticket(self.manager, self.tokens, signed_in(req))
        resp.status = falcon.HTTP_201
        resp.media = {"ticket": ticket, "expiresInSeconds": TICKET_SECONDS}


async def issue_ticket(
    manager: WebSocketConnectionManager, tokens: Tokens, session: Session
) -> str:
    """Return a ticket for a session.

    Raises:
        BackendUnavailable: Redis is unavailable: the answer is 503.
    """
    return await manager.issue_ticket(tokens.seal(session), seconds=TICKET_SECONDS)


def shown(user: User) -> dict[str, Any]:
    """Return what a client sees of its own user."""
    return {"id": user.id, "name": user.name, "roles": sorted(user.roles)}


def signed_in(req: falcon.asgi.Request) -> Session:
    """Return the session of a request.

    Raises:
        falcon.HTTPUnauthorized: It has none.
    """
    session: Session | None = req.context.session
    if session is None:
        raise not_signed_in()
    return session


def not_signed_in() -> falcon.HTTPUnauthorized:
    """Return the error of a request without a session."""
    return falcon.HTTPUnauthorized(
        title="Not signed in", description="The session has ended: sign in again."
    )


def require_json(req: falcon.asgi.Request) -> None:
    """Refuse a request with another type of content.

    SECURITY: a form on a foreign page can send any of its media types without a CORS preflight, but not JSON.

    Raises:
        falcon.HTTPUnsupportedMediaType: The type is another one.
    """
    if (req.content_type or "").partition(";")[0].strip().lower() != falcon.MEDIA_JSON:
        raise falcon.HTTPUnsupportedMediaType(description="Send application/json.")


async def read_json(req: falcon.asgi.Request) -> object:
    """Return the body of a request.

    Raises:
        falcon.HTTPUnsupportedMediaType: It is not JSON according to its type.
        falcon.HTTPBadRequest: It is not valid.
    """
    require_json(req)
    try:
        return await req.get_media()
    except RecursionError:
        raise falcon.HTTPBadRequest(
            title="Invalid JSON", description="The body is nested too deeply."
        ) from None


def read_name(media: object) -> str:
    """Return the name in a sign-in request, normalized and without surrounding white space.

    Raises:
        falcon.HTTPUnprocessableEntity: The name is not 1 to 40 characters, or not a valid name
            (:class:`..users.User`).
    """
    name = media.get("name") if isinstance(media, dict) else None
    if not isinstance(name, str):
        raise falcon.HTTPUnprocessableEntity(
            title="No name", description='Send a JSON object with your name: {"name": "Alice"}.'
        )
    name = name.strip()
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS:
        raise falcon.HTTPUnprocessableEntity(
            title="Bad name",
            description=f"The name has {len(name)} characters: it takes 1 to {MAX_NAME_CHARACTERS}.",
        )
    if fault := fault_of_user_name(name):
        raise falcon.HTTPUnprocessableEntity(title="Bad name", description=f"The name {fault}.")
    return check(name)
