"""The bounds of the documented reverse proxies, with the real programs before a stub of the service."""

import contextlib
import functools
import http.client
import http.server
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from falcon_pachinko.limits import DEFAULT_SERVER_LIMITS

from .support.documents import code_block
from .support.load_balancer import running_nginx
from .support.processes import WAIT_SECONDS, required_program
from .support.reverse_proxy import (
    HOST,
    Certificate,
    Ports,
    documented_caddy,
    documented_nginx,
    make_certificate,
)

BOUND_SECONDS = 300
INTERNAL = ("/ready", "/ready/", "/metrics", "/metrics/x", "/%72eady", "/./ready", "/x/../ready")
PAGE_REQUESTS = 25
CLUSTER_HOSTS = ("127.0.0.1", "localhost", "chat.example.com")

RunProxy = Callable[..., contextlib.AbstractContextManager["Proxy"]]


class Service(http.server.ThreadingHTTPServer):
    """Stands for the service: records paths, and holds the requests for ``/hold`` until the end."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.paths: list[str] = []
        self.release = threading.Event()
        self.held = threading.Semaphore(0)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        if self.path == "/hold":
            self.server.held.release()
            self.server.release.wait(WAIT_SECONDS)
        self.send_response(200)
        self.send_header("Strict-Transport-Security", "max-age=1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing."""


