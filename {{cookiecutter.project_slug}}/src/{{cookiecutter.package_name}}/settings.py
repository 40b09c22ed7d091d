"""The settings, read from the environment and from ``.env``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode, SettingsConfigDict

from falcon_pachinko import ConfigurationError, History, ServerLimits
from falcon_pachinko.backends import backend_from_url, check_backend_url
from falcon_pachinko.backends.base import Backend
from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.server.forwarded import TrustedProxies
from falcon_pachinko.server.root_path import check_root_path

from .checks import (
    SEPARATE_ROOMS,
    check_client,
    check_host,
    check_issuer,
    check_metrics,
    check_origin,
    check_private,
    check_secrets,
    problem_lines,
)
from .stop_settings import StopSettings
from .store_url import check_store_url, resolve_store_url

PACKAGE = __name__.partition(".")[0]
ENV_PREFIX = "APP_"
ENV_FILE = ".env"
STATE_FILE = "restrictions.json"


class Settings(StopSettings):
    """The settings, each read from ``APP_<NAME>`` in the environment, else in ``.env``, else the default."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_file=ENV_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
        # PERF: the other engine compiles the pattern of backend_prefix in 100 ms.
        regex_engine="python-re",
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)  # 0: any free port
    secret: SecretStr = SecretStr("")
    secret_previous: SecretStr = SecretStr("")
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret: SecretStr = SecretStr("")
    oidc_scopes: str = "openid profile"
    oidc_audience: str = ""
    oidc_id_claim: str = "sub"
    oidc_name_claim: str = "name"
    oidc_roles_claim: str = "roles"
    allow_insecure: bool = False
    log_level: Literal["critical", "error", "warning", "info", "debug", "trace"] = "info"
    log_format: Literal["", "text", "json"] = ""
    public_origin: str = ""
    root_path: str = ""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ("127.0.0.1", "::1", "unix:")
    token_lifetime_seconds: int = Field(default=8 * 3600, gt=0)
    session_lifetime_seconds: int = Field(default=30 * 24 * 3600, gt=0)
    state_folder: str = "var"
    database_url: SecretStr = SecretStr("")
    message_retention_days: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    announcement_interval_seconds: float = Field(default=3600.0, gt=0)
    announcement_text: str = Field(
        default="System maintenance is scheduled for 2 AM UTC.", min_length=1
    )
    metrics_port: int = Field(default=0, ge=0, le=65535)  # 0: none
    metrics_token: SecretStr = SecretStr("")
    workers: int = Field(
        default=1, gt=0, validation_alias=AliasChoices("app_workers", "web_concurrency")
    )
    io_uring: bool = False
    backend_url: SecretStr = SecretStr("")
    backend_prefix: str = Field(default=PACKAGE, pattern=r"^[\w.-]{1,200}\Z")
    max_connections: int = Field(default=10_000, gt=0)
    max_connections_per_address: int = Field(default=2_000, gt=0)
    max_connections_per_user: int = Field(default=20, gt=0)
    handshakes_per_second: float = Field(default=100.0, gt=0, allow_inf_nan=False)
    handshake_burst: int = Field(default=1_000, gt=0)
    buffer_bytes: int = Field(default=256 * 1024 * 1024, gt=0)
    history_messages: int = Field(default=100, ge=0)
    history_seconds: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    history_room_bytes: int = Field(default=1024 * 1024, gt=0)
    history_memory_bytes: int = Field(default=64 * 1024 * 1024, gt=0)
    history_redis_bytes: int = Field(default=128 * 1024 * 1024, gt=0)
    presence_grace_seconds: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    presence_expiry_seconds: float = Field(default=30.0, gt=0, allow_inf_nan=False)

    @property
    def sign_in(self) -> Literal["name", "provider", "none"]:
        """How users sign in."""
        if self.oidc_issuer:
            return "provider"
        return "none" if self.production else "name"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets of tokens that are valid; the first one signs new tokens."""
        secrets = (self.secret.get_secret_value(), self.secret_previous.get_secret_value())
        return tuple(secret for secret in secrets if secret) or ("",)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host names of the service: by default that of its public address."""
        return self.allowed_hosts or tuple(filter(None, [urlsplit(self.public_origin).hostname]))

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins whose pages may use the service, besides those of a request's own host."""
        return tuple(filter(None, [*self.allowed_origins, self.public_origin]))

    @property
    def history(self) -> History | None:
        """The messages kept per room for reconnecting clients; ``None`` for no history."""
        if not self.history_messages:
            return None
        return History(
            messages=self.history_messages,
            seconds=self.history_seconds,
            room_bytes=self.history_room_bytes,
        )

    @property
    def server_limits(self) -> ServerLimits:
        """The bounds of all connections of a process together."""
        return ServerLimits(
            connections=self.max_connections,
            connections_per_address=self.max_connections_per_address,
            connections_per_user=self.max_connections_per_user,
            handshakes_per_second=self.handshakes_per_second,
            handshake_burst=self.handshake_burst,
            buffer_bytes=self.buffer_bytes,
        )

    @property
    def timing(self) -> Timing:
        """The grace period of users, and the heartbeat and the expiry of nodes."""
        return Timing(
            grace_seconds=self.presence_grace_seconds,
            expiry_seconds=self.presence_expiry_seconds,
        )

    def make_backend(self) -> Backend:
        """Create the backend: over Redis if a URL is set, else in memory."""
        url = self.backend_url.get_secret_value()
        return backend_from_url(
            url,
            prefix=self.backend_prefix,
            timing=self.timing,
            history_bytes=self.history_redis_bytes if url else self.history_memory_bytes,
            state_file=self.state_file,
        )

    @property
    def state_file(self) -> Path | None:
        """The file with bans, mutes and revoked sessions; ``None`` with Redis, which has them."""
        is_needed = self.state_folder and not self.backend_url.get_secret_value()
        return Path(self.state_folder, STATE_FILE) if is_needed else None

    @property
    def store_url(self) -> str:
        """The database of messages; empty to store none. See :func:`.store_url.resolve_store_url`."""
        return resolve_store_url(self.database_url.get_secret_value(), self.state_folder)

    @field_validator("allowed_hosts", "allowed_origins", "trusted_proxies", mode="before")
    @classmethod
    def split_at_commas(cls, value: object) -> object:
        """Split a comma-separated text, such as ``https://a.example, https://b.example``."""
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("public_origin")
    @classmethod
    def check_public_origin(cls, origin: str) -> str:
        """Accept an HTTP origin, and remove a default port."""
        return check_origin(origin, "http") if origin else origin

    @field_validator("root_path")
    @classmethod
    def check_prefix(cls, root_path: str) -> str:
        """Accept a path such as ``/chat``, and remove a slash at its end."""
        return check_root_path(root_path)

    @field_validator("allowed_hosts")
    @classmethod
    def check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        """Accept host names and addresses without a port, or ``*`` for all."""
        return tuple(check_host(host) for host in hosts)

    @field_validator("allowed_origins")
    @classmethod
    def check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        """Accept origins as browsers send them in the header ``Origin``, or ``*`` for all."""
        return tuple(origin if origin == "*" else check_origin(origin) for origin in origins)

    @field_validator("trusted_proxies")
    @classmethod
    def check_proxies(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        """Accept addresses, networks, ``unix:`` for Unix sockets and ``*`` for all; resolve no host names."""
        TrustedProxies(proxies)
        return proxies

    @field_validator("backend_url", "database_url")
    @classmethod
    def check_url(cls, url: SecretStr, info: ValidationInfo) -> SecretStr:
        """Refuse a URL that no backend or no store accepts; connects to nothing."""
        check = check_backend_url if info.field_name == "backend_url" else check_store_url
        check(url.get_secret_value())
        return url

    @model_validator(mode="after")
    def check_provider(self) -> Settings:
        """Refuse an identity provider that cannot work."""
        if self.oidc_issuer:
            check_issuer(self.oidc_issuer, allows_http=not self.production)
            check_client(self.oidc_client_id, self.oidc_scopes)
        return self

    @model_validator(mode="after")
    def check_timing(self) -> Settings:
        """Refuse an expiry that is not above the heartbeat."""
        try:
            _ = self.timing
        except ConfigurationError as error:
            raise ValueError(f"APP_PRESENCE_EXPIRY_SECONDS: {error}") from None
        return self

    @model_validator(mode="after")
    def check_workers(self) -> Settings:
        """Refuse several processes without a backend: users of one room would not see each other."""
        if self.workers > 1 and not self.backend_url.get_secret_value():
            raise ValueError(SEPARATE_ROOMS.format(workers=self.workers))
        return self

    @model_validator(mode="after")
    def check_secret(self) -> Settings:
        """Refuse a secret that can be guessed, such as for forged tokens of any user, and metrics that cannot be served."""
        check_secrets(self.secret.get_secret_value(), self.secret_previous.get_secret_value())
        check_metrics(self.metrics_port, self.metrics_token.get_secret_value(), self.port)
        return self

    @model_validator(mode="after")
    def check_exposure(self) -> Settings:
        """Refuse to let other machines use the sign-in by name."""
        if not (self.production or self.allow_insecure):
            check_private(self.host, self.environment)
        return self


# SECURITY: an error text shows the value of any other setting.
CONFIDENTIAL = frozenset(
    f"{ENV_PREFIX}{name}".upper()
    for name, field in Settings.model_fields.items()
    if field.annotation is SecretStr
)


def load_settings() -> Settings:
    """Read the settings.

    Raises:
        SystemExit: A setting is invalid; the text has a line for each, with its name.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = problem_lines(error, ENV_PREFIX, CONFIDENTIAL)
        raise SystemExit("Invalid settings:\n  " + "\n  ".join(lines)) from None
    except UnicodeDecodeError as error:
        # SECURITY: the error quotes a byte, which may belong to a secret.
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SystemExit(f"Invalid settings:\n  .env is not UTF-8 text: see line {line}") from None
