"""Requests of commands to the processes of a service, which cannot be sent."""

from __future__ import annotations

import argparse
import socket
from pathlib import Path

import pytest

from {{ cookiecutter.package_name }}.admin_client import AdminError, Processes
from {{ cookiecutter.package_name }}.inspection import tail_seconds


def test_a_folder_without_processes_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdminError, match="no process of the service has a socket in"):
        Processes(str(tmp_path)).restrictions()
    with pytest.raises(AdminError, match="no process of the service has a socket in"):
        Processes(str(tmp_path / "missing")).restrictions()


def test_without_a_state_folder_no_process_is_reached() -> None:
    with pytest.raises(AdminError, match="APP_STATE_FOLDER is empty"):
        Processes("").restrictions()


def test_a_system_without_unix_sockets_gets_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(AdminError, match="this system has no Unix sockets"):
        Processes(str(tmp_path)).announce("Tea!")


@pytest.mark.parametrize(
    ("text", "reason"), [("\ud800", "not UTF-8 text"), ("x" * 65_536, "more than 65536 bytes")]
)
def test_arguments_that_cannot_be_sent_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(AdminError, match=reason):
        Processes(str(tmp_path)).announce(text)


def test_a_foreign_file_in_the_folder_is_no_socket(tmp_path: Path) -> None:
    for name in ("admin-x.sock", "admin-1-0123abcd.sock", "admin-2-0123abcd.sock.bak"):
        (tmp_path / name).touch()
    with pytest.raises(AdminError, match="no process"):
        Processes(str(tmp_path)).restrictions()


@pytest.mark.parametrize("text", ["0", "-1", "61", "nan", "inf", "ten"])
def test_the_duration_of_a_tail_is_bounded(text: str) -> None:
    assert tail_seconds("60") == 60
    with pytest.raises(argparse.ArgumentTypeError, match="give seconds, at most 60"):
        tail_seconds(text)
