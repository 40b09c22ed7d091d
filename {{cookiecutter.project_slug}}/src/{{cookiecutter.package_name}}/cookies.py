"""The cookie with the session token of a browser."""

from __future__ import annotations

import falcon.asgi

# Of this service: services on several ports of a host have their cookies in common.
SESSION_COOKIE = "{{ cookiecutter.project_slug }}-session"
HOST_PREFIX, SECURE_PREFIX = "__Host-", "__Secure-"
# SECURITY: each cookie of the name costs the check of a signature.
MAX_COOKIES = 8


class SessionCookie:
    """Sets, reads and deletes the session cookie.

    Args:
        always_secure: Whether it is only for HTTPS whatever the scheme of a request is, as in production;
            otherwise it is so over HTTPS.
        base_name: The name of the cookie without a prefix.
    """

    def __init__(self, *, always_secure: bool, base_name: str = SESSION_COOKIE) -> None:
        self.always_secure = always_secure
        self.base_name = base_name

    def name(self, req: falcon.asgi.Request) -> str:
        """Return the name of the cookie: ``__Host-...`` where it is secure, ``__Secure-...`` below a path prefix."""
        return cookie_name(self.base_name, secure=self.is_secure(req), root_path=req.root_path)

    def is_secure(self, req: falcon.asgi.Request) -> bool:
        """Return whether the cookie is for HTTPS only."""
        return self.always_secure or req.scheme in ("https", "wss")

    def values(self, req: falcon.asgi.Request) -> list[str]:
        """Return the values of all cookies of this name: a browser may have a stale one of another path."""
        return [value for value in req.get_cookie_values(self.name(req)) or () if value][
            :MAX_COOKIES
        ]

    def set(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, token: str, seconds: int
    ) -> None:
        """Let the browser keep a token for some seconds, out of reach of scripts."""
        resp.set_cookie(
            self.name(req),
            token,
            max_age=seconds,
            path=req.root_path or "/",
            secure=self.is_secure(req),
            http_only=True,
            same_site="Lax",
        )

    def delete(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Let the browser delete the cookie."""
        # NOTE: Falcon's unset_cookie has no Secure, without which a browser ignores a cookie with a prefix, and its
        #   set_cookie drops a lifetime of 0 seconds.
        attributes = f"HttpOnly; Max-Age=0; Path={req.root_path or '/'}; SameSite=Lax"
        secure = "; Secure" if self.is_secure(req) else ""
        resp.append_header("Set-Cookie", f"{self.name(req)}=; {attributes}{secure}")


def cookie_name(base_name: str = SESSION_COOKIE, *, secure: bool, root_path: str) -> str:
    """Return the name of a cookie with its prefix (RFC 6265bis section 4.1.3 for its prefixes)."""
    if not secure:
        return base_name
    return (SECURE_PREFIX if root_path else HOST_PREFIX) + base_name
