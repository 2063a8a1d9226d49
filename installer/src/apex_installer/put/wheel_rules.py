"""What a wheel must be before anything of it is unpacked: one function per rule. Pure.

Each takes the subject and returns its faults in words. A new rule is one function here, one line in
ALL_RULES and one test.
"""

from __future__ import annotations

import re
from itertools import product
from typing import TYPE_CHECKING, Callable, Dict, List, Mapping, NamedTuple, Sequence, Set, Tuple

from apex_installer.put.archive import Member
from apex_installer.put.names import normalized
from apex_installer.put.record import DIGEST_PREFIX, Row

if TYPE_CHECKING:
    from apex_installer.model.entry import Entry
    from apex_installer.model.recipe import Recipe

RECORD, METADATA, WHEEL = "RECORD", "METADATA", "WHEEL"
OURS = frozenset({"INSTALLER", "REQUESTED", "direct_url.json", "apex_install.json"})
"""Files of a dist-info that an installer writes; a wheel that brings them would speak for us."""
NEVER = frozenset({"entry_points.txt", "RECORD.jws", "RECORD.p7s", *OURS})
SIX_PARTS = 6
"""Of a wheel's file name that has a build tag."""
SHOWN = 3
"""Names that one fault mentions before it counts the rest."""


class Subject(NamedTuple):
    """Everything the rules look at."""

    entry: Entry
    recipe: Recipe
    members: Tuple[Member, ...]
    row_list: Tuple[Row, ...]
    rows: Mapping[str, Row]
    dist_info: str
    metadata: Mapping[str, Sequence[str]]
    """METADATA's fields; empty where it is missing or not what RECORD says."""
    wheel: Mapping[str, Sequence[str]]
    metadata_sha256: str


Rule = Callable[[Subject], List[str]]


def parse_fields(text: bytes) -> Dict[str, List[str]]:
    """Header fields (RFC 822 style) by lower-case name; the description is left out."""
    fields: Dict[str, List[str]] = {}
    for line in text.decode("utf-8", "replace").splitlines():
        if not line:
            break
        name, colon, value = line.partition(":")
        if colon and not line[0].isspace():
            fields.setdefault(name.lower(), []).append(value.strip())
    return fields


def dist_info_names(members: Sequence[Member]) -> List[str]:
    """Top-level folders that say they are a dist-info."""
    tops = {member.name.partition("/")[0] for member in members if "/" in member.name}
    return sorted(top for top in tops if top.lower().endswith((".dist-info", ".egg-info")))


def record_name(members: Sequence[Member]) -> str:
    """Where RECORD is; empty without exactly one dist-info."""
    names = dist_info_names(members)
    return f"{names[0]}/{RECORD}" if len(names) == 1 else ""


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name)[1:-1] for name in names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown


def _fault(text: str, names: Sequence[str]) -> List[str]:
    return [f"{text}: {_some(sorted(names))}"] if names else []


# -- names ---------------------------------------------------------------------------------------


def has_safe_names(subject: Subject) -> List[str]:
    """Zip-slip: every name must be a plain relative path in its simplest form."""
    return _fault(
        "leads outside or is no plain path",
        [member.name for member in subject.members if not is_safe(member.name)],
    )


def is_safe(name: str) -> bool:
    """Relative, `/`-separated, printable, without empty, `.` or `..` parts."""
    return (
        bool(name)
        and name.isprintable()
        and "\\" not in name
        and not re.match(r"^[A-Za-z]:", name)
        and all(part not in ("", ".", "..") for part in name.split("/"))
    )


def has_plain_files(subject: Subject) -> List[str]:
    """No links, devices, set-user-id bits; no folders of their own either."""
    return _fault(
        "is not a plain file (a link, a device or a folder)",
        [member.name for member in subject.members if not member.is_plain_file],
    )


def has_unique_names(subject: Subject) -> List[str]:
    """Also where case does not count, and no name is both a file and a folder."""
    seen: Set[str] = set()
    double: List[str] = []
    for member in subject.members:
        folded = member.name.casefold()
        double += [member.name] if folded in seen else []
        seen.add(folded)
    folders = {folded[:cut] for folded in seen for cut in _cuts(folded)}
    double += [member.name for member in subject.members if member.name.casefold() in folders]
    return _fault("is there twice", double)


def _cuts(name: str) -> List[int]:
    return [index for index, letter in enumerate(name) if letter == "/"]


def has_only_allowed_files(subject: Subject) -> List[str]:
    """The package, the entry's modules, one dist-info; nothing else can be put into a target.

    In a Python-only wheel also what says of a module of the recipe that nothing stands for it.
    """
    modules = {module.file for module in subject.entry.modules}
    if subject.entry.the_cell is None:
        modules |= {f"{name}.py" for name in subject.recipe.raw.get("modules", ())}
    package = f"{subject.recipe.package}/"
    own = f"{subject.dist_info}/"
    return _fault(
        "has no business in this wheel",
        [
            member.name
            for member in subject.members
            if not _is_allowed(member.name, modules=modules, package=package, own=own)
        ],
    )


