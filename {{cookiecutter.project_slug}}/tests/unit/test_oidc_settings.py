"""The settings of an identity provider, and the extra that it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from falcon_pachinko import ConfigurationError

from {{ cookiecutter.package_name }} import oidc, settings

if TYPE_CHECKING:
    from ..conftest import MakeSettings

ISSUER = "https://id.example.com/realms/chat"
PACKAGE = settings.__name__.partition(".")[0]


def test_a_provider_replaces_the_sign_in_by_name(make_settings: MakeSettings) -> None:
    assert make_settings().sign_in == "name"
    assert make_settings(environment="production").sign_in == "none"
    for environment in ("test", "production"):
        made = make_settings(environment=environment, oidc_issuer=ISSUER, oidc_client_id="c")
        assert made.sign_in == "provider"


@pytest.mark.parametrize(
    "issuer",
    [
        "id.example.com",
        "http://id.example.com",
        "https://",
        "https://id.example.com?a=b",
        "https://id.example.com#a",
        "ftp://127.0.0.1",
    ],
)
def test_an_issuer_is_an_https_url(make_settings: MakeSettings, issuer: str) -> None:
    with pytest.raises(ValueError, match=r"APP_OIDC_ISSUER is .*https URL"):
        make_settings(oidc_issuer=issuer, oidc_client_id="c")


def test_a_provider_on_this_machine_needs_no_https_in_development(
    make_settings: MakeSettings,
) -> None:
    local = {"oidc_issuer": "http://127.0.0.1:8080/realms/chat", "oidc_client_id": "c"}
    assert make_settings(**local).oidc_issuer == local["oidc_issuer"]
    with pytest.raises(ValueError, match="https URL"):
        make_settings(environment="production", **local)


def test_a_provider_needs_a_client_and_the_scope_openid(make_settings: MakeSettings) -> None:
    with pytest.raises(ValueError, match="APP_OIDC_CLIENT_ID is not set"):
        make_settings(oidc_issuer=ISSUER)
    with pytest.raises(ValueError, match="must contain 'openid'"):
        make_settings(oidc_issuer=ISSUER, oidc_client_id="c", oidc_scopes="profile")


def test_a_missing_extra_is_named_at_the_start(
    monkeypatch: pytest.MonkeyPatch, make_settings: MakeSettings
) -> None:
    made = make_settings(oidc_issuer=ISSUER, oidc_client_id="c")
    monkeypatch.setattr(oidc, "LIBRARIES", ("authlib", "not_installed_library"))
    with pytest.raises(ConfigurationError, match=r"not_installed_library: .*'\.\[oidc\]'"):
        oidc.open_provider(made)
    with pytest.raises(ValueError, match="install the extra 'oidc'"):
        make_settings(oidc_issuer=ISSUER, oidc_client_id="c")


def test_the_client_secret_is_not_shown(make_settings: MakeSettings) -> None:
    made = make_settings(oidc_client_secret="hunter2")
    assert "hunter2" not in repr(made)
    assert "APP_OIDC_CLIENT_SECRET" in settings.CONFIDENTIAL


@pytest.mark.slow
def test_without_an_issuer_no_library_of_the_extra_is_imported(secret: str) -> None:
    program = f"""
import sys
from {PACKAGE} import app, settings
app.create_app(settings.Settings(secret={secret!r}, _env_file=None))
print([name for name in {oidc.LIBRARIES!r} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(Path(settings.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    assert done.stdout == "[]\n"