class Proxy:
    """A running proxy and the service behind it."""

    def __init__(self, ports: Ports, certificate: Certificate, service: Service) -> None:
        self.ports = ports
        self.certificate = certificate
        self.service = service

    def secure(self, name: str = HOST) -> ssl.SSLSocket:
        """Open a TLS connection for a name."""
        context = self.certificate.context()
        context.check_hostname = name == HOST
        plain = socket.create_connection(("127.0.0.1", self.ports.secure), WAIT_SECONDS)
        try:
            return context.wrap_socket(plain, server_hostname=name)
        except BaseException:
            plain.close()
            raise

    def plain(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.ports.plain), WAIT_SECONDS)

    @contextlib.contextmanager
    def client(self, opened: socket.socket) -> Iterator[http.client.HTTPConnection]:
        """Send requests on one connection."""
        connection = http.client.HTTPConnection(HOST)
        connection.sock = opened
        try:
            yield connection
        finally:
            connection.close()

    def get(self, path: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
        """Send one request over TLS; the body is read."""
        with self.client(self.secure()) as client:
            client.request("GET", path, headers=headers or {})
            response = client.getresponse()
            response.read()
            return response


def received(opened: socket.socket, *sent: bytes) -> bytes:
    """Send bytes, and return everything until the other end closes."""
    with opened:
        for part in sent:
            opened.sendall(part)
        answer = b""
        with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
            while part := opened.recv(65536):
                answer += part
        return answer


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    thread = threading.Thread(target=service.serve_forever, daemon=True)
    thread.start()
    yield service
    service.release.set()
    service.shutdown()
    service.server_close()


@pytest.fixture(params=["nginx", "caddy"])
def either(request: pytest.FixtureRequest, run_nginx: RunProxy, run_caddy: RunProxy) -> RunProxy:
    return run_nginx if request.param == "nginx" else run_caddy


def make_runner(
    run: Any, program: str, name: str, options: dict[str, Any], service: Service
) -> RunProxy:
    @contextlib.contextmanager
    def runner(*changes: tuple[str, str]) -> Iterator[Proxy]:
        upstream = service.server_address[1]
        with run(*changes, **{program: required_program(name)}, upstream=upstream, **options):
            yield Proxy(options["ports"], options["certificate"], service)

    return runner


@pytest.fixture
def options(
    baked: Callable[..., Path],
    free_port: Callable[[], int],
    environment: dict[str, str],
    tmp_path: Path,
) -> dict[str, Any]:
    return {
        "project": baked(),
        "folder": tmp_path,
        "certificate": make_certificate(tmp_path),
        "ports": Ports(free_port(), free_port()),
        "environment": environment,
    }


@pytest.fixture
def run_nginx(options: dict[str, Any], service: Service) -> RunProxy:
    return make_runner(documented_nginx, "nginx", "nginx", options, service)


@pytest.fixture
def run_caddy(options: dict[str, Any], service: Service) -> RunProxy:
    return make_runner(documented_caddy, "caddy", "caddy", options, service)


@pytest.mark.timeout(BOUND_SECONDS)
def test_requests_for_other_names_get_no_response(either: RunProxy) -> None:
    with either() as proxy:
        for host in ("evil.example", "127.0.0.1", f"evil.{HOST}"):
            head = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
            assert received(proxy.plain(), head) == b""
            assert received(proxy.secure(), head) == b""
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            proxy.secure("evil.example")
        assert proxy.get("/").status == 200
        assert proxy.service.paths == ["/"]


@pytest.mark.timeout(BOUND_SECONDS)
def test_the_redirect_names_the_service_only(either: RunProxy) -> None:
    with either() as proxy, proxy.client(proxy.plain()) as client:
        client.request("GET", "/docs?x=1", headers={"Host": f"{HOST}:8080"})
        response = client.getresponse()
        assert response.status == 301
        assert response.getheader("Location") == f"https://{HOST}/docs?x=1"
        assert response.getheader("Strict-Transport-Security") is None  # RFC 6797 section 7.2


@pytest.mark.timeout(BOUND_SECONDS)
def test_what_is_for_monitoring_is_not_public(either: RunProxy) -> None:
    with either() as proxy:
        for path in INTERNAL:
            assert proxy.get(path).status == 404, path
        assert proxy.service.paths == []
        assert proxy.get("/readyx").status == 200


@pytest.mark.timeout(BOUND_SECONDS)
def test_the_log_of_nginx_has_no_codes(run_nginx: RunProxy, tmp_path: Path) -> None:
    code = f"1999999999.{'c0de' * 5}zz"
    with run_nginx() as proxy:
        for path in (
            f"/ws/chat/private-team~{code}?ticket=c0de",
            f"/ws/chat/private-team%7E{code}",
            "/login/callback?code=c0de&state=c0de",
        ):
            proxy.get(path, {"Referer": f"https://{HOST}{path}"})
    log = (tmp_path / "access.log").read_text("utf-8")
    assert "c0de" not in log
    assert log.count('"GET /ws/chat/private-team~ HTTP/1.1" 200 ') == 2
    assert '"GET /login/callback HTTP/1.1" 200 ' in log


@pytest.mark.timeout(BOUND_SECONDS)
def test_every_response_over_tls_has_one_hsts_header(either: RunProxy) -> None:
    with either() as proxy:
        for path, status in (("/", 200), ("/ready", 404)):
            response = proxy.get(path)
            assert response.status == status
            headers = response.headers.get_all("Strict-Transport-Security")
            assert headers == ["max-age=31536000"]


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_accepted(either: RunProxy, version: ssl.TLSVersion) -> None:
    with either() as proxy:
        context = proxy.certificate.context()
        context.minimum_version = context.maximum_version = version
        opened = socket.create_connection(("127.0.0.1", proxy.ports.secure), WAIT_SECONDS)
        with context.wrap_socket(opened, server_hostname=HOST) as secure:
            assert secure.version() == version.name.replace("_", ".", 1).replace("_", ".")


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_a_slow_head_is_ended(name: str, run_nginx: RunProxy, run_caddy: RunProxy) -> None:
    """The bound is scaled down from 10 s to 1 s."""
    if name == "nginx":
        running = run_nginx(("client_header_timeout 10s", "client_header_timeout 1s"))
    else:
        running = run_caddy(("read_header 10s", "read_header 1s"))
    with running as proxy:
        started = time.monotonic()
        answer = received(proxy.secure(), f"GET / HTTP/1.1\r\nHost: {HOST}\r\nX".encode())
        assert b" 200 " not in answer
        assert time.monotonic() - started < 8
        assert proxy.service.paths == []


@pytest.mark.timeout(BOUND_SECONDS)
def test_long_header_lines_reach_the_service_and_longer_ones_are_refused(
    either: RunProxy,
) -> None:
    with either() as proxy:
        assert proxy.get("/", {"Cookie": "x" * 16 * 1024}).status == 200
        assert proxy.get("/", {"X-Long": "x" * 19 * 1024}).status == 200
        proxy.service.paths.clear()
        assert proxy.get("/", {"X-Long": "x" * 60 * 1024}).status in (400, 431)
        assert proxy.service.paths == []


@pytest.mark.timeout(BOUND_SECONDS)
def test_nginx_bounds_the_requests_of_an_address(run_nginx: RunProxy) -> None:
    with run_nginx(("rate=100r/s", "rate=1r/m"), ("burst=1000", f"burst={PAGE_REQUESTS}")) as proxy:
        with proxy.client(proxy.secure()) as client:
            statuses = []
            for _ in range(PAGE_REQUESTS + 5):
                client.request("GET", "/")
                response = client.getresponse()
                response.read()
                statuses.append(response.status)
        assert statuses == [200] * (PAGE_REQUESTS + 1) + [429] * 4


@pytest.mark.timeout(BOUND_SECONDS)
def test_nginx_bounds_the_connections_of_an_address(run_nginx: RunProxy) -> None:
    bound = ("limit_conn connections 2000", "limit_conn connections 2")
    with run_nginx(bound) as proxy, contextlib.ExitStack() as clients:
        for _ in range(2):
            client = clients.enter_context(proxy.client(proxy.secure()))
            client.request("GET", "/hold")
            assert proxy.service.held.acquire(timeout=WAIT_SECONDS)
        assert proxy.get("/").status == 429
        proxy.service.release.set()


@pytest.mark.timeout(BOUND_SECONDS)
def test_a_page_load_of_an_office_is_within_the_bounds(run_nginx: RunProxy) -> None:
    with run_nginx() as proxy, proxy.client(proxy.secure()) as client:
        for _ in range(10 * PAGE_REQUESTS):
            client.request("GET", "/")
            response = client.getresponse()
            response.read()
            assert response.status == 200


def test_the_bounds_of_nginx_are_those_of_the_service(baked: Callable[..., Path]) -> None:
    project = baked()
    limits = DEFAULT_SERVER_LIMITS
    cluster = (project / "deploy/nginx.conf").read_text("utf-8")
    nodes = len(re.findall(r"^ +server [\d.]+:\d+ ", cluster, re.MULTILINE))
    for text, times in ((code_block(project, "nginx", "docs/operations.md"), 1), (cluster, nodes)):
        assert f"rate={limits.handshakes_per_second * times:.0f}r/s;" in text
        assert f"burst={limits.handshake_burst * times} nodelay;" in text
        assert f"limit_conn connections {limits.connections_per_address * times};" in text
        assert f"client_header_timeout {limits.head_seconds:.0f}s;" in text
        assert f"keepalive_timeout {limits.keep_alive_seconds:.0f}s;" in text
        assert f"client_max_body_size {limits.body_bytes // 1024}k;" in text
    caddy = code_block(project, "caddyfile", "docs/operations.md")
    assert f"read_header {limits.head_seconds:.0f}s" in caddy
    assert f"idle {limits.keep_alive_seconds:.0f}s" in caddy
    assert f"max_size {limits.body_bytes // 1024}KiB" in caddy


@pytest.mark.timeout(BOUND_SECONDS)
def test_the_proxy_of_the_cluster_has_the_same_bounds(
    nginx: str, service: Service, options: dict[str, Any]
) -> None:
    upstream = service.server_address[1]
    port = options["ports"].plain
    connect = functools.partial(socket.create_connection, ("127.0.0.1", port), WAIT_SECONDS)
    with running_nginx(
        [upstream] * 3,
        ("client_header_timeout 10s", "client_header_timeout 1s"),
        ("rate=300r/s", "rate=1r/m"),
        ("burst=3000", f"burst={PAGE_REQUESTS}"),
        nginx=nginx,
        project=options["project"],
        folder=options["folder"],
        port=port,
        environment=options["environment"],
    ):
        assert received(connect(), b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n") == b""
        assert b" 200 " not in received(connect(), b"GET / HTTP/1.1\r\nHost: localhost\r\nX")
        for path in ("/ready", "/metrics"):
            head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            assert received(connect(), head.encode()).split()[1] == b"404"
        assert service.paths == []
        statuses = []
        for host in (CLUSTER_HOSTS * PAGE_REQUESTS)[: PAGE_REQUESTS + 5]:
            head = f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
            statuses.append(int(received(connect(), head.encode()).split()[1]))
        assert statuses == [200] * (PAGE_REQUESTS + 1) + [429] * 4