def _is_allowed(name: str, *, modules: Set[str], package: str, own: str) -> bool:
    if name in modules and "/" not in name:
        return True
    if name.startswith(package):
        return "/__pycache__/" not in name and not name.endswith((".pyc", ".pth"))
    return len(own) > 1 and name.startswith(own) and name[len(own) :] not in NEVER


# -- contents ------------------------------------------------------------------------------------


def has_one_dist_info(subject: Subject) -> List[str]:
    """Exactly one, of the entry's name and version."""
    names = dist_info_names(subject.members)
    if len(names) != 1:
        return [f"has {len(names)} dist-infos, not one" + (f": {_some(names)}" if names else "")]
    stem = names[0].rpartition(".")[0]
    name, _, version = stem.partition("-")
    wanted = (normalized(subject.entry.distribution), subject.entry.version)
    if (normalized(name), version) != wanted:
        return [f"its dist-info is {names[0]}, not of {wanted[0]} {wanted[1]}"]
    return []


def has_true_metadata(subject: Subject) -> List[str]:
    """Name, version and digest of METADATA are the entry's."""
    entry, fields = subject.entry, subject.metadata
    if not fields:
        return ["METADATA is missing or not what RECORD says"]
    faults = []
    names = fields.get("name", [])
    if [normalized(name) for name in names] != [normalized(entry.distribution)] or normalized(
        entry.distribution
    ) != normalized(subject.recipe.distribution):
        faults.append(f"METADATA's name is {_some(names)}, not {subject.recipe.distribution}")
    if fields.get("version", []) != [entry.version]:
        faults.append(
            f"METADATA's version is {_some(fields.get('version', []))}, not {entry.version}"
        )
    if subject.metadata_sha256 != entry.metadata_sha256:
        faults.append("METADATA is not the one of the index")
    return faults


def has_true_tags(subject: Subject) -> List[str]:
    """WHEEL's tags are those of the file name, and of the entry's cell."""
    entry, fields = subject.entry, subject.wheel
    if not fields:
        return ["WHEEL is missing or not what RECORD says"]
    faults = []
    if not fields.get("wheel-version", [""])[0].startswith("1."):
        faults.append(f"its Wheel-Version is {_some(fields.get('wheel-version', []))}, not 1.x")
    parts = entry.base_file[: -len(".whl")].split("-")
    if len(parts) not in (SIX_PARTS - 1, SIX_PARTS):
        return [*faults, "its file name is not that of a wheel"]
    named = {"-".join(tag) for tag in product(*(part.split(".") for part in parts[-3:]))}
    if set(fields.get("tag", [])) != named:
        faults.append(f"WHEEL's tags are {_some(fields.get('tag', []))}, its name says otherwise")
    cell = entry.the_cell
    python, platform = (cell.python, cell.platform.partition("_")[2]) if cell else ("py3", "any")
    if parts[-3] != python or not all(tag.endswith(platform) for tag in parts[-1].split(".")):
        faults.append(f"its file name is not one of {entry.cell}")
    build = re.match(r"\d*", parts[2]) if len(parts) == SIX_PARTS else None
    named_as = (normalized(parts[0]), parts[1], int(build.group() or 0) if build else 0)
    if named_as != (normalized(entry.distribution), entry.version, entry.build_tag):
        faults.append("its file name is not the entry's name, version and build tag")
    return faults


def has_modules(subject: Subject) -> List[str]:
    """Every module of the entry, at top level; the package itself too."""
    present = {member.name for member in subject.members}
    faults = _fault(
        "lacks the module", [m.file for m in subject.entry.modules if m.file not in present]
    )
    if f"{subject.recipe.package}/__init__.py" not in present:
        faults.append(f"lacks {subject.recipe.package}/__init__.py")
    return faults


# -- RECORD --------------------------------------------------------------------------------------


def has_matching_record(subject: Subject) -> List[str]:
    """Every member has its row and every row its member, with sha256 and size."""
    present = {member.name: member for member in subject.members}
    record = f"{subject.dist_info}/{RECORD}"
    if record not in present:
        return ["has no RECORD"]
    paths = [row.path for row in subject.row_list]
    checked = [row for row in subject.rows.values() if row.path != record and row.path in present]
    return [
        *_fault("RECORD lacks", [name for name in present if name not in subject.rows]),
        *_fault("RECORD lists what is not there", [p for p in subject.rows if p not in present]),
        *_fault("RECORD lists twice", [p for p in set(paths) if paths.count(p) > 1]),
        *_fault(
            "RECORD has no sha256 for",
            [row.path for row in checked if not row.digest.startswith(DIGEST_PREFIX)],
        ),
        *_fault(
            "RECORD has another size for",
            [row.path for row in checked if row.size != present[row.path].size],
        ),
    ]


ALL_RULES: Tuple[Rule, ...] = (
    has_safe_names,
    has_plain_files,
    has_unique_names,
    has_one_dist_info,
    has_only_allowed_files,
    has_modules,
    has_true_metadata,
    has_true_tags,
    has_matching_record,
)
