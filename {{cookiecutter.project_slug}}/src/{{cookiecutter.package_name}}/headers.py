"""Security headers of every HTTP response."""

from __future__ import annotations

from typing import Any

import falcon.asgi

# SECURITY: scripts and styles are loaded from this service only, and no page may frame another, so
#   that text injected into a page as markup still cannot run.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


# The chat uses none of these features; a script that is injected into a page cannot either.
PERMISSIONS_POLICY = ", ".join(
    f"{feature}=()"
    for feature in (
        "accelerometer",
        "camera",
        "display-capture",
        "fullscreen",
        "geolocation",
        "gyroscope",
        "hid",
        "magnetometer",
        "microphone",
        "midi",
        "payment",
        "publickey-credentials-get",
        "screen-wake-lock",
        "serial",
        "usb",
        "xr-spatial-tracking",
    )
)

# One year (RFC 6797). Without includeSubDomains: other hosts of the domain are not this service's.
STRICT_TRANSPORT_SECURITY = "max-age=31536000"

SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": PERMISSIONS_POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


# Responses to requests for these and for paths below them are never stored: they depend on the session.
SESSION_PATHS = ("session", "login", "logout")


class SecurityHeadersMiddleware:
    """Add the security headers, and ``Cache-Control`` where a resource sets none.

    It is ``no-store`` for the session and ``no-cache`` otherwise.

    Args:
        production: Whether browsers must use HTTPS from now on, once they have done so (HSTS).
    """

    def __init__(self, *, production: bool) -> None:
        self.production = production

    async def process_response(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: Any,
        req_succeeded: bool,
    ) -> None:
        """Add the headers before a response is sent."""
        resp.set_headers(SECURITY_HEADERS)
        if self.production and req.scheme == "https":
            resp.set_header("Strict-Transport-Security", STRICT_TRANSPORT_SECURITY)
        if resp.get_header("Cache-Control") is None:
            # NOTE: the target of a request may be "*" (RFC 9112 section 3.2.4).
            is_session = req.path.lstrip("/").partition("/")[0] in SESSION_PATHS
            resp.set_header("Cache-Control", "no-store" if is_session else "no-cache")
