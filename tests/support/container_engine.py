"""Emulates ``docker build``, ``run`` and ``stop`` without a container engine: a folder per container.

It supports the instructions of a project's Dockerfile, and rejects others. A stage is a folder, and
absolute paths in its instructions are relative to that folder. ``RUN`` instructions of the final
stage are skipped, because they would change this machine.
"""

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

HOME = Path(os.environ["CONTAINER_ENGINE_HOME"])
START_SECONDS = 30.0


def main() -> None:
    """Run one command of the ``docker`` command line."""
    parser = argparse.ArgumentParser("docker")
    commands = parser.add_subparsers(required=True)
    building = commands.add_parser("build")
    building.add_argument("--tag", required=True)
    building.add_argument("context", type=Path)
    building.set_defaults(do=build)
    running = commands.add_parser("run")
    for flag in ("--detach", "--rm"):
        running.add_argument(flag, action="store_true", required=True)
    for option in ("--name", "--publish", "--env", "--stop-timeout"):
        running.add_argument(option, required=True)
    running.add_argument("tag")
    running.set_defaults(do=run)
    stopping = commands.add_parser("stop")
    stopping.add_argument("name")
    stopping.set_defaults(do=stop)
    given = parser.parse_args()
    given.do(given)


def instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """Yield each instruction's name and arguments."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text("utf-8"), flags=re.MULTILINE)
    for line in text.replace("\\\n", "").splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            yield name, rest.strip()


def inside(stage: Path, command: str) -> str:
    """Return a command with its absolute paths moved into a stage; URLs stay."""
    return re.sub(r"(?<![\w/.:}])/(?=(opt|build|home|var)\b)", f"{stage}/", command)


def build(given: argparse.Namespace) -> None:
    """Build all stages, and write the container's configuration to ``image.json``."""
    ignored = (given.context / ".dockerignore").read_text("utf-8").split("\n")
    kept = {line[1:] for line in ignored if line.startswith("!")}
    never = [line for line in ignored if line.startswith("**/")]
    if "*" not in ignored:
        raise SystemExit(".dockerignore has to exclude all files by default")
    image = HOME / given.tag
    shutil.rmtree(image, ignore_errors=True)
    stages: dict[str, Path] = {}
    folder = image
    environment: dict[str, str] = {}
    workdir, command, health = "/", [""], [""]
    final = False
    for name, rest in instructions(given.context / "Dockerfile"):
        match name:
            case "ARG" | "EXPOSE" | "USER" | "VOLUME":
                pass
            case "FROM":
                label = rest.partition(" AS ")[2]
                final = not label
                folder = image / (label or "final")
                folder.mkdir(parents=True)
                stages[label] = folder
            case "WORKDIR":
                workdir = rest
                (folder / workdir[1:]).mkdir(parents=True, exist_ok=True)
            case "COPY":
                *sources, target = rest.split()
                if sources[0].startswith("--from="):
                    source = stages[sources.pop(0).removeprefix("--from=")]
                    shutil.copytree(source / sources[0][1:], folder / target[1:], symlinks=True)
                    continue
                for each in sources:
                    if each.removeprefix("./") not in kept:
                        raise SystemExit(f"{each} is not in the context")
                    path, copy = given.context / each, folder / workdir[1:] / target
                    if path.is_dir():
                        names = [pattern.removeprefix("**/") for pattern in never]
                        shutil.copytree(path, copy, ignore=shutil.ignore_patterns(*names))
                    else:
                        shutil.copy(path, copy)
            case "RUN" if not final:
                shell = inside(folder, re.sub(r"--mount=\S+ ", "", rest))
                subprocess.run(shell, shell=True, cwd=folder / workdir[1:], check=True)
            case "RUN":
                print(f"skipped: RUN {rest}")
            case "ENV":
                environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
            case "HEALTHCHECK":
                health = json.loads(rest.partition(" CMD ")[2])
            case "CMD":
                command = json.loads(rest)
            case _:
                raise SystemExit(f"unsupported instruction: {name}")
    configuration = {
        "environment": environment,
        "workdir": workdir,
        "command": command,
        "health": health,
    }
    (image / "image.json").write_text(json.dumps(configuration), "utf-8")


def container_environment(image: Path) -> dict[str, str]:
    """Return the environment of a container."""
    final = image / "final"
    configuration = json.loads((image / "image.json").read_text("utf-8"))
    path = inside(final, configuration["environment"]["PATH"].replace("$PATH", os.environ["PATH"]))
    variables: dict[str, str] = configuration["environment"] | {"PATH": path, "HOME": str(final)}
    return variables


def run(given: argparse.Namespace) -> None:
    """Start the image's command, and wait until its health check succeeds."""
    image = HOME / given.tag
    configuration = json.loads((image / "image.json").read_text("utf-8"))
    host, port, inner = given.publish.split(":")
    if inner != configuration["environment"]["APP_PORT"]:
        raise SystemExit(f"the container does not listen on port {inner}")
    environment = container_environment(image) | {"APP_HOST": host, "APP_PORT": port}
    environment[given.env] = os.environ[given.env]
    cwd = image / "final" / configuration["workdir"][1:]
    with (HOME / f"{given.name}.log").open("wb") as log:
        process = subprocess.Popen(
            configuration["command"],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    (HOME / f"{given.name}.pid").write_text(str(process.pid), "ascii")
    deadline = time.monotonic() + START_SECONDS
    while not succeeds(configuration["health"], cwd, environment):
        if process.poll() is not None or time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise SystemExit((HOME / f"{given.name}.log").read_text("utf-8"))


def succeeds(command: list[str], folder: Path, environment: dict[str, str]) -> bool:
    """Return whether a command exits with status 0 within the time for a start."""
    try:
        finished = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, timeout=START_SECONDS
        )
    except subprocess.TimeoutExpired:
        return False
    return finished.returncode == 0


def stop(given: argparse.Namespace) -> None:
    """Send SIGTERM to a container's process, and wait until it has ended."""
    process = int((HOME / f"{given.name}.pid").read_text("ascii"))
    os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + START_SECONDS
    while is_running(process):
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
            raise SystemExit("the container did not stop")
        time.sleep(0.02)
    (HOME / f"{given.name}.pid").unlink()
    print((HOME / f"{given.name}.log").read_text("utf-8"))


def is_running(process: int) -> bool:
    """Return whether a process runs; a zombie, which waits to be reaped, does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


if __name__ == "__main__":
    main()
