"""The path of a text frame from one client to the socket of another."""

import ast
import os

import pytest

from tools.profile_calls import PACKAGE, WARM_UP_FRAMES, measure

MAX_CALLS = 28
MAX_FILES = 11
MAX_FUNCTION_LINES = 65

pytestmark = pytest.mark.skipif(
    os.environ.get("TEST_IO_URING") == "1", reason="rooms are written through a ring, a longer path"
)


@pytest.mark.parametrize("frames_before", [0, WARM_UP_FRAMES])
def test_a_frame_reaches_another_socket_within_the_bound_of_calls_and_files(
    frames_before: int,
) -> None:
    calls, files = measure(frames_before)
    assert len(calls) <= MAX_CALLS, calls
    assert len(files) <= MAX_FILES, files


def test_the_recorded_path_leads_from_the_protocol_through_the_handler_to_the_outbox() -> None:
    calls, files = measure()
    assert files[0] == "uvicorn/input.py"
    assert "lifecycle.py" in files
    assert any(call.function.endswith("broadcast_to_room") for call in calls)
    assert calls[-1].file == "uvicorn/outbox.py"


def test_no_function_on_the_path_exceeds_the_bound_of_lines() -> None:
    _, files = measure()
    lengths = {
        f"{file}::{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for file in files
        for node in ast.walk(ast.parse((PACKAGE / file).read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}
