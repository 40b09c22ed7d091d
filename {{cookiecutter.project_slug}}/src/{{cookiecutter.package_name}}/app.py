{%- macro import_line(module, names) -%}
{%- set line = "from .resources." ~ module ~ " import " ~ names | join(", ") -%}
{%- if line | length <= 100 %}{{ line }}{% else %}from .resources.{{ module }} import (
{% for name in names %}    {{ name }},
{% endfor %}){% endif %}
{%- endmacro -%}
{%- set resources = {
    "contract": ["ContractResource"],
    "health": ["HealthResource", "ReadyResource"],
    "inspect": ["InspectResource", "has_inspect_page"],
    "login": ["CallbackResource", "LoginResource", "LogoutResource"],
    "metrics": ["MetricsResource"],
    "page": ["PageResource"],
    "session": ["NamedSessionResource", "RefreshResource", "SessionResource", "TicketResource"],
    cookiecutter.__resource_module: ["ROOM_PREFIX", cookiecutter.__resource_class],
} -%}
"""The composition root: :func:`create_app` creates every object and connects them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import falcon.asgi

from falcon_pachinko import App, PresenceBatch, RouteConfig, install
from falcon_pachinko.rooms.counted import count_events
from falcon_pachinko.server.watchdog import watch_loop
from falcon_pachinko.workers import WorkerController

from .admin_socket import AdminSocket
from .auth import Authenticator, AuthMiddleware
from .checks import make_state_folder
from .contract import describe
from .cookies import SessionCookie
from .head import HeadMiddleware, HeadRouter
from .headers import SecurityHeadersMiddleware
from .hosts import HostsMiddleware
from .invitations import Invitations
from .logs import hide_requests
from .messages import MAX_USERS
from .metrics import ServiceMetrics, has_metrics
from .names import Names
from .oidc import open_provider
from .oidc.attempts import AttemptCookies
from .processes import check_processes
{%- for module in resources | sort %}
{{ import_line(module, resources[module]) }}
{%- endfor %}
from .room_list import RoomList
from .settings import Settings
from .store_url import sqlite_path
from .tokens import Tokens
from .traces import open_traces
from .workers import announce, remove_old_messages

if TYPE_CHECKING:
    from .store import MessageStore

__all__ = ["ROOM_PREFIX", "create_app"]

logger = logging.getLogger(__name__)

WEB_FOLDER = Path(__file__).parent / "web"
INSPECT_JSON = "/inspect.json"
SHARED_SQLITE = (
    "several nodes serve (APP_BACKEND_URL is set), but messages are stored in SQLite, a file of this machine:"
    " nodes on other machines would not have them, and the processes of one machine wait for each other; set"
    " APP_DATABASE_URL to one PostgreSQL for all of them"
)


def make_store(url: str) -> MessageStore | None:
    """Create the store of messages; ``None`` without a URL, and SQLAlchemy is not imported."""
    if not url:
        return None
    from .store import MessageStore

    return MessageStore(url)


def create_app(settings: Settings) -> App:
    """Create the application for these settings."""
    tokens = Tokens.of(settings)
    cookie = SessionCookie(always_secure=settings.production)
    provider = open_provider(settings)
    authenticator = Authenticator(tokens, provider)
    store = make_store(settings.store_url)
    traces = open_traces()
    app = install(
        falcon.asgi.App(
            router=HeadRouter(),
            middleware=[
                SecurityHeadersMiddleware(production=settings.production),
                HostsMiddleware(
                    settings.hosts, settings.origins, development=not settings.production
                ),
                AuthMiddleware(authenticator, cookie),
                HeadMiddleware(),
            ],
        ),
        allowed_origins=settings.origins,
        around=[] if traces is None else [traces.hook],
        authenticate=authenticator.authenticate,
        backend=settings.make_backend(),
        root_path=settings.root_path,
        server_limits=settings.server_limits,
        trusted_proxies=settings.trusted_proxies,
    )
    manager = authenticator.manager = app.ws_connection_manager

    app.resp_options.xml_error_serialization = False  # errors are always JSON

    app.add_route("/", PageResource(WEB_FOLDER / "index.html"))
    app.add_route("/docs", PageResource(WEB_FOLDER / "docs.html"))
    app.add_route("/health", HealthResource())
    app.add_route("/ready", ReadyResource(app, store))
    app.add_static_route("/static", WEB_FOLDER)
    session_type = NamedSessionResource if settings.sign_in == "name" else SessionResource
    session = session_type(tokens, cookie, manager, settings.sign_in, provider)
    app.add_route("/session", session)
    app.add_route("/session/refresh", RefreshResource(tokens, cookie, manager))
    app.add_route("/session/ticket", TicketResource(tokens, manager))

    if provider is not None:
        attempts = AttemptCookies(cookie, settings.secrets, tokens.audience)
        app.add_route("/login", LoginResource(provider, attempts))
        app.add_route("/login/callback", CallbackResource(provider, attempts, tokens, cookie))
        app.add_route("/logout", LogoutResource(session))

    app.add_websocket_route(
        "{{ cookiecutter.websocket_path }}/{room_name}",
        {{ cookiecutter.__resource_class }},
        Invitations(settings.secrets, tokens.audience),
        Names(),
        RoomList(manager, ROOM_PREFIX),
        store,
        route_config=RouteConfig(
            history=settings.history, presence_batch=PresenceBatch(above=MAX_USERS)
        ),
    )

    app.add_rooms_route(
        "/ws",
        "{{ cookiecutter.websocket_path }}/{room_name}",
    )

    app.add_route("/asyncapi.json", ContractResource(describe(app, settings)))

    if has_metrics(settings):
        metrics = ServiceMetrics(app, settings)
        app.lifespan(metrics.run)
        if metrics.token:
            app.add_route("/metrics", MetricsResource(metrics))
    elif has_inspect_page(settings):
        count_events(manager, app.ws_admission)
    admin = AdminSocket(settings.state_folder, manager, ROOM_PREFIX)
    if has_inspect_page(settings):
        app.add_route("/inspect", PageResource(WEB_FOLDER / "inspect.html"))
        app.add_route(INSPECT_JSON, InspectResource(manager, admin))
        hide_requests(INSPECT_JSON)  # the page sends one per second
    if traces is not None:
        app.lifespan(traces.run)

    workers = WorkerController(manager=manager)

    @app.lifespan
    async def open_store(_: App) -> AsyncIterator[None]:
        if manager.backend.single:
            check_processes()
        make_state_folder(settings.state_file)
        if store is None:
            yield
            return
        if sqlite_path(store.url) and not manager.backend.single:
            logger.warning(SHARED_SQLITE)
        async with aclosing(store):
            await store.open()
            yield

    if settings.environment == "development":

        @app.lifespan
        async def name_blocking_handlers(_: App) -> AsyncIterator[None]:
            async with watch_loop():
                yield

    @app.lifespan
    async def run_workers(_: App) -> AsyncIterator[None]:
        await workers.start(
            announce,
            once_per_cluster=True,
            manager=manager,
            room_prefix=ROOM_PREFIX,
            text=settings.announcement_text,
            interval_seconds=settings.announcement_interval_seconds,
        )
        if store is not None and settings.message_retention_days:
            await workers.start(
                remove_old_messages,
                once_per_cluster=True,
                store=store,
                retention_days=settings.message_retention_days,
            )
        try:
            yield
        finally:
            await workers.stop()
            if provider is not None:
                await provider.aclose()

    @app.lifespan
    async def open_admin_socket(_: App) -> AsyncIterator[None]:
        async with admin:
            yield

    return app
