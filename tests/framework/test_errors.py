"""Exceptions carry data, and their texts name the value."""

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import falcon_pachinko
from falcon_pachinko import (
    BackendUnavailable,
    ConfigurationError,
    InvalidPayload,
    MessageError,
    PachinkoError,
    RegistrationError,
    Reject,
)
from falcon_pachinko import errors as module
from falcon_pachinko.errors import failure_reason


def test_every_exception_is_a_pachinko_error_and_listed_in_the_module() -> None:
    found = [
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Exception)
    ]
    assert all(issubclass(each, PachinkoError) for each in found)
    assert all(each.__name__ in (module.__doc__ or "") for each in found)


def subclasses(cls: type[Exception]) -> Iterator[type[Exception]]:
    for each in cls.__subclasses__():
        yield each
        yield from subclasses(each)


def test_every_exception_of_the_package_is_defined_in_one_module() -> None:
    for found in pkgutil.walk_packages(falcon_pachinko.__path__, "falcon_pachinko."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    modules = {each.__module__ for each in subclasses(PachinkoError)}
    assert {name for name in modules if name.startswith("falcon_pachinko.")} == {module.__name__}


def test_a_refused_operation_is_an_outage_for_its_caller() -> None:
    error = module.OperationRefused("WRONGTYPE")
    assert isinstance(error, BackendUnavailable)
    assert (error.code, error.reason) == ("unavailable", "WRONGTYPE")
    assert "OperationRefused" not in falcon_pachinko.__all__


def test_wrong_configuration_is_a_value_error_and_wrong_registration_a_type_error() -> None:
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(RegistrationError, TypeError)


def test_an_invalid_payload_names_the_type_and_the_field() -> None:
    error = InvalidPayload("say", "text", "Expected `str`")
    assert (error.message_type, error.field, error.reason) == ("say", "text", "Expected `str`")
    assert str(error) == "say: text: Expected `str`"
    assert str(InvalidPayload("say", "", "Expected `object`")) == "say: payload: Expected `object`"


def test_an_outage_has_one_text_for_the_client_and_one_for_the_log() -> None:
    error = BackendUnavailable("connection refused")
    assert isinstance(error, MessageError)
    assert (error.code, error.text) == ("unavailable", "This cannot be done right now: try again.")
    assert str(error) == "connection refused"


def test_a_rejection_needs_a_code_that_may_be_sent() -> None:
    assert (Reject(4401, "sign in").code, Reject(4401, "sign in").reason) == (4401, "sign in")
    with pytest.raises(ValueError, match="close code 1006 cannot be sent"):
        Reject(1006)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (TimeoutError(), "no response in time"),
        (TimeoutError("after 4 s"), "after 4 s"),
        (ConnectionError(), "ConnectionError"),
        (ConnectionError("refused"), "refused"),
    ],
)
def test_the_reason_of_a_failure_is_never_empty(failure: Exception, reason: str) -> None:
    assert failure_reason(failure) == reason
