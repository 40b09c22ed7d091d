"""``/session``: sign-in by name, for development and tests only; production has no such route."""

from __future__ import annotations

import falcon
import falcon.asgi

from falcon_pachinko.names import MAX_USER_NAME_BYTES, fault_of_name

from ..auth import COOKIE_NAME, User, issue_token

MAX_NAME_CHARACTERS = 40


class SessionResource:
    """Sign users in and out. In production this is the task of an identity provider."""

    def __init__(self, secret: str, lifetime_seconds: int) -> None:
        self.secret = secret
        self.lifetime_seconds = lifetime_seconds

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Sign in: ``{"name": "Alice"}`` gives 201, a token, and the same token as a cookie."""
        # SECURITY: a form on a foreign page can send any of its media types without a CORS preflight,
        #   but not JSON.
        if (req.content_type or "").partition(";")[0].strip().lower() != falcon.MEDIA_JSON:
            raise falcon.HTTPUnsupportedMediaType(description="Send application/json.")
        try:
            media = await req.get_media()
        except RecursionError:
            raise falcon.HTTPBadRequest(
                title="Invalid JSON", description="The body is nested too deeply."
            ) from None
        user = User(name=read_name(media))
        token = issue_token(user, self.secret, self.lifetime_seconds)
        resp.set_cookie(
            COOKIE_NAME,
            token,
            max_age=self.lifetime_seconds,
            path="/",
            secure=req.scheme == "https",
            http_only=True,
            same_site="Lax",
        )
        resp.status = falcon.HTTP_201
        resp.media = {"name": user.name, "token": token}

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Return the signed-in user; 401 if the request has none."""
        user: User | None = req.context.user
        if user is None:
            raise falcon.HTTPUnauthorized(
                title="Not signed in", description='POST {"name": "..."} to /session first.'
            )
        resp.media = {"name": user.name}

    async def on_delete(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Sign out: 204, and the cookie is deleted."""
        resp.unset_cookie(COOKIE_NAME, path="/", same_site="Lax")
        resp.status = falcon.HTTP_204


def read_name(media: object) -> str:
    """Return the name in a sign-in request, without surrounding white space.

    Raises:
        falcon.HTTPUnprocessableEntity: The name is not 1 to 40 characters, or not a valid name
            (:func:`falcon_pachinko.names.check_user_name`).
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
    if fault := fault_of_name(name, MAX_USER_NAME_BYTES):
        raise falcon.HTTPUnprocessableEntity(title="Bad name", description=f"The name {fault}.")
    return name
