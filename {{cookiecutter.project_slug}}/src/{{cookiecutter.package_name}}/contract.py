"""The contract with clients: an AsyncAPI document, generated from the routes and the settings."""

from __future__ import annotations

import ipaddress
from typing import Any

from falcon_pachinko import App
from falcon_pachinko.schema import asyncapi

from .auth import COOKIE_NAME
from .settings import Settings

# Increase it when clients must change.
VERSION = "1.0.0"

INFO = {
    "title": {{ cookiecutter.__project_name_literal }},
    "version": VERSION,
    "description": {{ cookiecutter.__description_literal }},
    "license": {"name": "{{ cookiecutter.__license_expression }}"},
}
SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "For programs.",
    },
    "cookie": {
        "type": "httpApiKey",
        "in": "cookie",
        "name": COOKIE_NAME,
        "description": "For browsers, which cannot set a header on a WebSocket. It contains the same"
        " token.",
    },
}


def describe(app: App, settings: Settings) -> dict[str, Any]:
    """Return the AsyncAPI document of an application with these settings."""
    return asyncapi.describe(
        app,
        info=INFO,
        servers={settings.environment: server_object(settings)},
        security_schemes=SECURITY_SCHEMES,
    )


def server_object(settings: Settings) -> dict[str, Any]:
    """Return the address for clients, as an AsyncAPI Server Object."""
    scheme, _, host = settings.public_origin.partition("://")
    if not host:
        scheme, host = "http", f"{url_host(settings.host)}:{settings.port}"
    return {"host": host, "protocol": scheme.replace("http", "ws")}


def url_host(host: str) -> str:
    """Return a listening address as the host of a URL; ``localhost`` for the unspecified address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "localhost"
    return f"[{host}]" if address.version == 6 else host
