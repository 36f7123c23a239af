"""Reads a list of attendees: CSV, or one name a line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from admin.errors import CommandError
from shared.events.credentials import name_problem

MOST_NAMES = 20_000
LONGEST_TEXT = 200
_MOST_SHOWN = 20
_USER_COLUMNS = (
    "github",
    "githubname",
    "githubuser",
    "githubusername",
    "githublogin",
    "user",
    "username",
    "login",
)
_OTHER_USER_COLUMNS = ("email", "emailaddress", "name")
"""In this order, the first column with one of these titles has the names. A form's question that contains
`GitHub` comes before the other columns."""
_TEXT_COLUMNS = {"team": ("team", "group"), "note": ("note", "notes", "comment")}
_NO_NAME = "The name is missing. Fill it in, or remove the line."
_GITHUB = ("https://github.com/", "http://github.com/", "github.com/", "@")


class Person(NamedTuple):
    user: str
    team: str
    note: str


class Roster(NamedTuple):
    people: list[Person]
    """Each name once, in the order of the file."""
    repeated: list[int]
    """The lines whose name was there before."""
    column: str
    """The title of the column with the names, if it is not one for user names. Otherwise empty."""


class _Columns(NamedTuple):
    user: int
    team: int | None
    note: int | None
    other_title: str = ""
    """As `Roster.column`."""


def read_roster(file: Path) -> Roster:
    """Every name of the file.

    A first line with titles says which column has the names. Without one, it is the first; team and note may
    follow. Empty lines are skipped.

    Raises:
        CommandError: the file cannot be read, or some of the names are not valid. The message has each line.
    """
    rows = list(_rows(file))
    columns, rows = _columns(rows)
    people: dict[str, Person] = {}
    repeated: list[int] = []
    problems: list[str] = []
    for number, cells in rows:
        user = _user(_cell(cells, columns.user))
        texts = [_cell(cells, column) for column in (columns.team, columns.note)]
        if problem := (name_problem(user) if user else _NO_NAME) or _text_problem(texts):
            problems.append(f"line {number}, {_cell(cells, columns.user)[:80]!r}: {problem}")
        elif user in people:
            repeated.append(number)
        else:
            people[user] = Person(user, *texts)
    _check(file, problems, len(people))
    return Roster(list(people.values()), repeated, columns.other_title)


def _check(file: Path, problems: list[str], names: int) -> None:
    if problems:
        more = len(problems) - _MOST_SHOWN
        shown = "\n  ".join(problems[:_MOST_SHOWN] + ([f"and {more:,} more lines"] if more > 0 else []))
        raise CommandError(f"{file} has names that are not valid. Nothing is imported.\n  {shown}")
    if not names:
        raise CommandError(f"{file} has no names. Write one name a line, or CSV with a column 'user'.")
    if names > MOST_NAMES:
        raise CommandError(f"{file} has {names:,} names. Import at most {MOST_NAMES:,}.")


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The cells of each line that is not empty, with its number."""
    lines = _text(file).splitlines()
    if lines and lines[0].lower().startswith("sep="):  # Excel's own line
        lines[0] = ""
    first = next((line for line in lines if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise CommandError(f"{file}, line {reader.line_num} is not CSV: {error}.") from error


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CommandError(f"Cannot read {file}: {error.strerror or error}.") from error
    encoding = "utf-16" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise CommandError(f"{file} is not in UTF-8. Save it as 'CSV UTF-8', and import it again.") from error


def _columns(rows: list[tuple[int, list[str]]]) -> tuple[_Columns, list[tuple[int, list[str]]]]:
    """Where the names are, and the rows below the titles."""
    titles = ["".join(filter(str.isalnum, cell.lower())) for cell in rows[0][1]] if rows else []
    questions = (title for title in titles if "github" in title)
    wanted = (*_USER_COLUMNS, *questions, *_OTHER_USER_COLUMNS)
    user = next((titles.index(title) for title in wanted if title in titles), None)
    if user is None:
        if any(title in known for known in _TEXT_COLUMNS.values() for title in titles):
            raise CommandError(
                "The first line has the titles of columns, but none for the names. Call that column 'user'."
            )
        return _Columns(0, 1, 2), rows
    team, note = (
        next((titles.index(title) for title in known if title in titles), None)
        for known in _TEXT_COLUMNS.values()
    )
    other_title = rows[0][1][user] if titles[user] in _OTHER_USER_COLUMNS else ""
    return _Columns(user, team, note, other_title), rows[1:]


def _cell(cells: list[str], column: int | None) -> str:
    return cells[column] if column is not None and column < len(cells) else ""


def _user(text: str) -> str:
    """The name in lower case. Lists often have `@amy`, or the address of a profile."""
    text = text.lower()
    for prefix in _GITHUB:
        text = text.removeprefix(prefix)
    return text.rstrip("/")


def _text_problem(texts: list[str]) -> str | None:
    if any(len(text) > LONGEST_TEXT or not text.isprintable() for text in texts):
        return f"Team and note can have at most {LONGEST_TEXT} characters, on one line."
    return None
