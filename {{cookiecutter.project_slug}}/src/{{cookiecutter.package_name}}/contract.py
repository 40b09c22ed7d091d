"""The contract with clients, made of the routed resources and the settings."""

from __future__ import annotations

import ipaddress
from typing import Any

from falcon_pachinko import App
from falcon_pachinko.schema import asyncapi

from .auth import COOKIE_NAME
from .settings import Settings

# Raise it when clients have to change.
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
        "description": "For browsers, which cannot set a header on a WebSocket. It holds the same"
        " token.",
    },
}


def describe(app: App, settings: Settings) -> dict[str, Any]:
    """The AsyncAPI document of an application that these settings serve."""
    return asyncapi.describe(
        app,
        info=INFO,
        servers={settings.environment: server_of(settings)},
        security_schemes=SECURITY_SCHEMES,
    )


def server_of(settings: Settings) -> dict[str, Any]:
    """Where clients reach the service: AsyncAPI's Server Object."""
    scheme, _, host = settings.public_origin.partition("://")
    if not host:
        scheme, host = "http", f"{reachable(settings.host)}:{settings.port}"
    return {"host": host, "protocol": scheme.replace("http", "ws")}


def reachable(host: str) -> str:
    """A host as it stands in an address; who listens everywhere is reached as localhost, too."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "localhost"
    return f"[{host}]" if address.version == 6 else host
