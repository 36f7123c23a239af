"""Lists of attendees in the forms that people have, and the problems in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from admin.attendees.roster import Person, read_roster
from admin.errors import CommandError


def write(folder: Path, content: bytes | str) -> Path:
    file = folder / "roster.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


AMY, BOB = Person("amy", "red", "vegan"), Person("bob.lee", "", "")


@pytest.mark.parametrize(
    "content",
    [
        "Amy,red,vegan\nbob.lee\n",
        "user,team,note\nAmy,red,vegan\nbob.lee,,\n",
        "\ufeffTeam;GitHub name;Notes\r\nred;@Amy;vegan\r\n;https://github.com/Bob.Lee/;\r\n",
        "sep=;\nuser;team;note\namy;red;vegan\n\n ; ;\nbob.lee;;\n",
        "Name\tEmail\tGitHub\tTeam\tNote\nAmy L\ta@b.c\tamy\tred\tvegan\nBob\tb@b.c\tbob.lee\t\t\n",
        'Time,Email,"What is your GitHub user name?",Team,Note\n1,a@b.c,amy,red,vegan\n2,b@b.c,bob.lee,,\n',
        "user, team, note\n amy , red , vegan\n\n\nbob.lee\n",
        'user,team,note\n"amy","red","vegan"\nbob.lee\nAMY,blue,twice\n',
    ],
)
def test_names_are_read_from_every_form_of_list(tmp_path: Path, content: str) -> None:
    for encoded in (content.encode(), content.removeprefix("\ufeff").encode("utf-16")):
        assert read_roster(write(tmp_path, encoded)).people == [AMY, BOB]


def test_lines_that_repeat_a_name_are_named(tmp_path: Path) -> None:
    assert read_roster(write(tmp_path, "amy\nbob\nAmy\n\n@bob\n")).repeated == [3, 5]


def test_column_that_is_not_for_user_names_is_named(tmp_path: Path) -> None:
    roster = read_roster(write(tmp_path, "Team,Email Address\nred,amy@x.org\n"))
    assert roster == ([Person("amy@x.org", "red", "")], [], "Email Address")
    assert read_roster(write(tmp_path, "Email,User\na@b.c,amy\n")).column == ""


def test_every_invalid_line_is_named(tmp_path: Path) -> None:
    lines = [
        "user",
        "amy",
        "amy lee",
        '=HYPERLINK("http://x")',
        "jörg",
        "u" * 65,
        "your-github-name",
        "bob",
        ",red",
    ]
    with pytest.raises(CommandError) as caught:
        read_roster(write(tmp_path, "\n".join(lines)))
    message = caught.value.message
    assert "Nothing is imported" in message
    named = [int(part.split(",")[0]) for part in message.split("line ")[1:]]
    assert named == [3, 4, 5, 6, 7, 9]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no names"),
        (b"user,team\n", "has no names"),
        (b"user,team\namy,red\n,blue\n", "line 3, '': The name is missing. Fill it in, or remove the line."),
        (b"team,note\nred,vegan\n", "none for the names. Call that column 'user'."),
        (b"\xff\xfe\x00", "not in UTF-8"),
        ("jörg".encode("latin-1"), "not in UTF-8"),
        (b"amy\x00\n", "line 1"),
        (b"amy,red,a\x07b\n", "Team and note"),
        ("\n".join(f"user-{n}" for n in range(20_001)).encode(), "20,001 names"),
    ],
)
def test_unreadable_list_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        read_roster(write(tmp_path, content))
    assert message in caught.value.message


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="Cannot read"):
        read_roster(tmp_path / "none.csv")
