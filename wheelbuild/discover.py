"""Proposes cells for builds of torch that the matrix does not know, as a change to its text. Pure.

Comments and order stay: rows are appended to their kind, and a torch's `pythons` are written anew.
What is not known of a new build is taken from the nearest one that is, and its reason says so.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apex_installer.model.arch import Architectures, Version, parse_version, version_text
from apex_installer.model.cell import Cell
from wheelbuild.data import list_contradictions
from wheelbuild.document import parse_document, raise_faults
from wheelbuild.matrix import Row
from wheelbuild.matrix_text import TomlText
from wheelbuild.matrix_toml import parse_matrix
from wheelbuild.upstream import python_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wheelbuild.data import FarmData
    from wheelbuild.upstream import TorchBuild

FILE = "matrix.toml"
OLDEST = 39
"""apex-install runs from Python 3.9 on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """A changed matrix, and why."""

    before: str
    after: str
    cells: tuple[str, ...]
    """Labels of the cells that it adds."""
    notes: tuple[str, ...]
    """What was found and is not proposed, and why."""

    @property
    def diff(self) -> str:
        """As `diff -u` writes it; empty where nothing is proposed."""
        lines = difflib.unified_diff(
            self.before.splitlines(keepends=True),
            self.after.splitlines(keepends=True),
            fromfile=f"a/{FILE}",
            tofile=f"b/{FILE}",
        )
        return "".join(lines)


def propose(text: str, data: FarmData, builds: Iterable[TorchBuild], *, today: str) -> Proposal:
    """Change the matrix's text so that it knows these builds; cells where nothing is against it.

    Of each minor the release that the matrix builds against counts, of a new minor the first one.
    `today`: `2026-11-26`, for the reasons. DataError would be a bug: what is made is read again.
    """
    edit = _Edit(text, data, today)
    found = _by_minor(builds)
    for minor in sorted(found, key=lambda minor: (edit.find_torch(minor) is None, minor)):
        at = edit.find_torch(minor)
        if at is None:
            edit.add_torch(minor, found[minor])
        else:
            edit.extend_torch(at, found[minor])
    after = edit.text.apply() if edit.text.changes else text
    document = parse_document(after, file=FILE)
    matrix, _ = parse_matrix(document)
    raise_faults([document])
    before = {row.cell.label for row in data.matrix.rows}
    added = tuple(row.cell.label for row in matrix.rows if row.cell.label not in before)
    return Proposal(before=text, after=after, cells=added, notes=edit.notes)


def _by_minor(builds: Iterable[TorchBuild]) -> dict[Version, list[TorchBuild]]:
    found: dict[Version, list[TorchBuild]] = {}
    for build in sorted(builds, key=lambda one: one.release):
        found.setdefault((build.release[0], build.release[1]), []).append(build)
    return found


