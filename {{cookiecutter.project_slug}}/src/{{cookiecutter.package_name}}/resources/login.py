"""``/login``: sign-in at the identity provider, and ``/logout`` for pages without scripts."""

from __future__ import annotations

import html
import logging
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlencode

import falcon
import falcon.asgi

from falcon_pachinko import ProviderUnavailable

from ..cookies import SessionCookie
from ..oidc.attempts import Attempt, AttemptCookies, SignInRefused
from ..tokens import Tokens
from .session import SessionResource

if TYPE_CHECKING:
    from ..oidc.provider import OpenIdProvider

logger = logging.getLogger(__name__)

CALLBACK = "/login/callback"
RETRY_AFTER_SECONDS = 5
MAX_TARGET_CHARACTERS = 1_000
# A fragment, or a path: a second slash or a backslash at its beginning would lead to another host.
TARGET = re.compile(r"#[^\x00-\x20\x7f\\]*|/(?![/\\])[^\x00-\x20\x7f\\]*")
# The codes of RFC 6749 section 4.1.2.1 for a provider that cannot answer now.
TEMPORARY_ERRORS = frozenset({"server_error", "temporarily_unavailable"})

PAGE = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>{title}</title>
    <link rel="icon" href="{root}/static/favicon.svg" type="image/svg+xml">
    <link rel="stylesheet" href="{root}/static/style.css">
    <link rel="stylesheet" href="{root}/static/chat/account.css">
  </head>
  <body>
    <main>
      <section class="sign-in">
        <div class="card">
          <h1>{title}</h1>
          <p role="alert">{text}</p>
          <p><a href="{again}">Sign in again</a> or <a href="{root}/">go to the start page</a>.</p>
        </div>
      </section>
    </main>
  </body>
</html>
"""


class LoginResource:
    """The begin of a sign-in.

    Args:
        provider: The identity provider.
        attempts: The sign-ins that have begun.
    """

    def __init__(self, provider: OpenIdProvider, attempts: AttemptCookies) -> None:
        self.provider = provider
        self.attempts = attempts

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Lead the user to the provider; ``?next=`` is a fragment or a path of this service to return to."""
        attempt = Attempt.begin(target_of(req.get_param("next") or ""))
        try:
            url = await self.provider.authorization_url(
                attempt, self.provider.base_url(req) + CALLBACK
            )
        except ProviderUnavailable:
            show_unavailable(req, resp, attempt.target)
            return
        self.attempts.set(req, resp, attempt)
        redirect(resp, url)


class CallbackResource:
    """The end of a sign-in: the provider leads the user here.

    Args:
        provider: The identity provider.
        attempts: The sign-ins that have begun.
        tokens: The session tokens.
        cookie: The session cookie.
    """

    def __init__(
        self,
        provider: OpenIdProvider,
        attempts: AttemptCookies,
        tokens: Tokens,
        cookie: SessionCookie,
    ) -> None:
        self.provider = provider
        self.attempts = attempts
        self.tokens = tokens
        self.cookie = cookie

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Check the response of the provider, and begin a session.

        A response that is not for a sign-in of this browser, or was used before, is refused.
        """
        # NOTE: a HEAD request would use up the code, whose session nobody gets.
        if req.method != "GET":
            raise falcon.HTTPMethodNotAllowed(["GET"])
        attempt = self.attempts.take(req, resp, req.get_param("state") or "")
        if attempt is None:
            logger.info("a sign-in is refused: this browser has not begun it, or it has ended")
            show_problem(req, resp, "This sign-in has expired or is complete already.", "")
            return
        code, error = req.get_param("code"), req.get_param("error")
        try:
            await self.provider.check_sender(req.get_param("iss"))
            if error in TEMPORARY_ERRORS:
                raise ProviderUnavailable(error)
            if error or not code:
                text = f"{error}: {req.get_param('error_description')}"
                raise SignInRefused(text, by_client=True)
            user = await self.provider.sign_in(
                code, attempt, self.provider.base_url(req) + CALLBACK
            )
        except ProviderUnavailable:
            show_unavailable(req, resp, attempt.target)
            return
        except SignInRefused as problem:
            level = logging.INFO if problem.by_client else logging.WARNING
            logger.log(level, "a sign-in is refused: %.500s", problem)
            if error == "access_denied":
                text = "The sign-in was cancelled, or you may not use this service."
            else:
                text = "The sign-in could not be completed."
            show_problem(req, resp, text, attempt.target, falcon.HTTP_403)
            return
        token, _ = self.tokens.start(user)
        self.cookie.set(req, resp, token, int(self.tokens.lifetime_seconds))
        redirect(resp, location_of(req, attempt.target))


class LogoutResource:
    """Sign-out by a form of a page, here and at the provider.

    Args:
        session: Signs out.
    """

    def __init__(self, session: SessionResource) -> None:
        self.session = session

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Sign out like ``DELETE /session``, and lead the browser to the provider or to the page."""
        await self.session.on_delete(req, resp)
        url, resp.media = resp.media["logoutUrl"], None
        redirect(resp, url or f"{req.root_path}/")


def target_of(text: str) -> str:
    """Return where to go after a sign-in: a fragment or a path of this service, else its page.

    SECURITY: any other address would let a link to this service lead to a foreign page (open redirect).
    """
    is_valid = len(text) <= MAX_TARGET_CHARACTERS and TARGET.fullmatch(text)
    climbs = ".." in unquote(text.partition("?")[0].partition("#")[0]).split("/")
    return text if is_valid and not climbs else "/"


def location_of(req: falcon.asgi.Request, target: str) -> str:
    """Return the address of a target on this service."""
    path = target if target.startswith("/") else "/" + target
    return req.root_path + quote(path, safe="/#?&=%~:+,;@!$'()*")


def redirect(resp: falcon.asgi.Response, url: str) -> None:
    """Lead the browser to another address, which it requests with GET."""
    resp.status = falcon.HTTP_303
    resp.set_header("Location", url)


def show_unavailable(req: falcon.asgi.Request, resp: falcon.asgi.Response, target: str) -> None:
    """Answer that the provider does not respond for now."""
    resp.set_header("Retry-After", str(RETRY_AFTER_SECONDS))
    text = "The sign-in service does not respond. Try again in a moment."
    show_problem(req, resp, text, target, falcon.HTTP_503)


def show_problem(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response,
    text: str,
    target: str,
    status: str = falcon.HTTP_400,
) -> None:
    """Answer with a page that has a text of this service, never one of the request."""
    root = req.root_path
    again = f"{root}/login?{urlencode({'next': target or '/'})}"
    resp.status = status
    resp.content_type = falcon.MEDIA_HTML
    resp.text = PAGE.format(
        title="You are not signed in",
        text=html.escape(text),
        root=html.escape(root),
        again=html.escape(again),
    )
