"""The states of a client are those of realtime.js."""

import re
from typing import Any

from falcon_pachinko.client.status import State, Status

from .simulation import VECTORS
from .test_options import BROWSER_CLIENT


def test_the_states_are_those_of_the_browser_client() -> None:
    found = re.search(r"@typedef \{(.+)\} ConnectionState", BROWSER_CLIENT.read_text("utf-8"))
    assert found is not None
    assert {state.value for state in State} == set(re.findall(r'"(\w+)"', found[1]))


def test_the_vectors_reach_every_state() -> None:
    steps: list[Any] = [step for vector in VECTORS["vectors"] for step in vector["steps"]]
    reached = {step[1]["state"] for step in steps if step[0] == "expect" and "state" in step[1]}
    assert reached == {state.value for state in State}


def test_a_status_has_no_code_while_it_is_not_lost() -> None:
    assert Status(State.OPEN) == Status(State.OPEN, None, None, "")