class _Edit:
    """The text with its changes, what it says, and why some cells are not proposed."""

    def __init__(self, text: str, data: FarmData, today: str) -> None:
        self.text, self.data, self.today = TomlText(text), data, today
        torches: list[dict[str, Any]] = tomllib.loads(text)["torch"]
        self.torches = torches
        self.refused: dict[str, list[str]] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """`cp314-torch2.16-cu130-linux_x86_64 and 2 more: not yet: no template uses it`."""
        return tuple(
            f"{what[0]}{f' and {len(what) - 1} more' if what[1:] else ''}: {why}"
            for why, what in self.refused.items()
        )

    def find_torch(self, minor: Version) -> int | None:
        """Position of the minor's [[torch]]."""
        minors = [parse_version(one["minor"]) for one in self.torches]
        return minors.index(minor) if minor in minors else None

    def add_torch(self, minor: Version, found: list[TorchBuild]) -> None:
        """A new [[torch]] with its builds, and rows for its cells."""
        near = self._nearest_torch(minor)
        builds = [one for one in _once(found, release=found[0].text_release) if self._pinned(one)]
        rows = [row for build in builds for row in self._rows(build, near, build.pythons)]
        if not rows:
            return
        pythons = sorted(
            {tag for one in builds for tag in _supported(one.pythons)}, key=python_order
        )
        why = f"new; its architectures are those of torch {near['minor']}: look them over"
        source = f"{', '.join(dict.fromkeys(one.index for one in builds))}, {self.today}"
        table = [
            "[[torch]]",
            f'minor = "{version_text(minor)}"',
            f'release = "{found[0].text_release}"',
            f"pythons = {json.dumps(pythons)}",
            f"architectures = {json.dumps(near['architectures'])}",
            f"why = {json.dumps(why)}",
            f"source = {json.dumps(source)}",
        ]
        self.text.append(table, after=("torch",))
        for build in builds:
            self.text.append(self._build_table(build, near), after=("torch",))
        self._add_cells(minor, rows)

    def extend_torch(self, at: int, found: list[TorchBuild]) -> None:
        """Builds and Pythons that came after the minor was written down."""
        torch = self.torches[at]
        builds = _once(found, release=torch["release"])
        cudas = {parse_version(one["cuda"]) for one in torch["builds"]}
        listed, rows, pythons = set(torch["pythons"]), [], set()
        for build in builds:
            fresh = set(_supported(build.pythons)) - listed
            if build.cuda in cudas:
                pythons |= fresh
                rows += self._rows(build, torch, fresh) if self._is_wanted(build) else []
            elif self._pinned(build) and (new := self._rows(build, torch, build.pythons)):
                pythons |= fresh
                rows += new
                self.text.append(self._build_table(build, torch), after=("torch", at))
        if pythons:
            tags = sorted(listed | pythons, key=python_order)
            self.text.replace_list(("torch", at, "pythons"), tags)
        if rows:
            self._add_cells(parse_version(torch["minor"]), rows)

    def _is_wanted(self, build: TorchBuild) -> bool:
        """Whether the matrix has cells of this torch and CUDA, for any Python."""
        pairs = {(row.torch_release, row.cell.cuda) for row in self.data.matrix.rows}
        return (build.text_release, build.cuda) in pairs

    def _pinned(self, build: TorchBuild) -> bool:
        if self.data.toolkits.get(build.cuda):
            return True
        why = f"no compiler of CUDA {version_text(build.cuda)} is pinned in toolkits.toml"
        self.refused.setdefault(why, []).append(f"torch {build.text}")
        return False

    def _rows(
        self, build: TorchBuild, torch: Mapping[str, Any], pythons: Iterable[str]
    ) -> list[Row]:
        """Cells of a build that nothing excludes and the recipe can build; notes of the others."""
        rows: list[Row] = []
        for python in sorted(_supported(pythons), key=python_order):
            row = self._row(build, torch, python)
            why = [one.why for one in self.data.matrix.exclusions if one.covers(row.cell)]
            why += [
                text for _, text in list_contradictions(row, self.data.recipe, self.data.toolkits)
            ]
            if why:
                self.refused.setdefault(" ".join(why[0].split()), []).append(row.cell.label)
            else:
                rows.append(row)
        return rows

    def _row(self, build: TorchBuild, torch: Mapping[str, Any], python: str) -> Row:
        facts, minor = self._nearest_build(build), (build.release[0], build.release[1])
        platform = self.data.matrix.platform
        return Row(
            cell=Cell(python=python, torch=minor, cuda=build.cuda, platform=platform),
            torch_release=build.text_release,
            torch_index=build.index,
            policy=build.policy or facts["policy"],
            cxx11_abi=facts["cxx11_abi"],
            architectures=self._architectures(build, torch),
            why=f"new: {build.index}, {self.today}",
        )

    def _architectures(self, build: TorchBuild, torch: Mapping[str, Any]) -> Architectures:
        """The nearest build's, as far as this torch and this CUDA's compiler know them."""
        held = Architectures.parse(self._nearest_build(build)["architectures"])
        toolkit = self.data.toolkits.get(build.cuda)
        known = set(torch["architectures"]) & set(toolkit.architectures if toolkit else ())
        code = tuple(one for one in held.machine_code if one in known)
        return Architectures(code, held.ptx if set(held.ptx) <= known else code[-1:])

    def _nearest_torch(self, minor: Version) -> Mapping[str, Any]:
        """The newest torch that is older, else the oldest of all."""
        torches = sorted(self.torches, key=lambda one: parse_version(one["minor"]))
        older = [one for one in torches if parse_version(one["minor"]) < minor]
        nearest: Mapping[str, Any] = older[-1] if older else torches[0]
        return nearest

    def _nearest_build(self, build: TorchBuild) -> Mapping[str, Any]:
        """Of the nearest CUDA, the nearest torch."""
        minor = build.release[:2]

        def distance(torch: Mapping[str, Any], one: Mapping[str, Any]) -> tuple[int, int]:
            return (
                abs(_number(one["cuda"]) - _number(version_text(build.cuda))),
                abs(_number(torch["minor"]) - _number(version_text((minor[0], minor[1])))),
            )

        pairs = [(torch, one) for torch in self.torches for one in torch["builds"]]
        facts: Mapping[str, Any] = min(pairs, key=lambda pair: distance(*pair))[1]
        return facts

    def _build_table(self, build: TorchBuild, torch: Mapping[str, Any]) -> list[str]:
        row = self._row(build, torch, build.pythons[0])
        guessed = "architectures and C++ ABI" if build.policy else "architectures, C++ ABI, policy"
        return [
            "[[torch.builds]]",
            f'cuda = "{version_text(build.cuda)}"',
            f"index = {json.dumps(build.index)}",
            f'policy = "{row.policy}"',
            f"cxx11_abi = {json.dumps(row.cxx11_abi)}",
            f'architectures = "{row.architectures.text}"',
            f"why = {json.dumps(f'new; {guessed} are those of the nearest build: look them over')}",
        ]

    def _add_cells(self, minor: Version, rows: list[Row]) -> None:
        """One row per CUDA: their Pythons may differ."""
        for cuda in sorted({row.cell.cuda for row in rows}):
            mine = [row for row in rows if row.cell.cuda == cuda]
            table = [
                "[[cells]]",
                f'torch = "{version_text(minor)}"',
                f'cudas = ["{version_text(cuda)}"]',
                f"pythons = {json.dumps([row.cell.python for row in mine])}",
                f"why = {json.dumps(mine[0].why)}",
            ]
            self.text.append(table, after=("cells",))


def _once(builds: Iterable[TorchBuild], *, release: str) -> list[TorchBuild]:
    """A release's builds, one per CUDA: PyPI's comes first, PyTorch's own is the same wheel."""
    found: dict[Version, TorchBuild] = {}
    for build in builds:
        if build.text_release == release:
            found.setdefault(build.cuda, build)
    return list(found.values())


def _supported(pythons: Iterable[str]) -> list[str]:
    return [tag for tag in pythons if python_order(tag)[0] >= OLDEST]


def _number(version: str) -> int:
    major, minor = parse_version(version)
    return 100 * major + minor
