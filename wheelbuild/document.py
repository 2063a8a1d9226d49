"""A TOML document whose faults are found all at once, each with file, line and key.

`tomllib` gives values without positions, so the lines are found by a second, cheap reading of the
text, and only when there is a fault to report.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apex_installer.errors import UsageError as VersionError
from apex_installer.model.arch import parse_version
from wheelbuild.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from apex_installer.model.arch import Version

Place = tuple[str | int, ...]
"""Keys and positions from the top: `("refs", 1, "commit")`."""

NO_VERSION: Version = (0, 0)
"""Stands for a version that could not be read; the fault is already noted."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, and where."""

    place: Place
    text: str


@dataclass(slots=True)
class Document:
    """One file: its values, and the faults found in it so far."""

    file: str
    """As it is shown to people."""
    text: str
    data: Mapping[str, Any]
    faults: list[Fault] = field(default_factory=list)

    @property
    def root(self) -> Table:
        """The top table."""
        return Table(self, (), self.data)

    def fault(self, place: Place, text: str) -> None:
        """Note a fault; reading goes on."""
        self.faults.append(Fault(place, text))

    def is_sound(self, *keys: str) -> bool:
        """Whether nothing below these top keys is at fault: what depends on it may be judged."""
        return not any(fault.place[:1] == (key,) for fault in self.faults for key in keys)

    def lines(self) -> list[str]:
        """One line per fault, in the file's order: `matrix.toml:12: torch[0].release: …`."""
        if not self.faults:
            return []
        known = find_lines(self.text)
        lines = {(line_of(fault.place, known), self._say(fault, known)) for fault in self.faults}
        return [text for _, text in sorted(lines)]

    def _say(self, fault: Fault, known: Mapping[Place, int]) -> str:
        where = f"{self.file}:{line_of(fault.place, known)}"
        return (
            f"{where}: {place_text(fault.place)}: {fault.text}"
            if fault.place
            else (f"{where}: {fault.text}")
        )


def read_document(path: Path, *, file: str) -> Document:
    """Read and parse one file; DataError in one line if it is missing or no TOML."""
    try:
        return parse_document(path.read_text("utf-8"), file=file)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}: {path}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8: {error}") from error


