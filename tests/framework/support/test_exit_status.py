"""The exit status of a process after the death of a worker, on several servers and without one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import falcon_pachinko

from .servers import free_port

APPLICATION = """
import asyncio
import falcon.asgi
from falcon_pachinko import install
from falcon_pachinko.workers import WorkerController

app = install(falcon.asgi.App())
controller = WorkerController(stop_seconds=0.1)

async def fails():
    raise ZeroDivisionError("the worker's own fault")
"""
LIFESPAN = """
@app.lifespan
async def lifespan(app):
    await controller.start({workers})
    {then}
    yield
    await controller.stop()
    print("stopped in order", flush=True)
"""
DIES = APPLICATION + LIFESPAN.format(workers="fails", then="pass")
DIES_WHILE_STARTING = APPLICATION + LIFESPAN.format(
    workers="fails", then="await asyncio.wait(controller.tasks)"
)
TWO_DIE = APPLICATION + LIFESPAN.format(workers="fails, fails", then="pass")
STUBBORN = (
    APPLICATION
    + """
import signal

async def stubborn():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
"""
)
STUBBORN_AND_DIES = STUBBORN + LIFESPAN.format(workers="stubborn, fails", then="pass")
STUBBORN_AND_CTRL_C = STUBBORN + LIFESPAN.format(
    workers="stubborn", then="signal.raise_signal(signal.SIGINT)"
)
RUN = """
import uvicorn
uvicorn.run(app, port=0, loop="{loop}")
"""
# No server, and no handler of SIGTERM, as in the worker processes of hypercorn.
UNHANDLED = """
async def main():
    try:
        await controller.start(fails)
        await asyncio.Event().wait()
    finally:
        print("stopped in order", flush=True)

asyncio.run(main())
"""
# Another program that stops on SIGTERM.
HANDLED = """
import signal

async def main():
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await controller.start(fails)
    await stopped.wait()
    print("stopped in order", flush=True)

asyncio.run(main())
"""

ON_UVICORN = ["-m", "uvicorn", "--port", "0", "program:app"]
# Without --workers 0 hypercorn's command exits with status 0, regardless of its worker processes.
ON_HYPERCORN = ["-m", "hypercorn", "--workers", "0", "--bind", "127.0.0.1:0", "program:app"]


def run_program(folder: Path, text: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program until it exits."""
    (folder / "program.py").write_text(text)
    source = Path(falcon_pachinko.__file__).parent.parent
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
        timeout=20,
    )


PROGRAMS = {
    "uvicorn's command": (DIES, ON_UVICORN),
    "uvicorn.run": (DIES + RUN.format(loop="auto"), ["program.py"]),
    "uvicorn.run on asyncio's loop": (DIES + RUN.format(loop="asyncio"), ["program.py"]),
    "while it starts": (DIES_WHILE_STARTING, ON_UVICORN),
    "two at once": (TWO_DIE, ON_UVICORN),
    "beside one that cannot be stopped": (STUBBORN_AND_DIES, ON_UVICORN),
    "hypercorn's command": (DIES, ON_HYPERCORN),
    "nothing handles SIGTERM": (APPLICATION + UNHANDLED, ["program.py"]),
    "SIGTERM is handled": (APPLICATION + HANDLED, ["program.py"]),
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_a_death_stops_the_process_in_order_with_status_1(tmp_path: Path, case: str) -> None:
    program, command = PROGRAMS[case]
    finished = run_program(tmp_path, program, sys.executable, *command)
    assert finished.returncode == 1, finished.stderr
    assert finished.stdout == "stopped in order\n"
    deaths = 2 if case == "two at once" else 1
    assert finished.stderr.count("ZeroDivisionError: the worker's own fault") == deaths
    assert finished.stderr.count("Traceback") == deaths
    assert finished.stderr.count("did not end within 0.1 s") == ("stopped" in case)


def test_a_death_stops_granian_with_status_1(tmp_path: Path) -> None:
    command = ["-m", "granian", "--interface", "asgi", "--port", str(free_port()), "program:app"]
    finished = run_program(tmp_path, DIES, sys.executable, *command)
    assert finished.returncode == 1, finished.stderr
    assert "stopped in order\n" in finished.stdout
    assert "ZeroDivisionError: the worker's own fault" in finished.stderr


def test_a_worker_that_ignores_its_cancellation_does_not_keep_the_process_alive(
    tmp_path: Path,
) -> None:
    finished = run_program(tmp_path, STUBBORN_AND_CTRL_C, sys.executable, *ON_UVICORN)
    assert finished.returncode == 1, finished.stderr
    assert finished.stdout == "stopped in order\n"
    assert "worker stubborn did not end within 0.1 s" in finished.stderr


def test_a_death_stops_process_1_of_a_container_with_status_1(tmp_path: Path) -> None:
    """Process 1 does not get signals without a handler: pid_namespaces(7)."""
    container = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*container, "true"]).returncode:
        pytest.skip("this system does not allow a new PID namespace")
    program = "import os\nassert os.getpid() == 1\n" + DIES
    finished = run_program(tmp_path, program, *container, sys.executable, *ON_UVICORN)
    assert finished.returncode == 1, finished.stderr
    assert finished.stdout == "stopped in order\n"
    assert "Finished server process [1]" in finished.stderr
