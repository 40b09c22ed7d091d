"""The contract with clients: an AsyncAPI document, generated from the routes and the settings."""

from __future__ import annotations

import ipaddress
from typing import Any

from falcon_pachinko import App
from falcon_pachinko.schema import asyncapi

from .cookies import cookie_name
from .settings import Settings

# Increase it when clients must change.
VERSION = "1.0.0"

INFO = {
    "title": {{ cookiecutter.__project_name_literal }},
    "version": VERSION,
    "description": {{ cookiecutter.__description_literal }},
    "license": {"name": "{{ cookiecutter.__license_expression }}"},
}
SECURITY_SCHEMES: dict[str, dict[str, str]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "For programs.",
    },
    "ticket": {
        "type": "httpApiKey",
        "in": "query",
        "name": "ticket",
        "description": "For clients that cannot set a header and have no cookie: a one-time ticket of"
        " `POST /session/ticket`, valid for 60 s.",
    },
}


def describe(app: App, settings: Settings) -> dict[str, Any]:
    """Return the AsyncAPI document of an application with these settings."""
    return asyncapi.describe(
        app,
        info=INFO,
        servers={settings.environment: server_object(settings)},
        security_schemes=SECURITY_SCHEMES | {"cookie": cookie_scheme(settings)},
    )


def cookie_scheme(settings: Settings) -> dict[str, str]:
    """Return the session cookie, as an AsyncAPI Security Scheme Object."""
    secure = settings.production or settings.public_origin.startswith("https:")
    return {
        "type": "httpApiKey",
        "in": "cookie",
        "name": cookie_name(secure=secure, root_path=settings.root_path),
        "description": "For browsers, which cannot set a header on a WebSocket. It contains a token, too.",
    }


def server_object(settings: Settings) -> dict[str, Any]:
    """Return the address for clients, as an AsyncAPI Server Object."""
    scheme, _, host = settings.public_origin.partition("://")
    if not host:
        scheme, host = "http", f"{url_host(settings.host)}:{settings.port}"
    server = {"host": host, "protocol": scheme.replace("http", "ws")}
    if settings.root_path:
        server["pathname"] = settings.root_path
    return server


def url_host(host: str) -> str:
    """Return a listening address as the host of a URL; ``localhost`` for the unspecified address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "localhost"
    return f"[{host}]" if address.version == 6 else host
