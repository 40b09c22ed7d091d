"""The command line ``python -m falcon_pachinko``."""

import subprocess
import sys

import pytest

from falcon_pachinko.__main__ import main
from falcon_pachinko.support import manifest


def test_an_unknown_command_is_refused_with_the_known_ones() -> None:
    command = [sys.executable, "-B", "-m", "falcon_pachinko", "sing"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert finished.returncode == 2
    assert "verify" in finished.stderr


@pytest.mark.parametrize(
    ("lines", "status", "output"),
    [
        ([], 0, "All files are unchanged since falcon_pachinko 1.2.3.\n"),
        (["added: a.py", "changed: b.py"], 1, "added: a.py\nchanged: b.py\n"),
    ],
    ids=["unchanged", "changed"],
)
def test_verify_prints_the_changed_files(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lines: list[str],
    status: int,
    output: str,
) -> None:
    monkeypatch.setattr(manifest, "differences", lambda: ("1.2.3", lines))
    assert main(["verify"]) == status
    assert capsys.readouterr().out == output


def test_a_command_is_required_and_may_not_be_abbreviated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments in ([], ["veri"]):
        with pytest.raises(SystemExit) as exited:
            main(arguments)
        assert exited.value.code == 2
    assert "invalid choice: 'veri'" in capsys.readouterr().err
