"""Stands in for ``docker`` where there is no engine: what a Dockerfile commands, in folders in place of containers.

It knows the instructions that a project's Dockerfile has, and refuses others. A stage is a folder; each absolute
path in an instruction lies in it. Of the final stage it carries out no ``RUN``, which would change this machine.
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

HOME = Path(os.environ["ENGINE_HOME"])
START_SECONDS = 30.0


def main() -> None:
    """Carry out one command."""
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
    """Each instruction's name and the rest of it."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text("utf-8"), flags=re.MULTILINE)
    for line in text.replace("\\\n", "").splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            yield name, rest.strip()


def inside(stage: Path, command: str) -> str:
    """A command whose absolute paths, outside of addresses, lie in a stage."""
    return re.sub(r"(?<![\w/.:}])/(?=(opt|build|home|var)\b)", f"{stage}/", command)


def build(given: argparse.Namespace) -> None:
    """Carry out the stages; what ``run`` needs to know goes into ``image.json``."""
    ignored = (given.context / ".dockerignore").read_text("utf-8").split("\n")
    kept = {line[1:] for line in ignored if line.startswith("!")}
    never = [line for line in ignored if line.startswith("**/")]
    if "*" not in ignored:
        raise SystemExit("the context is everything: this stand-in wants it to be named")
    image = HOME / given.tag
    shutil.rmtree(image, ignore_errors=True)
    stages: dict[str, Path] = {}
    folder = image
    environment: dict[str, str] = {}
    workdir, command, health = "/", [""], [""]
    final = False
    for name, rest in instructions(given.context / "Dockerfile"):
        match name:
            case "ARG" | "EXPOSE" | "USER":
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
                print(f"left out: RUN {rest}")
            case "ENV":
                environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
            case "HEALTHCHECK":
                health = json.loads(rest.partition(" CMD ")[2])
            case "CMD":
                command = json.loads(rest)
            case _:
                raise SystemExit(f"{name} is not known")
    known = {"environment": environment, "workdir": workdir, "command": command, "health": health}
    (image / "image.json").write_text(json.dumps(known), "utf-8")


def relocated(image: Path) -> dict[str, str]:
    """The environment of a container."""
    final = image / "final"
    known = json.loads((image / "image.json").read_text("utf-8"))
    path = inside(final, known["environment"]["PATH"].replace("$PATH", os.environ["PATH"]))
    variables: dict[str, str] = known["environment"] | {"PATH": path, "HOME": str(final)}
    return variables


def run(given: argparse.Namespace) -> None:
    """Start what the image says, and wait until its own health check finds it well."""
    image = HOME / given.tag
    known = json.loads((image / "image.json").read_text("utf-8"))
    host, port, inner = given.publish.split(":")
    if inner != known["environment"]["APP_PORT"]:
        raise SystemExit(f"nothing serves on {inner} in there")
    environment = relocated(image) | {"APP_HOST": host, "APP_PORT": port}
    environment[given.env] = os.environ[given.env]
    cwd = image / "final" / known["workdir"][1:]
    with (HOME / f"{given.name}.log").open("wb") as log:
        process = subprocess.Popen(
            known["command"],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    (HOME / f"{given.name}.pid").write_text(str(process.pid), "ascii")
    deadline = time.monotonic() + START_SECONDS
    while subprocess.run(known["health"], cwd=cwd, env=environment, capture_output=True).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise SystemExit((HOME / f"{given.name}.log").read_text("utf-8"))


def stop(given: argparse.Namespace) -> None:
    """Ask it to end, and wait until it has."""
    process = int((HOME / f"{given.name}.pid").read_text("ascii"))
    os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + START_SECONDS
    while lives(process):
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
            raise SystemExit("it did not end")
        time.sleep(0.02)
    (HOME / f"{given.name}.pid").unlink()
    print((HOME / f"{given.name}.log").read_text("utf-8"))


def lives(process: int) -> bool:
    """Whether it runs; one that has ended may stay in the list of processes until somebody asks how."""
    try:
        state = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


if __name__ == "__main__":
    main()
