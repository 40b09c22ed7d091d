"""The sources of settings, and the errors of invalid ones."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr, ValidationError

from falcon_pachinko import History
from falcon_pachinko.backends.memory import MemoryBackend
from falcon_pachinko.backends.redis.backend import RedisBackend
from falcon_pachinko.backends.timing import Timing

from {{ cookiecutter.package_name }} import checks, settings

if TYPE_CHECKING:
    from ..conftest import MakeSettings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str) -> Path:
    """The working directory of the service, without a .env file; the environment has the secret."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APP_SECRET", secret)
    return tmp_path


def refusal() -> str:
    """Return the error with which the program ends because of its settings."""
    with pytest.raises(SystemExit) as ended:
        settings.load_settings()
    assert isinstance(ended.value.code, str), "the status would be 0"
    # Python would print a cause or a context too.
    assert ended.value.__suppress_context__
    assert ended.value.__cause__ is None
    return ended.value.code


def test_every_setting_has_a_default_except_the_secret(secret: str) -> None:
    loaded = settings.load_settings()
    assert loaded.model_dump() == {
        "environment": "production",
        "host": "127.0.0.1",
        "port": 8000,
        "secret": SecretStr(secret),
        "secret_previous": SecretStr(""),
        "oidc_issuer": "",
        "oidc_client_id": "",
        "oidc_client_secret": SecretStr(""),
        "oidc_scopes": "openid profile",
        "oidc_audience": "",
        "oidc_id_claim": "sub",
        "oidc_name_claim": "name",
        "oidc_roles_claim": "roles",
        "allow_insecure": False,
        "log_level": "info",
        "log_format": "",
        "public_origin": "",
        "root_path": "",
        "allowed_hosts": (),
        "allowed_origins": (),
        "trusted_proxies": ("127.0.0.1", "::1", "unix:"),
        "token_lifetime_seconds": 28800,
        "session_lifetime_seconds": 2_592_000,
        "state_folder": "var",
        "database_url": SecretStr(""),
        "message_retention_days": 0.0,
        "announcement_interval_seconds": 3600.0,
        "announcement_text": "System maintenance is scheduled for 2 AM UTC.",
        "drain_delay_seconds": 5.0,
        "drain_seconds": 20.0,
        "drain_connections_per_second": 100.0,
        "metrics_port": 0,
        "metrics_token": SecretStr(""),
        "graceful_shutdown_seconds": 20,
        "workers": 1,
        "io_uring": False,
        "backend_url": SecretStr(""),
        "backend_prefix": settings.__name__.partition(".")[0],
        "max_connections": 10_000,
        "max_connections_per_address": 2_000,
        "max_connections_per_user": 20,
        "handshakes_per_second": 100.0,
        "handshake_burst": 1_000,
        "buffer_bytes": 256 * 1024 * 1024,
        "history_messages": 100,
        "history_seconds": 300.0,
        "history_room_bytes": 1_048_576,
        "history_memory_bytes": 67_108_864,
        "history_redis_bytes": 134_217_728,
        "presence_grace_seconds": 5.0,
        "presence_expiry_seconds": 30.0,
    }
    assert loaded.production


def test_the_environment_takes_precedence_over_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text("APP_PORT=1111\nAPP_HOST=0.0.0.0\n", encoding="utf-8")
    monkeypatch.setenv("APP_PORT", "2222")
    loaded = settings.load_settings()
    assert (loaded.host, loaded.port) == ("0.0.0.0", 2222)


def test_an_empty_variable_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_HOST", "")
    monkeypatch.setenv("APP_PORT", "")
    loaded = settings.load_settings()
    assert (loaded.host, loaded.port) == ("127.0.0.1", 8000)


def test_other_variables_are_ignored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("OTHER=1\nAPP_OTHER=1\n", encoding="utf-8")
    monkeypatch.setenv("PORT", "http")
    monkeypatch.setenv("APP_SOMETHING", "1")
    assert settings.load_settings().port == 8000


def test_the_backend_and_the_history_follow_the_settings(make_settings: MakeSettings) -> None:
    loaded = make_settings(
        backend_url="redis://127.0.0.1:1",
        backend_prefix="other",
        history_messages=7,
        history_seconds=8,
        history_room_bytes=9_000,
        history_redis_bytes=10_000,
        presence_grace_seconds=1,
        presence_expiry_seconds=9,
        workers=3,
    )
    assert loaded.history == History(messages=7, seconds=8.0, room_bytes=9_000)
    backend = loaded.make_backend()
    assert isinstance(backend, RedisBackend)
    assert backend.client.prefix == "other"
    assert backend.client.history_bytes == 10_000
    assert backend.timing == Timing(grace_seconds=1, expiry_seconds=9)
    assert loaded.workers == 3


