"""Close codes: those that an endpoint may send, the reason, the codes of exceptions."""

import falcon
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko.close_codes import (
    MAX_REASON_BYTES,
    check_close_code,
    close_code_of,
    close_event,
    end_code,
    is_disconnect,
    shorten_close_reason,
)


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1014, 3000, 3999, 4000, 4999])
def test_an_endpoint_may_send_a_code(code: int) -> None:
    assert check_close_code(code) == code


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, -1])
def test_an_endpoint_may_not_send_a_code(code: int) -> None:
    with pytest.raises(ValueError, match=f"close code {code} cannot be sent"):
        check_close_code(code)


@given(st.text())
def test_a_reason_fits_into_a_close_frame_and_ends_at_a_character(reason: str) -> None:
    short = shorten_close_reason(reason)
    sent = reason.encode("utf-8", "replace")
    assert len(short.encode()) <= MAX_REASON_BYTES
    assert sent.startswith(short.encode())
    assert short.encode() == sent or len(short.encode()) > MAX_REASON_BYTES - 4


def test_a_close_event_has_the_code_and_the_short_reason() -> None:
    assert close_event(4401, "x" * 200) == {
        "type": "websocket.close",
        "code": 4401,
        "reason": "x" * 123,
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (falcon.HTTPUnauthorized(), 3401),
        (falcon.HTTPStatus(404), 3404),
        (RuntimeError("x"), 1011),
    ],
)
def test_an_exception_has_the_code_of_the_error_handlers(error: Exception, code: int) -> None:
    assert close_code_of(error) == code


def test_a_disconnect_is_recognised_in_a_group() -> None:
    lost = falcon.WebSocketDisconnected(1000)
    assert is_disconnect(lost)
    assert is_disconnect(ExceptionGroup("group", [lost, ExceptionGroup("inner", [lost])]))
    assert not is_disconnect(ExceptionGroup("group", [lost, RuntimeError()]))
    assert not is_disconnect(RuntimeError())


def test_the_end_of_a_connection_has_a_code() -> None:
    assert end_code(4001, closed=True) == 4001
    assert end_code(None, closed=True) == 1006
    assert end_code(None, closed=False) == 1012
