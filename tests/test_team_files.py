"""The files around the code: CI, Docker, compose, nginx and the documents."""

import inspect
import ipaddress
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
import yaml

from .support.documents import settings_of

YAMLLINT = """
extends: default
rules:
  comments: {min-spaces-from-content: 1}
  document-start: disable
  indentation: {indent-sequences: whatever}
  line-length: {max: 120}
  quoted-strings: disable
  truthy: {check-keys: false}
"""
HANDWRITTEN = (".github", ".pre-commit-config.yaml", "compose.yaml")
ODD = {
    "project_name": 'the "best" \\ chat 😀',
    "project_slug": "Odd.One_2",
    "package_name": "zzz_late",
}
SCHEMAS = {
    "compose.yaml": "vendor.compose-spec",
    ".github/dependabot.yml": "vendor.dependabot",
    ".github/workflows/ci.yml": "vendor.github-workflows",
    ".github/workflows/supply-chain.yml": "vendor.github-workflows",
    ".github/workflows/docs.yml": "vendor.github-workflows",
}


@pytest.fixture(params=["the template", "the defaults", "far from the defaults"])
def repository(request: pytest.FixtureRequest, root: Path, baked: Callable[..., Path]) -> Path:
    if request.param == "the template":
        return root
    answers = {} if request.param == "the defaults" else {"python_version": "3.13", **ODD}
    return baked(**answers)


@pytest.fixture
def project(baked: Callable[..., Path]) -> Path:
    return baked()


def tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def passes(folder: Path, *command: str) -> None:
    finished = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stdout


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def instructions(dockerfile: Path) -> list[str]:
    """Return the instructions of a Dockerfile, each on one line."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text("utf-8"), flags=re.MULTILINE)
    return [line for line in text.replace("\\\n", "").splitlines() if line]


def test_yaml_files_pass_yamllint(repository: Path) -> None:
    written = [name for name in HANDWRITTEN if (repository / name).exists()]
    passes(repository, tool("yamllint"), "--strict", "-d", YAMLLINT, *written)


def test_files_of_external_services_match_their_schemas(repository: Path) -> None:
    for name, schema in SCHEMAS.items():
        if (repository / name).exists():
            command = (tool("check-jsonschema"), "--builtin-schema", schema, name)
            passes(repository, *command)


def test_workflows_pass_the_security_linter(repository: Path) -> None:
    passes(repository, tool("zizmor"), "--offline", "--no-progress", ".github")


def test_actions_are_pinned_and_have_read_permission_only(repository: Path, root: Path) -> None:
    path = repository / ".github/workflows/ci.yml"
    uses = re.findall(r"uses: (.+)", path.read_text("utf-8"))
    assert len(uses) == 2
    for action in uses:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
    # Dependabot does not update the template's folder: a merge of its request changes both.
    assert set(uses) == set(
        re.findall(r"uses: (.+)", (root / ".github/workflows/ci.yml").read_text("utf-8"))
    )
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in workflow["jobs"].values())


def test_ci_checks_and_tests_on_every_supported_python(repository: Path) -> None:
    workflow = load(repository / ".github/workflows/ci.yml")
    [job] = workflow["jobs"].values()
    declared = re.search(
        r'requires-python = ">=3\.(\d+)"', (repository / "pyproject.toml").read_text("utf-8")
    )
    assert declared
    versions = job["strategy"]["matrix"]["python-version"]
    assert versions == [f"3.{minor}" for minor in range(int(declared[1]), 15)]
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands in ([".ci/run"], ["make check", "make test", "make browser"])


def test_each_job_of_a_workflow_has_a_bound(repository: Path, root: Path) -> None:
    workflows = list((repository / ".github/workflows").glob("*.yml"))
    assert len(workflows) >= 2
    most = 120 if repository == root else 45
    for path in workflows:
        for name, job in load(path)["jobs"].items():
            assert 0 < job.get("timeout-minutes", 0) <= most, f"{path.name}: {name}"


class Machine:
    """A machine of which ``.ci/run`` sees these programs only; they log their calls."""

    def __init__(self, root: Path, folder: Path, node: str, *logging: str) -> None:
        self.root, self.folder, self.log = root, folder, folder / "log"
        for name in ("cat", "dirname", "env", "sort"):
            found = shutil.which(name)
            assert found is not None
            (folder / name).symlink_to(found)
        self.add("node", f"echo {node}")
        self.add("sudo", 'shift && exec "$@"')
        self.add("git", "exit 1")
        for name in logging:
            self.add(name, f'echo "{name} $*" >> "{self.log}"')
        self.add("tee", f'cat > "{folder}/written" && echo "tee $*" >> "{self.log}"')

    def add(self, name: str, script: str) -> None:
        program = self.folder / name
        program.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        program.chmod(0o755)

    def run(self) -> tuple[int, str, list[str]]:
        """Run the script; return its status, its errors, and the calls of programs."""
        bash = shutil.which("bash")
        assert bash is not None
        finished = subprocess.run(
            [bash, str(self.root / ".ci/run")],
            env={"PATH": str(self.folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        calls = self.log.read_text("utf-8").splitlines() if self.log.exists() else []
        return finished.returncode, finished.stderr, calls


@pytest.mark.parametrize("node", ["v18.19.1", "v20.9.0"])
def test_ci_refuses_an_old_node_at_its_start(root: Path, tmp_path: Path, node: str) -> None:
    status, errors, calls = Machine(root, tmp_path, node, "make").run()
    assert (status, calls) == (1, [])
    assert f"ERROR: Node v20.10 or newer is needed, and this is {node}: " in errors


@pytest.mark.parametrize("node", ["v20.10.0", "v22.3.0"])
def test_ci_checks_and_tests_with_a_newer_node(root: Path, tmp_path: Path, node: str) -> None:
    status, _, calls = Machine(root, tmp_path, node, "make").run()
    assert (status, calls) == (0, ["make check", "make test"])


def test_ci_starts_no_service_of_a_package(root: Path, tmp_path: Path) -> None:
    programs = ("make", "apt-get", "chmod", "rm")
    status, _, calls = Machine(root, tmp_path, "v22.3.0", *programs).run()
    installed = [number for number, call in enumerate(calls) if call.startswith("apt-get install")]
    assert (status, len(installed) > 0) == (0, True)
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        assert not [call for call in calls if policy.name in call], "that of the machine stays"
        return
    for number in installed:
        assert calls[number - 2 : number] == [f"tee {policy}", f"chmod 755 {policy}"]
        assert calls[number + 1] == f"rm -f {policy}"
    assert (tmp_path / "written").read_text("utf-8") == "#!/bin/sh\nexit 101\n"


def test_dependabot_covers_every_ecosystem(repository: Path) -> None:
    updates = load(repository / ".github/dependabot.yml")["updates"]
    expected = {"pip", "github-actions"}
    if (repository / "Dockerfile").exists():
        expected |= {"docker", "docker-compose"}
    assert {update["package-ecosystem"] for update in updates} == expected


def test_dependabot_leaves_major_releases_of_postgresql_to_people(project: Path) -> None:
    updates = load(project / ".github/dependabot.yml")["updates"]
    ignored = {each["package-ecosystem"]: each["ignore"] for each in updates if "ignore" in each}
    majors = ["version-update:semver-major"]
    assert ignored == {"docker-compose": [{"dependency-name": "postgres", "update-types": majors}]}
    image = load(project / "compose.yaml")["services"]["postgres"]["image"]
    assert image.startswith("postgres:")


@pytest.mark.parametrize("answers", [{}, {"package_name": "zzz_late", "python_version": "3.13"}])
def test_dockerfile_passes_hadolint(baked: Callable[..., Path], answers: dict[str, str]) -> None:
    project = baked(**answers)
    passes(project, tool("hadolint"), "--no-color", "Dockerfile")
    lines = instructions(project / "Dockerfile")
    # Dependabot updates literal images in FROM, not variables.
    stages = [line for line in lines if line.startswith("FROM ")]
    version = answers.get("python_version", "3.11")
    assert stages == [f"FROM python:{version}-slim AS base", "FROM base AS build", "FROM base"]
    assert lines[-1] == f'CMD ["python", "-m", "{answers.get("package_name", "chat_service")}"]'


def test_image_is_minimal_and_runs_without_root(project: Path) -> None:
    lines = instructions(project / "Dockerfile")
    *_, last = [number for number, line in enumerate(lines) if line.startswith("FROM")]
    final = lines[last:]
    [uninstall] = [line for line in final if line.startswith("RUN")]
    assert "pip uninstall" in uninstall
    assert "rm -rf /usr/local/lib/python3.*/ensurepip" in uninstall
    assert "useradd --system --uid 10001" in uninstall
    copied = [line for line in final if line.startswith(("COPY", "ADD"))]
    assert copied == ["COPY --from=build /opt/venv /opt/venv"]
    assert final.index("USER 10001") < final.index(next(x for x in final if x.startswith("CMD")))
    assert "python -m venv --without-pip /opt/venv" in "\n".join(lines[:last])
    assert [line for line in final if line.startswith("HEALTHCHECK")]


def test_build_context_contains_only_the_copied_files(project: Path) -> None:
    ignored, *kept = [
        line
        for line in (project / ".dockerignore").read_text("utf-8").splitlines()
        if line[:1] != "#"
    ]
    assert ignored == "*"
    names = {line.removeprefix("!") for line in kept if line.startswith("!")}
    copied = [
        line.split()[1:-1]
        for line in instructions(project / "Dockerfile")
        if line.startswith("COPY ") and "--from" not in line
    ]
    assert {source.removeprefix("./") for sources in copied for source in sources} == names
    assert all((project / name).exists() for name in names)


def test_compose_starts_one_process_by_default(project: Path) -> None:
    services = load(project / "compose.yaml")["services"]
    profiles = {name: service.get("profiles", []) for name, service in services.items()}
    nodes = ["node1", "node2", "node3"]
    assert profiles == {"app": [], "valkey": ["valkey", "cluster"]} | {
        name: ["cluster"] for name in (*nodes, "nginx", "postgres")
    }
    for name in ("APP_BACKEND_URL", "APP_DATABASE_URL"):
        assert services["app"]["environment"][name] == f"${{{name}:-}}"
    for name, service in services.items():
        assert re.fullmatch(r"\d+[mg]", service["mem_limit"]), name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        ports = service.get("ports", [])
        assert bool(ports) == (name in {"app", "nginx"}), "only app and nginx publish a port"
        assert all(port.startswith("127.0.0.1:") for port in ports)
        has_clients = name not in {"valkey", "postgres"}
        assert (service.get("ulimits") == {"nofile": 65536}) == has_clients, name
    # Different ports, so that both can run at once.
    assert len({port for name in services for port in services[name].get("ports", [])}) == 2


def test_compose_runs_valkey_without_eviction(project: Path) -> None:
    services = load(project / "compose.yaml")["services"]
    assert re.fullmatch(r"valkey/valkey:\d+-alpine", services["valkey"]["image"])
    # Without -e an error reply counts as success.
    assert services["valkey"]["healthcheck"]["test"] == ["CMD", "valkey-cli", "-e", "ping"]
    command = services["valkey"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    memory = int(command[command.index("--maxmemory") + 1].removesuffix("mb"))
    assert memory < int(services["valkey"]["mem_limit"].removesuffix("m"))


def test_compose_keeps_messages_in_volumes(project: Path) -> None:
    compose = load(project / "compose.yaml")
    services = compose["services"]
    assert services["app"]["volumes"] == ["state:/home/app/var"]
    postgres = services["postgres"]
    assert re.fullmatch(r"postgres:\d+-alpine", postgres["image"])
    assert postgres["volumes"] == ["database:/var/lib/postgresql/data"]
    assert compose["volumes"].keys() == {"state", "database"}
    url = urlsplit(services["node1"]["environment"]["APP_DATABASE_URL"])
    given = postgres["environment"]
    assert (url.scheme, url.hostname) == ("postgresql", "postgres")
    assert (url.username, url.path) == (given["POSTGRES_USER"], f"/{given['POSTGRES_USER']}")
    assert f":{given['POSTGRES_PASSWORD']}@" in url.netloc


def test_nginx_balances_exactly_the_nodes_of_compose(project: Path) -> None:
    compose = load(project / "compose.yaml")
    services = compose["services"]
    nodes = [service for name, service in services.items() if name.startswith("node")]
    addresses = [node["networks"]["cluster"]["ipv4_address"] for node in nodes]
    own = services["nginx"]["networks"]["cluster"]["ipv4_address"]
    [pool] = compose["networks"]["cluster"]["ipam"]["config"]
    hosts = [str(host) for host in ipaddress.ip_network(pool["subnet"]).hosts()]
    # The first host address is the gateway's.
    assert {own, *addresses} < set(hosts[1:])
    assert len({own, *addresses}) == len(nodes) + 1

    configuration = (project / "deploy/nginx.conf").read_text("utf-8")
    app_port = services["app"]["environment"]["APP_PORT"]
    named = re.findall(r"^ +server ([\d.]+):(\d+) ", configuration, re.MULTILINE)
    assert named == [(address, app_port) for address in addresses]
    port = int(number(r"listen (\d+);", configuration))
    assert services["nginx"]["ports"] == [f"127.0.0.1:${{CLUSTER_PORT:-8080}}:{port}"]
    assert "./deploy/nginx.conf:/etc/nginx/nginx.conf:ro,z" in services["nginx"]["volumes"]
    for node in nodes:
        assert node["environment"] == services["app"]["environment"] | {
            "APP_BACKEND_URL": "redis://valkey:6379",
            "APP_DATABASE_URL": "postgresql://chat:${POSTGRES_PASSWORD:-chat}@postgres/chat",
            "APP_TRUSTED_PROXIES": own,
        }
        assert node["stop_grace_period"] == services["app"]["stop_grace_period"]
    for network in ("default", "cluster"):
        assert all(network in node["networks"] for node in nodes), (
            "Valkey is on the default network"
        )


def test_compose_and_the_documents_allow_for_the_longest_stop(
    project: Path, project_python: Path, run: Callable[..., str]
) -> None:
    """The settings have the formula."""
    program = "from chat_service.settings import Settings; print(Settings().stop_seconds)"
    variables = {"PYTHONPATH": project / "src", "APP_SECRET": "x" * 48}
    variables["APP_ENVIRONMENT"] = "production"
    longest = int(run(project, project_python, "-c", program, **variables))
    assert longest == 75
    for service in load(project / "compose.yaml")["services"].values():
        assert service.get("stop_grace_period", f"{longest}s") == f"{longest}s"
    operations = (project / "docs/operations.md").read_text("utf-8")
    for value in (
        f"`stop_grace_period: {longest}s`",
        f"`terminationGracePeriodSeconds: {longest}`",
        f"`TimeoutStopSec={longest}`",
        f"--stop-timeout {longest} ",
        f"within {longest} s",
    ):
        assert value in operations


def test_git_ignores_what_the_commands_of_the_readme_create(
    project: Path, run: Callable[..., str]
) -> None:
    text = (project / "README.md").read_text("utf-8")
    [venv] = re.findall(r"^python3 -m venv (\S+) ", text, re.MULTILINE)
    (project / venv).mkdir(parents=True)
    run(project, "git", "init", "--quiet")
    assert run(project, "git", "check-ignore", venv).strip() == venv


def test_the_documents_name_the_docker_that_the_files_need(project: Path, root: Path) -> None:
    """The mounts of BuildKit, the builder since Engine 23.0, and ``required``, which came with Compose 2.24."""
    assert "RUN --mount=type=cache" in (project / "Dockerfile").read_text("utf-8")
    compose = load(project / "compose.yaml")
    assert compose["x-app"]["env_file"] == [{"path": ".env", "required": False}]
    for page, has_compose in (
        (project / "README.md", True),
        (project / "docs/operations.md", True),
        (root / "docs/tutorial.md", False),
    ):
        text = " ".join(page.read_text("utf-8").split())
        assert "Docker Engine 23.0" in text, page.name
        assert ("Compose 2.24 or newer" in text) == has_compose, page.name


def test_links_of_the_documents_resolve(repository: Path) -> None:
    for document in (*repository.glob("*.md"), *repository.glob("docs/**/*.md")):
        text = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", text):
            linked = (document.parent / target) if target else document
            assert linked.exists(), f"{document.name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.+)", linked.read_text("utf-8"), re.MULTILINE)
                anchors = {
                    re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-")
                    for heading in headings
                }
                assert anchor in anchors, f"{document.name}: {target}#{anchor}"


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, pattern
    return float(found[1].replace(",", ""))


def test_documented_pings_match_the_server(project: Path) -> None:
    text = (project / "docs/operations.md").read_text("utf-8")
    configuration = (project / "deploy/nginx.conf").read_text("utf-8")
    options = inspect.signature(uvicorn.run).parameters
    interval, answer = (options[f"ws_ping_{each}"].default for each in ("interval", "timeout"))
    assert "ws_ping" not in (project / "src/chat_service/__main__.py").read_text("utf-8")
    assert number(r"sends a ping\s+every (\d+) s", text) == interval
    assert number(r"no answer comes within (\d+) s", text) == answer
    assert number(r"idle timeout has to be longer\s+than (\d+) s", text) == interval + answer
    for written in (text, configuration):
        assert number(r"proxy_read_timeout (\d+)s;", written) > interval + answer
        assert number(r"proxy_send_timeout (\d+)s;", written) > interval + answer


def test_documented_sizes_match_the_measurements(project: Path, root: Path) -> None:
    """Figures vary between runs; the documented ones may differ by less than half."""
    text = (project / "docs/operations.md").read_text("utf-8")
    measured = json.loads((root / "bench/results/latest.json").read_text("utf-8"))["workloads"]
    cores = number(r"one core at (\d+) % does", text) / 100
    for row, workload, figure in (
        ("a message of 110 bytes to one of 100 members of a room", "fan-out-100", "cpu_us"),
        ("the same with 8 messages at once in each room", "in-flight", "cpu_us"),
        ("a message from a client that is answered", "echo", "cpu_us"),
        ("an idle connection", "memory", "kib"),
    ):
        documented = number(rf"{row} \| ([\d.]+) ", text)
        median = measured[workload]["servers"]["push"]["medians"][figure]
        assert documented == pytest.approx(median, rel=0.5), row
        total = 1024 * 1024 if figure == "kib" else cores * 1_000_000
        follows = number(rf"{row} \|[^|]+\| ([\d,]+) ", text)
        assert follows == pytest.approx(total / documented, rel=0.1), row


def test_documents_name_existing_files_settings_and_targets(repository: Path) -> None:
    """Check the files in the map, the settings and the make targets."""
    documents = [*repository.glob("*.md"), *repository.glob("docs/**/*.md")]
    text = "\n".join(document.read_text("utf-8") for document in documents)
    # The template's documents name its own commands and those of a project.
    makefiles = [repository / "Makefile", *repository.glob("*cookiecutter.project_slug*/Makefile")]
    targets = set()
    for makefile in makefiles:
        targets |= set(re.findall(r"^([a-z]+):.*## ", makefile.read_text("utf-8"), re.MULTILINE))
    commands = re.findall(r"(?:`|^)make ([a-z]+(?: [a-z]+)*)(?:`|\n|  )", text, re.MULTILINE)
    assert commands
    for command in commands:
        assert set(command.split()) <= targets, command
    if not (repository / ".env.example").exists():
        return
    settings = settings_of(repository / "docs/settings.md").keys()
    assert set(re.findall(r"APP_[A-Z_]*[A-Z]", text)) <= settings
    [package] = [path.parent for path in repository.glob("src/*/settings.py")]
    architecture = (repository / "docs/architecture.md").read_text("utf-8")
    table = architecture.partition("| what | where |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`([\w./-]+[.]\w+)`", table))
    assert {"app.py", "messages.py", "settings.py"} <= named
    for name in named:
        assert (package / name).is_file() or (repository / name).is_file(), name