def test_the_histories_of_one_process_have_their_own_bound(make_settings: MakeSettings) -> None:
    backend = make_settings(history_memory_bytes=11_000).make_backend()
    assert isinstance(backend, MemoryBackend)
    assert backend.budget.max_bytes == 11_000


def test_settings_are_immutable(make_settings: MakeSettings) -> None:
    loaded = make_settings()
    with pytest.raises(ValidationError):
        loaded.port = 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APP_ENVIRONMENT", "staging"),
        ("APP_PORT", "http"),
        ("APP_PORT", "-1"),
        ("APP_PORT", "65536"),
        ("APP_LOG_LEVEL", "loud"),
        ("APP_PUBLIC_ORIGIN", "chat.example.com"),
        ("APP_PUBLIC_ORIGIN", "https://chat.example.com/path"),
        ("APP_PUBLIC_ORIGIN", "wss://chat.example.com"),
        ("APP_PUBLIC_ORIGIN", "*"),
        ("APP_ALLOWED_ORIGINS", "chat.example.com"),
        ("APP_ALLOWED_ORIGINS", "https://chat.example.com/"),
        ("APP_ALLOWED_ORIGINS", "https://good.example, https://bad.example/path"),
        ("APP_TOKEN_LIFETIME_SECONDS", "0"),
        ("APP_TOKEN_LIFETIME_SECONDS", "an hour"),
        ("APP_ANNOUNCEMENT_INTERVAL_SECONDS", "0"),
        ("APP_ANNOUNCEMENT_INTERVAL_SECONDS", "-1"),
        ("APP_ANNOUNCEMENT_INTERVAL_SECONDS", "hourly"),
        ("APP_ANNOUNCEMENT_INTERVAL_SECONDS", "nan"),
        ("APP_HISTORY_ROOM_BYTES", "0"),
        ("APP_HISTORY_MEMORY_BYTES", "-1"),
        ("APP_HISTORY_REDIS_BYTES", "128 MiB"),
        ("APP_DRAIN_DELAY_SECONDS", "-1"),
        ("APP_DRAIN_SECONDS", "inf"),
        ("APP_DRAIN_CONNECTIONS_PER_SECOND", "0"),
        ("APP_GRACEFUL_SHUTDOWN_SECONDS", "0"),
        ("APP_GRACEFUL_SHUTDOWN_SECONDS", "soon"),
    ],
)
def test_an_invalid_value_ends_the_program_with_a_line_about_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    headline, line = refusal().splitlines()
    assert headline == "Invalid settings:"
    assert line.startswith(f"  {name}: ")
    assert repr(value) in line or value.rpartition(", ")[2] in line


def test_all_invalid_values_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PORT", "http")
    monkeypatch.setenv("APP_LOG_LEVEL", "loud")
    lines = refusal().splitlines()[1:]
    assert [line.strip().partition(":")[0] for line in lines] == ["APP_PORT", "APP_LOG_LEVEL"]


def test_a_short_secret_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    short = "x" * (checks.MIN_SECRET_BYTES - 1)
    monkeypatch.setenv("APP_SECRET", short)
    text = refusal()
    assert "APP_SECRET" in text
    assert "32 bytes" in text
    assert short not in text


def test_a_secret_is_not_shown_with_another_invalid_value(
    monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("APP_SECRET", secret)
    monkeypatch.setenv("APP_PORT", "http")
    text = refusal()
    assert "APP_PORT" in text
    assert secret not in text


def test_the_length_of_a_secret_is_counted_in_bytes(make_settings: MakeSettings) -> None:
    euros = "€" * 11
    assert make_settings(secret=euros).secret.get_secret_value() == euros


@pytest.mark.parametrize("environment", ["development", "test", "production"])
@pytest.mark.parametrize("value", [None, "", "too-short"])
def test_every_environment_needs_a_secret(
    monkeypatch: pytest.MonkeyPatch, environment: str, value: str | None
) -> None:
    monkeypatch.setenv("APP_ENVIRONMENT", environment)
    monkeypatch.delenv("APP_SECRET")
    if value is not None:
        monkeypatch.setenv("APP_SECRET", value)
    text = refusal()
    assert "APP_SECRET " in text
    assert "token_urlsafe" in text
    assert not value or value not in text


def test_a_previous_secret_is_checked_and_accepted(
    monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("APP_SECRET_PREVIOUS", "hunter2")
    text = refusal()
    assert "APP_SECRET_PREVIOUS must have 32 bytes" in text
    assert "hunter2" not in text
    monkeypatch.setenv("APP_SECRET_PREVIOUS", "x" * 32)
    assert settings.load_settings().secrets == (secret, "x" * 32)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "chat.example.com"])