def parse_document(text: str, *, file: str) -> Document:
    """Parse a text; DataError in one line, with the line number, if it is no TOML."""
    try:
        return Document(file, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        number = int(found[1]) if found else len(text.splitlines())
        raise DataError(f"{file}:{number}: not TOML: {error}") from error


def raise_faults(documents: Iterable[Document], broken: Iterable[str] = ()) -> None:
    """DataError with every fault of all documents, after those of files that are no TOML."""
    lines = [*broken, *(line for document in documents for line in document.lines())]
    if lines:
        raise DataError("\n".join(lines))


class Table:
    """A table being read: each access names the type that is wanted, `close` ends it.

    A wrong or missing value is noted as a fault and answered with an empty one, so that one
    reading finds every fault.
    """

    def __init__(self, document: Document, place: Place, value: object) -> None:
        """`value` should be a mapping; if it is not, that is the fault and the table is empty."""
        self.document = document
        self.place = place
        self._asked: set[str] = set()
        if not isinstance(value, dict):
            document.fault(place, f"{_kind(value)} where a table is wanted")
            value = {}
        self._values: dict[str, Any] = value

    @property
    def name(self) -> str:
        """The last key of its place."""
        return str(self.place[-1])

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key that it holds, for tables whose keys are names."""
        return tuple(self._values)

    def fault(self, key: str, text: str) -> None:
        """Note a fault of one of its values, or of itself where the key is empty."""
        self.document.fault((*self.place, key) if key else self.place, text)

    def text(self, key: str, default: str | None = None, *, form: str = "", like: str = "") -> str:
        """Return a string that matches the pattern `form`; `like` shows people a good one."""
        value = self._value(key, str, "a string", default)
        if form and value and not re.fullmatch(form, value):
            self.fault(key, f"{value!r} is not of the form {like or form}")
            return ""
        if default is None and self._values.get(key) == "":
            self.fault(key, "is empty")
        return str(value)

    def choice(self, key: str, words: Iterable[str]) -> str:
        """Return a string that is one of the words."""
        value = self.text(key)
        if value and value not in words:
            self.fault(key, f"{value!r} is none of {', '.join(words)}{near(value, words)}")
        return value

    def number(self, key: str, *, at_least: int = 0) -> int:
        """Return a whole number."""
        value = int(self._value(key, int, "a whole number", None))
        if self._holds(key, value) and value < at_least:
            self.fault(key, f"{value} is less than {at_least}")
        return value

    def seconds(self, key: str) -> float:
        """Return a number, whole or not, above zero."""
        value = float(self._value(key, (int, float), "a number", None))
        if self._holds(key, value) and value <= 0:
            self.fault(key, f"{value} is not above 0")
        return value

    def flag(self, key: str) -> bool:
        """Return true or false."""
        return bool(self._value(key, bool, "true or false", None))

    def version(self, key: str) -> Version:
        """Return `12.1` as (12, 1)."""
        return self._version(key, self.text(key))

    def optional_version(self, key: str) -> Version | None:
        """Return the same, or None where the key is absent."""
        return self.version(key) if key in self._values else None

    def versions(self, key: str, default: tuple[str, ...] | None = None) -> tuple[Version, ...]:
        """Return a list of versions."""
        return tuple(self._version(key, text) for text in self.texts(key, default))

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """Return a list of strings without repetition; not empty unless there is a default."""
        values = self._value(key, list, "a list of strings", default)
        wrong = [value for value in values if not isinstance(value, str)]
        if wrong:
            self.fault(key, f"{_kind(wrong[0])} in a list of strings")
        texts = tuple(value for value in values if isinstance(value, str))
        again = sorted({value for value in texts if texts.count(value) > 1})
        if again:
            self.fault(key, f"named twice: {', '.join(again)}")
        if default is None and self._values.get(key) == []:
            self.fault(key, "is empty")
        return texts

    def forms(self, key: str, *, form: str, like: str) -> tuple[str, ...]:
        """Return a list of strings of which each matches the pattern `form`."""
        texts = self.texts(key)
        for text in texts:
            if not re.fullmatch(form, text):
                self.fault(key, f"{text!r} is not of the form {like}")
        return tuple(text for text in texts if re.fullmatch(form, text))

    def choices(
        self, key: str, words: Iterable[str], default: tuple[str, ...] | None = None
    ) -> tuple[str, ...]:
        """Return a list of strings of which each is one of the words."""
        texts = self.texts(key, default)
        for text in texts:
            if text not in words:
                self.fault(key, f"{text!r} is none of {', '.join(words)}{near(text, words)}")
        return tuple(text for text in texts if text in words)

    def tables(self, key: str, *, needed: bool = True) -> list[Table]:
        """Return the tables of an array, `[[key]]`."""
        values = self._value(key, list, f"an array of tables, [[{key}]]", None if needed else [])
        place = (*self.place, key)
        return [Table(self.document, (*place, at), value) for at, value in enumerate(values)]

    def named(self, key: str) -> list[Table]:
        """Return the tables `[key.<name>]`, whose keys are names."""
        values = self._value(key, dict, f"tables, [{key}.<name>]", None)
        place = (*self.place, key)
        return [Table(self.document, (*place, name), value) for name, value in values.items()]

    def close(self) -> None:
        """Every key that nobody asked for is unknown."""
        for key in self._values:
            if key not in self._asked:
                self.fault(key, f"unknown key{near(key, self._asked)}")

    def _holds(self, key: str, value: float) -> bool:
        """Whether that number was read, and not an empty one in place of something wrong."""
        found = self._values.get(key)
        return found == value and not isinstance(found, bool)

    def _version(self, key: str, text: str) -> Version:
        if not text:
            return NO_VERSION
        try:
            return parse_version(text)
        except VersionError as error:
            self.fault(key, str(error))
            return NO_VERSION

    def _value(self, key: str, kind: type | tuple[type, ...], wanted: str, default: object) -> Any:
        """Return the value, the default, or an empty one with a fault noted."""
        self._asked.add(key)
        empty = (kind[0] if isinstance(kind, tuple) else kind)()
        if key not in self._values:
            if default is None:
                self.fault("", f"no {key!r}: {wanted} is wanted")
            return empty if default is None else default
        value = self._values[key]
        # bool is an int in Python, not in TOML
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.fault(key, f"{_kind(value)} where {wanted} is wanted")
            return empty
        return value


def place_text(place: Place) -> str:
    """`("refs", 1, "commit")` -> `refs[1].commit`."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if re.fullmatch(r"[\w-]+", part) else f'"{part}"'
            text += f".{shown}" if text else shown
    return text


def line_of(place: Place, known: Mapping[Place, int]) -> int:
    """Return the line of a place, or of the nearest table around it."""
    while place and place not in known:
        place = place[:-1]
    return known.get(place, 1)


def find_lines(text: str) -> dict[Place, int]:
    """Map every key and table of a sound TOML text to the line, from 1, that its statement starts.

    A statement is the shortest run of lines that parses: so strings and arrays of many lines
    need no grammar of ours.
    """
    lines = text.splitlines()
    known: dict[Place, int] = {(): 1}
    counts: dict[Place, int] = {}
    base: Place = ()
    at = 0
    while at < len(lines):
        stop, parsed = _statement(lines, at)
        if lines[at].lstrip().startswith("["):
            base = _header(parsed, counts)
            known.setdefault(base, at + 1)
        else:
            _note(parsed, base, at + 1, known)
        at = stop
    return known


def _statement(lines: list[str], at: int) -> tuple[int, dict[str, Any]]:
    for stop in range(at + 1, len(lines) + 1):
        try:
            return stop, tomllib.loads("\n".join(lines[at:stop]))
        except tomllib.TOMLDecodeError:
            continue
    return len(lines), {}


def _header(parsed: Any, counts: dict[Place, int]) -> Place:
    """`[[a]]` parses to `{"a": [{}]}`, `[a.b]` to `{"a": {"b": {}}}`; arrays get a position."""
    place: Place = ()
    while parsed:
        key, parsed = next(iter(parsed.items()))
        place = (*place, key)
        if isinstance(parsed, list):
            counts[place] = counts.get(place, -1) + 1
            return (*place, counts[place])
        if place in counts:
            place = (*place, counts[place])
    return place


def _note(value: Any, place: Place, line: int, known: dict[Place, int]) -> None:
    known.setdefault(place, line)
    if isinstance(value, dict):
        for key, below in value.items():
            _note(below, (*place, key), line, known)
    elif isinstance(value, list):
        for at, below in enumerate(value):
            _note(below, (*place, at), line, known)


def _kind(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "a string"}
    return {**names, list: "a list", dict: "a table"}.get(type(value), type(value).__name__)


def near(word: str, words: Iterable[str]) -> str:
    """`; near: group_norm`, or nothing, for the end of a fault."""
    found = difflib.get_close_matches(word, sorted(words), n=1)
    return f"; near: {found[0]}" if found else ""
