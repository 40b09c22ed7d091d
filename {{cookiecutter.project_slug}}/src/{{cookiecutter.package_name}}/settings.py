"""The settings, read from the environment and from ``.env``."""

from __future__ import annotations

from typing import Annotated, Literal

import jwt
from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from falcon_pachinko import ConfigurationError, History, ServerLimits
from falcon_pachinko.backends import backend_from_url, check_backend_url
from falcon_pachinko.backends.base import Backend
from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.route_config import is_origin
from falcon_pachinko.server.forwarded import TrustedProxies

PACKAGE = __name__.partition(".")[0]
ENV_PREFIX = "APP_"
DEVELOPMENT_SECRET = "for-development-only-this-secret-is-known-to-everybody"
# SECURITY: an error text shows the value of any other setting.
CONFIDENTIAL = frozenset({"APP_SECRET", "APP_BACKEND_URL"})

# RFC 7518 section 3.2: a key for HS256 has at least the 256 bits of its hash.
MIN_SECRET_BYTES = 32
NEW_SECRET = """python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"""


class Settings(BaseSettings):
    """The settings, each read from ``APP_<NAME>`` in the environment, else in ``.env``, else the default."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    environment: Literal["development", "test", "production"] = "development"
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)  # 0: any free port
    secret: SecretStr = SecretStr(DEVELOPMENT_SECRET)
    log_level: Literal["critical", "error", "warning", "info", "debug", "trace"] = "info"
    public_origin: str = ""
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ("127.0.0.1", "::1", "unix:")
    token_lifetime_seconds: int = Field(default=8 * 3600, gt=0)
    announcement_interval_seconds: float = Field(default=3600.0, gt=0)
    announcement_text: str = Field(
        default="System maintenance is scheduled for 2 AM UTC.", min_length=1
    )
    graceful_shutdown_seconds: int = Field(default=20, gt=0)
    workers: int = Field(
        default=1, gt=0, validation_alias=AliasChoices("app_workers", "web_concurrency")
    )
    backend_url: SecretStr = SecretStr("")
    backend_prefix: str = Field(default=PACKAGE, pattern=r"^[\w.-]{1,200}$")
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
    def production(self) -> bool:
        """Whether the service is public: no sign-in by name, and a secret of its own is required."""
        return self.environment == "production"

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
        )

    @field_validator("allowed_origins", "trusted_proxies", mode="before")
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

    @field_validator("backend_url")
    @classmethod
    def check_url(cls, url: SecretStr) -> SecretStr:
        """Refuse a URL that no backend accepts; connects to nothing."""
        check_backend_url(url.get_secret_value())
        return url

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
            raise ValueError(
                f"APP_WORKERS, or WEB_CONCURRENCY, is {self.workers} without APP_BACKEND_URL: each process would"
                " have rooms of its own; set APP_BACKEND_URL or APP_WORKERS=1"
            )
        return self

    @model_validator(mode="after")
    def check_secret(self) -> Settings:
        """Refuse a secret that can be guessed: with it, a token for any user can be forged."""
        secret = self.secret.get_secret_value()
        if len(secret.encode("utf-8", "replace")) < MIN_SECRET_BYTES:
            raise ValueError(
                f"APP_SECRET must have {MIN_SECRET_BYTES} bytes or more: generate one with {NEW_SECRET}"
            )
        try:
            jwt.encode({}, secret, algorithm="HS256")
        except (UnicodeEncodeError, jwt.InvalidKeyError) as error:
            raise ValueError(
                "APP_SECRET must be UTF-8 text and not a PEM or SSH key: generate one with"
                f" {NEW_SECRET}"
            ) from error
        if self.production and secret == DEVELOPMENT_SECRET:
            raise ValueError(
                "APP_SECRET is not set, or it is the default for development: generate one with"
                f" {NEW_SECRET}"
            )
        return self


def check_origin(origin: str, scheme: str = "") -> str:
    """Return an origin in lower case and without a default port, as browsers send it.

    Raises:
        ValueError: The text is not an origin, or its scheme begins differently.
    """
    origin = origin.lower()
    default_port = {"https": ":443", "http": ":80"}.get(origin.partition(":")[0], "")
    origin = origin.removesuffix(default_port)
    if not is_origin(origin) or not origin.startswith(scheme):
        raise ValueError(f"{origin!r} is not an origin: write it like https://chat.example.com")
    return origin


def load_settings() -> Settings:
    """Read the settings.

    Raises:
        SystemExit: A setting is invalid; the text has a line for each, with its name.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False, include_context=False):
            name = str(problem["loc"][0]).upper() if problem["loc"] else ""
            if name and not name.startswith(ENV_PREFIX):
                name = ENV_PREFIX + name
            shown = name and name not in CONFIDENTIAL
            given = f" (it is {problem['input']!r:.200})" if shown else ""
            reason = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{name}: {reason}{given}" if name else reason)
        raise SystemExit("Invalid settings:\n  " + "\n  ".join(lines)) from None
    except UnicodeDecodeError as error:
        # SECURITY: the error quotes a byte, which may belong to a secret.
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SystemExit(f"Invalid settings:\n  .env is not UTF-8 text: see line {line}") from None
