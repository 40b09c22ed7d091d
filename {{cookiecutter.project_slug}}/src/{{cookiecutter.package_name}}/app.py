{%- macro import_line(module, names) -%}
{%- set line = "from .resources." ~ module ~ " import " ~ names | join(", ") -%}
{%- if line | length <= 100 %}{{ line }}{% else %}from .resources.{{ module }} import (
{% for name in names %}    {{ name }},
{% endfor %}){% endif %}
{%- endmacro -%}
{%- set resources = {
    "contract": ["ContractResource"],
    "health": ["HealthResource", "ReadyResource"],
    "page": ["PageResource"],
    "session": ["SessionResource"],
    cookiecutter.__resource_module: ["ROOM_PREFIX", cookiecutter.__resource_class],
} -%}
"""The composition root: :func:`create_app` creates every object and connects them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import falcon.asgi

from falcon_pachinko import App, PresenceBatch, RouteConfig, install
from falcon_pachinko.workers import WorkerController

from .auth import AuthMiddleware
from .contract import describe
from .headers import SecurityHeadersMiddleware
from .messages import MAX_USERS
from .processes import check_processes
{%- for module in resources | sort %}
{{ import_line(module, resources[module]) }}
{%- endfor %}
from .settings import Settings
from .workers import announce

__all__ = ["ROOM_PREFIX", "create_app"]

WEB_FOLDER = Path(__file__).parent / "web"


def create_app(settings: Settings) -> App:
    """Create the application for these settings."""
    secret = settings.secret.get_secret_value()
    app = install(
        falcon.asgi.App(
            middleware=[
                SecurityHeadersMiddleware(production=settings.production),
                AuthMiddleware(secret),
            ]
        ),
        allowed_origins=settings.allowed_origins,
        backend=settings.make_backend(),
        server_limits=settings.server_limits,
        trusted_proxies=settings.trusted_proxies,
    )
    manager = app.ws_connection_manager

    app.resp_options.xml_error_serialization = False  # errors are always JSON

    app.add_route("/", PageResource(WEB_FOLDER / "index.html"))
    app.add_route("/docs", PageResource(WEB_FOLDER / "docs.html"))
    app.add_route("/health", HealthResource())
    app.add_route("/ready", ReadyResource(app))
    app.add_static_route("/static", WEB_FOLDER)
    if not settings.production:
        app.add_route("/session", SessionResource(secret, settings.token_lifetime_seconds))

    app.add_websocket_route(
        "{{ cookiecutter.websocket_path }}/{room_name}",
        {{ cookiecutter.__resource_class }},
        route_config=RouteConfig(
            history=settings.history, presence_batch=PresenceBatch(above=MAX_USERS)
        ),
    )

    app.add_route("/asyncapi.json", ContractResource(describe(app, settings)))

    workers = WorkerController(manager=manager)

    @app.lifespan
    async def run_workers(_: App) -> AsyncIterator[None]:
        if manager.backend.single:
            check_processes()
        await workers.start(
            announce,
            once_per_cluster=True,
            manager=manager,
            room_prefix=ROOM_PREFIX,
            text=settings.announcement_text,
            interval_seconds=settings.announcement_interval_seconds,
        )
        try:
            yield
        finally:
            await workers.stop()

    return app