def test_settings_for_development_are_refused_on_an_address_of_the_network(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("APP_HOST", host)
    assert settings.load_settings().production
    monkeypatch.setenv("APP_ENVIRONMENT", "development")
    assert "APP_ALLOW_INSECURE=1" in refusal()
    monkeypatch.setenv("APP_ALLOW_INSECURE", "1")
    assert settings.load_settings().host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_settings_for_development_are_accepted_on_the_loopback(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("APP_ENVIRONMENT", "development")
    monkeypatch.setenv("APP_HOST", host)
    assert settings.load_settings().sign_in == "name"


def test_the_public_origin_gives_the_host_and_an_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.load_settings().hosts == ()
    monkeypatch.setenv("APP_PUBLIC_ORIGIN", "https://Chat.example.com:8443")
    monkeypatch.setenv("APP_ALLOWED_ORIGINS", "https://admin.example")
    loaded = settings.load_settings()
    assert loaded.hosts == ("chat.example.com",)
    assert loaded.origins == ("https://admin.example", "https://chat.example.com:8443")
    monkeypatch.setenv("APP_ALLOWED_HOSTS", "A.example, b.example")
    assert settings.load_settings().hosts == ("a.example", "b.example")


@pytest.mark.parametrize("host", ["a.example:80", "https://a.example", "a b", "*.example", "a/b"])
def test_an_invalid_host_is_refused(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("APP_ALLOWED_HOSTS", f"b.example, {host}")
    text = refusal()
    assert "APP_ALLOWED_HOSTS: " in text
    assert host in text


@pytest.mark.parametrize(("given", "root_path"), [("/chat/", "/chat"), ("/a/b", "/a/b"), ("/", "")])
def test_a_path_prefix_has_no_slash_at_its_end(
    monkeypatch: pytest.MonkeyPatch, given: str, root_path: str
) -> None:
    monkeypatch.setenv("APP_ROOT_PATH", given)
    assert settings.load_settings().root_path == root_path


@pytest.mark.parametrize("given", ["chat", "//evil.example", "/a b", "/../b"])
def test_an_invalid_path_prefix_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("APP_ROOT_PATH", given)
    assert "APP_ROOT_PATH: " in refusal()


def test_the_state_file_is_only_for_one_process(make_settings: MakeSettings) -> None:
    assert make_settings(state_folder="var").state_file == Path("var/restrictions.json")
    assert make_settings(state_folder="").state_file is None
    shared = make_settings(state_folder="var", backend_url="redis://127.0.0.1:1")
    assert shared.state_file is None


def test_messages_are_stored_in_the_state_folder_by_default(make_settings: MakeSettings) -> None:
    assert make_settings(state_folder="var").store_url == "sqlite:///var/messages.db"
    assert make_settings(state_folder="var", database_url="none").store_url == ""
    url = "postgresql://chat@db.example.com/chat"
    assert make_settings(state_folder="var", database_url=url).store_url == url


def test_an_invalid_database_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("APP_DATABASE_URL", "postgresql://chat:hunter2@db:port/chat")
    text = refusal()
    assert "APP_DATABASE_URL: it is not the URL of a database: write sqlite:///" in text
    assert "hunter2" not in text


@pytest.mark.parametrize("days", ["-1", "inf", "nan", "a week"])
def test_an_invalid_retention_is_refused(monkeypatch: pytest.MonkeyPatch, days: str) -> None:
    monkeypatch.setenv("APP_MESSAGE_RETENTION_DAYS", days)
    assert "APP_MESSAGE_RETENTION_DAYS: " in refusal()


def test_the_secret_is_masked_in_printed_settings(make_settings: MakeSettings, secret: str) -> None:
    loaded = make_settings()
    assert secret not in f"{loaded} {loaded!r} {loaded.model_dump_json()}"


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("https://chat.example.com", ("https://chat.example.com",)),
        (
            " https://a.example , http://b.example:8080,, ",
            ("https://a.example", "http://b.example:8080"),
        ),
        ("*", ("*",)),
        ("HTTPS://Chat.Example.com:443", ("https://chat.example.com",)),
        (" , ", ()),
    ],
)
def test_origins_are_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch, value: str, origins: tuple[str, ...]
) -> None:
    monkeypatch.setenv("APP_ALLOWED_ORIGINS", value)
    assert settings.load_settings().allowed_origins == origins


