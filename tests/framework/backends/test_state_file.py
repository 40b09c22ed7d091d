"""The file of a single process's restrictions: replaced as a whole, refused if it is not valid."""

from pathlib import Path

import pytest

from falcon_pachinko.backends import state_file
from falcon_pachinko.backends.restriction_entry import RestrictionEntry
from falcon_pachinko.backends.state_file import StateFile
from falcon_pachinko.errors import ConfigurationError

ENTRY = RestrictionEntry("ban\nbob\nlobby", 1, 2, 3, 0)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.json")
    assert file.read() == []
    file.write(1, [ENTRY])
    assert StateFile(file.path).read() == [ENTRY]
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_late_write_does_not_replace_a_later_content(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.json")
    file.write(2, [ENTRY])
    file.write(1, [])
    assert file.read() == [ENTRY]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"format": 2, "restrictions": {}}',
        '{"format": 1, "restrictions": {"ban": "1 2 3 4"}}',
        '{"format": 1, "restrictions": {"ban\\nbob\\n": "1 2"}}',
        '{"format": 1, "restrictions": {"ban\\nbob\\n": 1}}',
    ],
)
def test_a_corrupt_file_is_refused_with_its_name_and_the_next_step(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "state.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError) as raised:
        StateFile(path).read()
    assert str(path) in str(raised.value)
    assert "restore it from a copy, or delete it" in str(raised.value)
    assert path.read_text("utf-8") == content


def test_a_file_that_is_too_large_or_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        StateFile(tmp_path).read()
    monkeypatch.setattr(state_file, "MAX_FILE_BYTES", 10)
    file = StateFile(tmp_path / "state.json")
    file.write(1, [ENTRY])
    with pytest.raises(ConfigurationError, match="more than 10 bytes"):
        file.read()


def test_a_failed_write_leaves_the_old_content_and_no_other_file(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.json")
    file.path.mkdir()  # as if it could not be replaced
    (file.path / "kept").touch()
    with pytest.raises(OSError, match=r"."):
        file.write(1, [ENTRY])
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
