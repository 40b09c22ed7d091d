"""The settings: the only place that reads the environment and the file ``.env``."""

from __future__ import annotations

import ipaddress
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

from falcon_pachinko import History, RegistrationError
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.backends.base import Backend, Timing
from falcon_pachinko.route_config import is_origin

ENV_PREFIX = "APP_"
DEVELOPMENT_SECRET = "for-development-only-this-secret-is-known-to-everybody"

# RFC 7518 section 3.2: a key for HS256 has at least the 256 bits of its hash.
MIN_SECRET_BYTES = 32


class Settings(BaseSettings):
    """Each setting is read from ``APP_<NAME>``: the environment first, then ``.env``, then the default."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    environment: Literal["development", "test", "production"] = "development"
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)  # 0 takes a free one
    secret: SecretStr = SecretStr(DEVELOPMENT_SECRET)
    log_level: Literal["critical", "error", "warning", "info", "debug", "trace"] = "info"
    public_origin: str = ""
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ("127.0.0.1", "::1")
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
    backend_prefix: str = Field(default=__name__.partition(".")[0], pattern=r"^[\w.-]{1,200}$")
    history_messages: int = Field(default=100, ge=0)
    history_seconds: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    presence_grace_seconds: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    presence_heartbeat_seconds: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    presence_expiry_seconds: float = Field(default=30.0, gt=0, allow_inf_nan=False)

    @property
    def production(self) -> bool:
        """Whether strangers use it: then there is no sign-in by name, and the secret must be one."""
        return self.environment == "production"

    @property
    def history(self) -> History | None:
        """What a room keeps for clients that come back; ``None`` where it keeps nothing."""
        if not self.history_messages:
            return None
        return History(messages=self.history_messages, seconds=self.history_seconds)

    @property
    def timing(self) -> Timing:
        """How patient the processes are with each other."""
        return Timing(
            grace_seconds=self.presence_grace_seconds,
            heartbeat_seconds=self.presence_heartbeat_seconds,
            expiry_seconds=self.presence_expiry_seconds,
        )

    def make_backend(self) -> Backend:
        """What joins this process with others, if a URL says where."""
        url = self.backend_url.get_secret_value()
        return backend_from_url(url, prefix=self.backend_prefix, timing=self.timing)

    @field_validator("allowed_origins", "trusted_proxies", mode="before")
    @classmethod
    def split_at_commas(cls, value: object) -> object:
        """``https://a.example, https://b.example`` is two origins."""
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("public_origin")
    @classmethod
    def check_public_origin(cls, origin: str) -> str:
        """It is what a browser shows before the path, without a default port."""
        origin = without_default_port(origin.lower())
        if origin and not (is_origin(origin) and origin.startswith("http")):
            raise ValueError(f"{origin!r} is no origin: write it like https://chat.example.com")
        return origin

    @field_validator("allowed_origins")
    @classmethod
    def check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        """An origin is what a browser sends in the header of that name."""
        origins = tuple(without_default_port(origin.lower()) for origin in origins)
        for origin in origins:
            if origin != "*" and not is_origin(origin):
                raise ValueError(f"{origin!r} is no origin: write it like https://chat.example.com")
        return origins

    @field_validator("trusted_proxies")
    @classmethod
    def check_proxies(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        """A proxy is known by its address or its network: names are not looked up."""
        if "*" in proxies:
            return ("*",)  # uvicorn takes it alone only
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError as error:
                raise ValueError(
                    f"{error}: write an address or a network like 10.0.0.0/8"
                ) from None
        return proxies

    @model_validator(mode="after")
    def check_backend(self) -> Settings:
        """A URL that leads nowhere, and times that do not fit each other, are found before the start."""
        try:
            _ = self.timing
        except RegistrationError as error:
            raise ValueError(f"APP_PRESENCE_EXPIRY_SECONDS: {error}") from None
        try:
            self.make_backend()
        except RegistrationError as error:
            raise ValueError(f"APP_BACKEND_URL: {error}") from None
        return self

    @model_validator(mode="after")
    def check_secret(self) -> Settings:
        """A secret that can be guessed lets anybody sign in as anybody."""
        secret = self.secret.get_secret_value()
        if len(secret.encode("utf-8", "replace")) < MIN_SECRET_BYTES:
            raise ValueError(f"APP_SECRET must have {MIN_SECRET_BYTES} bytes or more")
        try:
            jwt.encode({}, secret, algorithm="HS256")
        except (UnicodeEncodeError, jwt.InvalidKeyError) as error:
            raise ValueError("APP_SECRET must be UTF-8 text, and no PEM or SSH key") from error
        if self.production and secret == DEVELOPMENT_SECRET:
            raise ValueError("APP_SECRET is missing or the development one: set one of your own")
        return self


def without_default_port(origin: str) -> str:
    """Browsers leave it out."""
    return origin.removesuffix({"https": ":443", "http": ":80"}.get(origin.partition(":")[0], ""))


def load_settings() -> Settings:
    """Read the settings; where one is bad, end the program with a line for each that names it."""
    try:
        return Settings()
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False, include_context=False):
            name = str(problem["loc"][0]).upper() if problem["loc"] else ""
            if name and not name.startswith(ENV_PREFIX):
                name = ENV_PREFIX + name
            given = f" (it is {problem['input']!r})" if name and name != "APP_SECRET" else ""
            reason = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{name}: {reason}{given}" if name else reason)
        raise SystemExit("The settings do not work:\n  " + "\n  ".join(lines)) from None
    except UnicodeDecodeError as error:
        raise SystemExit(f"The settings do not work:\n  .env is not UTF-8 text: {error}") from None