@pytest.mark.parametrize(
    ("value", "proxies"),
    [
        (" 10.1.2.3, fd00::/8 ,", ("10.1.2.3", "fd00::/8")),
        ("*", ("*",)),
        ("unix:", ("unix:",)),
        (" , ", ()),
    ],
)
def test_proxies_are_addresses_networks_unix_sockets_or_all(
    monkeypatch: pytest.MonkeyPatch, value: str, proxies: tuple[str, ...]
) -> None:
    monkeypatch.setenv("APP_TRUSTED_PROXIES", value)
    assert settings.load_settings().trusted_proxies == proxies


@pytest.mark.parametrize("value", ["proxy.example", "10.0.0.1/8", "10.0.0.0/33", "1.2.3.4:80"])
def test_a_proxy_that_is_not_an_address_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("APP_TRUSTED_PROXIES", f"127.0.0.1, {value}")
    text = refusal()
    assert "APP_TRUSTED_PROXIES: " in text
    assert value in text
    assert "write an address or a network like 10.0.0.0/8" in text


@pytest.mark.parametrize(
    "value",
    [
        "chat.example.com",
        "https://",
        "://",
        "https://a.example/",
        "https://a.example:x",
        "https://u@a.example",
        "https://*.example.com",
        "https://a.example, b.example",
    ],
)
def test_an_invalid_origin_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("APP_ALLOWED_ORIGINS", value)
    assert "is not an origin" in refusal()


@pytest.mark.parametrize("value", ["x" * 40 + "\udcff", "ssh-rsa " + "A" * 40])
def test_a_secret_that_cannot_sign_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("APP_SECRET", value)
    text = refusal()
    assert "APP_SECRET must be UTF-8 text" in text
    assert value not in text


def test_a_file_that_is_not_utf8_is_refused() -> None:
    Path(".env").write_bytes(b"APP_PORT=1\nAPP_SECRET=\xff")
    text = refusal()
    assert ".env is not UTF-8 text: see line 2" in text
    assert "ff" not in text


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@hunter3/word@10.0.0.5",
        "redis://:hunter2#hunter3@10.0.0.5",
        "hunter2:hunter3@10.0.0.5",
        "hunter2hunter3",
    ],
)
def test_an_ambiguous_backend_url_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("APP_BACKEND_URL", url)
    text = refusal()
    assert "APP_BACKEND_URL: " in text
    assert "hunter" not in text


def test_an_error_of_the_settings_class_shows_no_value(make_settings: MakeSettings) -> None:
    with pytest.raises(ValueError, match="backend_url") as refused:
        make_settings(backend_url="redis://:a@hunter2/b@10.0.0.5")
    assert "hunter2" not in str(refused.value)


NAMES = {f"{settings.ENV_PREFIX}{name}".upper() for name in settings.Settings.model_fields}
PROJECT = Path(__file__).parents[2]


def test_the_page_of_the_settings_lists_each_with_its_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    default = settings.load_settings()
    page = (PROJECT / "docs/settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(APP_\w+)` \| ([^|]+) \|", page, re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(NAMES)
    literals = {name: cell.strip("`") for name, cell in rows if re.fullmatch("`[^`]+`", cell)}
    assert len(literals) > 25
    for name, value in literals.items():
        monkeypatch.setenv(name, value)
    assert settings.load_settings() == default


def test_the_example_file_has_a_few_settings_with_their_defaults() -> None:
    default = settings.load_settings()
    example = PROJECT / ".env.example"
    lines = example.read_text(encoding="utf-8").splitlines()
    shown = [line.partition("=")[0] for line in lines if line.startswith("APP_")]
    assert len(shown) == len(set(shown)) <= 20
    assert set(shown) <= NAMES
    # NOTE: a value that is empty there is the default, except that of the secret.
    Path(".env").write_bytes(example.read_bytes())
    assert NAMES & os.environ.keys() == {"APP_SECRET"}
    assert settings.load_settings() == default
