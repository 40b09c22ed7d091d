"""A project below a path prefix: behind the documented nginx location, and mounted in a Starlette application."""

import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from .support.documents import code_block
from .support.http_requests import Response, request
from .support.processes import (
    DEVELOPMENT,
    WAIT_SECONDS,
    listens,
    packages_of,
    required_program,
    running,
    wait_until,
)

BOUND_SECONDS = 240
PROXY_PASS = "proxy_pass http://127.0.0.1:8000;"
NGINX = """
pid {folder}/nginx.pid;
error_log stderr;
daemon off;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        '' close;
    }}
    server {{
        listen 127.0.0.1:{port};
        {location}
    }}
}}
"""
MOUNTED = """
import contextlib, sys
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from chat_service.app import create_app
from chat_service.settings import Settings
from falcon_pachinko import lifespan
from falcon_pachinko.uvicorn import PushProtocol

chat = create_app(Settings())

@contextlib.asynccontextmanager
async def run(site):
    async with lifespan(chat):
        yield

site = Starlette(routes=[Mount("/chat", chat)], lifespan=run)
uvicorn.run(site, port=int(sys.argv[1]), ws=PushProtocol)
"""


@pytest.fixture
def variables(
    baked: Callable[..., Path], environment: dict[str, str], project_python: Path
) -> dict[str, str]:
    return environment | DEVELOPMENT | {"PYTHONPATH": str(baked() / "src"), "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def service(
    variables: dict[str, str],
    project_python: Path,
    free_port: Callable[[], int],
    tmp_path: Path,
) -> Iterator[int]:
    """The port of a service with the prefix /chat."""
    port = free_port()
    own = variables | {"APP_PORT": str(port), "APP_ROOT_PATH": "/chat"}
    command = [str(project_python), "-m", "chat_service"]
    with running(command, tmp_path, own) as process:
        wait_until(lambda: listens(port), process, tmp_path / f"{project_python.name}.log")
        yield port


def header(response: Response, name: str) -> str:
    """Return a header of a response, whose name a proxy may write in another case."""
    return {each.lower(): value for each, value in response.headers.items()}[name]


def check_service(port: int) -> None:
    """Check the pages, a file, the cookie, the contract, a redirect and a conversation below /chat."""
    for path in ("/chat/", "/chat/docs", "/chat/health", "/chat/static/chat/main.js"):
        assert request(port, "GET", path).status == 200, path
    redirect = request(port, "GET", "/chat")
    assert redirect.status in (301, 307)
    location = header(redirect, "location")
    assert location in ("/chat/", f"http://127.0.0.1:{port}/chat/", "http://127.0.0.1/chat/")
    response = request(port, "POST", "/chat/session", {"name": "Alice"})
    assert response.status == 201
    token = json.loads(response.body)["token"]
    deleted = request(port, "DELETE", "/chat/session")
    assert "; Path=/chat;" in header(deleted, "set-cookie")
    contract = json.loads(request(port, "GET", "/chat/asyncapi.json").body)
    assert contract["channels"]

    async def converse() -> None:
        url = f"ws://127.0.0.1:{port}/chat/ws/chat/general"
        async with (
            asyncio.timeout(WAIT_SECONDS),
            connect(
                url,
                additional_headers={"Authorization": f"Bearer {token}"},
                origin=f"http://127.0.0.1:{port}",  # type: ignore[arg-type]  # it is a NewType of str
                proxy=None,
            ) as alice,
        ):
            assert "Welcome Alice" in str(await alice.recv())

    asyncio.run(converse())


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.parametrize("removes", [False, True], ids=["complete path", "path without prefix"])
def test_a_project_works_behind_the_documented_location(
    baked: Callable[..., Path],
    environment: dict[str, str],
    service: int,
    free_port: Callable[[], int],
    tmp_path: Path,
    removes: bool,
) -> None:
    location = code_block(baked(), "nginx", "docs/identity.md")
    assert PROXY_PASS in location
    target = f"proxy_pass http://127.0.0.1:{service}{'/' if removes else ''};"
    port = free_port()
    configuration = tmp_path / "nginx.conf"
    text = NGINX.format(folder=tmp_path, port=port, location=location.replace(PROXY_PASS, target))
    configuration.write_text(text, "utf-8")
    command = [required_program("nginx"), "-c", str(configuration), "-p", str(tmp_path)]
    with running(command, tmp_path, environment) as proxy:
        wait_until(lambda: listens(port), proxy, tmp_path / "nginx.log")
        check_service(port)


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.parametrize("root_path", ["", "/chat"])
def test_a_project_works_mounted_in_a_starlette_application(
    variables: dict[str, str],
    project_python: Path,
    free_port: Callable[[], int],
    tmp_path: Path,
    root_path: str,
) -> None:
    port = free_port()
    own = variables | {"APP_ROOT_PATH": root_path}
    own["PYTHONPATH"] += f":{packages_of(project_python)}"
    command = [sys.executable, "-c", MOUNTED, str(port)]
    with running(command, tmp_path, own) as process:
        log = tmp_path / f"{Path(sys.executable).name}.log"
        wait_until(lambda: listens(port), process, log)
        check_service(port)
    assert not re.search("Traceback|connections are refused", log.read_text("utf-8"))
