"""The reference pages that are made from the code, so that they cannot drift from it.

`python -m wheelbuild.reference` writes them; a test fails when a page differs.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import apex_installer.cli
import apex_installer.errors
import wheelbuild.cli
from apex_installer import account
from apex_installer.errors import InstallError
from apex_installer.model import entry, report

DOCS = Path(__file__).parent.parent / "docs" / "reference"
JSON_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
VARIABLES = {
    apex_installer.cli.BACKGROUND: (
        "`1`: after a compile of less than the default set, compile the rest in a process that "
        "stays behind, for the next pod; on a cache that outlives this one alone. The line that "
        "announces it names process and log"
    ),
    "APEX_INSTALL_SKIP": "`1`: `run.sh` starts the app alone",
    "APEX_INSTALL_STRICT": "`1`: `run.sh` starts nothing where Apex is not good enough",
}
"""Of apex-install and run.sh, beside those of the flags."""
MADE = "<!-- Made from the code by `python -m wheelbuild.reference`; do not edit. -->\n"


def render_pages() -> Mapping[str, str]:
    """File name below docs/reference -> text."""
    return {
        "apex-install.md": MADE + _installer_page(apex_installer.cli.build_parser()),
        "entry.md": MADE + _entry_page(),
        "report.md": MADE + _report_page(),
        "wheelbuild.md": MADE + _farm_page(wheelbuild.cli.build_parser()),
    }


def _installer_page(parser: argparse.ArgumentParser) -> str:
    commands = ", ".join(f"`{command}`" for command in apex_installer.cli.COMMANDS)
    return "\n".join(
        [
            "# apex-install",
            "",
            f"Commands: {commands}; `install` is the default. After `--` stands the app's own",
            "command, which is read only to find the interpreter. Flags are not abbreviated.",
            "`doctor` takes one thing to examine: a module, a package, a wheel or an address.",
            "",
            "| flag | variable | what it does |",
            "|---|---|---|",
            *_flag_rows(parser, prefix=apex_installer.cli.PREFIX),
            "",
            "A flag wins over its variable; an empty variable says nothing; `APEX_INSTALL_REQUIRE`",
            "takes names separated by commas; a switch takes `1` or `0`.",
            "",
            "Three variables have no flag:",
            "",
            "| variable | what it does |",
            "|---|---|",
            *(f"| `{name}` | {meaning} |" for name, meaning in VARIABLES.items()),
            "",
            "## Exit codes",
            "",
            "| code | meaning |",
            "|---|---|",
            "| 0 | usable, at or above `--at-least` |",
            "| 1 | a bug of ours; the last line names the log |",
            "| 2 | usage or configuration; nothing was changed |",
            "| 3 | nothing good enough; what was there stays |",
            "",
            "The last line on stderr starts with `apex: ` and the outcome. Why is in the report,",
            "one cause word per attempt:",
            "",
            "| cause | exit code | meaning |",
            "|---|---|---|",
            *_cause_rows(),
            "",
        ]
    )


def _flag_rows(parser: argparse.ArgumentParser, *, prefix: str) -> Iterator[str]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to list them
        if not action.option_strings:
            continue
        names = ", ".join(f"`{name}`" for name in action.option_strings)
        value = f" `{action.metavar}`" if action.metavar else ""
        if action.choices:
            value = " `" + "\\|".join(map(str, action.choices)) + "`"
        has_variable = action.dest not in ("help", "version")
        variable = f"`{prefix}{action.dest.upper()}`" if has_variable else ""
        yield f"| {names}{value} | {variable} | {action.help} |"


def _farm_page(parser: argparse.ArgumentParser) -> str:
    (commands,) = (
        action
        for action in parser._actions  # noqa: SLF001 - argparse has no public way to list them
        if isinstance(action, argparse._SubParsersAction)  # noqa: SLF001
    )
    common = _options(parser)
    lines = ["# wheelbuild", "", "Before or after any command:", "", *_option_table(common)]
    for name, command in commands.choices.items():
        words = [str(action.metavar or action.dest) for action in _positionals(command)]
        own = {flag: text for flag, text in _options(command).items() if flag not in common}
        lines += ["", f"## {' '.join([name, *words])}", "", str(command.description)]
        lines += ["", *_option_table(own)] if own else []
    lines += ["", "Variables: `WHEELBUILD_DATA` for `--data`, `WHEELBUILD_CACHE` for `--cache`,"]
    lines += ["`WHEELBUILD_INDEX` for `--index`. [Exit codes](exit-codes.md).", ""]
    return "\n".join(lines)


def _positionals(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if not action.option_strings]  # noqa: SLF001


def _options(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Flag with its value -> what it does; `--help` goes without saying."""
    found = {}
    for action in parser._actions:  # noqa: SLF001
        if action.option_strings and action.dest != "help":
            names = ", ".join(f"`{name}`" for name in action.option_strings)
            found[names + (f" `{action.metavar}`" if action.metavar else "")] = str(action.help)
    return found


def _option_table(options: Mapping[str, str]) -> list[str]:
    rows = [f"| {flag} | {text} |" for flag, text in options.items()]
    return ["| flag | what it does |", "|---|---|", *rows]


def _cause_rows() -> Iterator[str]:
    for error in _leaves(InstallError):
        first_line = (error.__doc__ or "").strip().splitlines()[0]
        yield f"| `{error.cause}` | {error.exit_code} | {first_line} |"


def _leaves(error: type[InstallError]) -> Iterator[type[InstallError]]:
    # Kinds of an error that other modules tell apart share its cause word.
    below = [c for c in error.__subclasses__() if c.__module__ == apex_installer.errors.__name__]
    for child in below:
        yield from _leaves(child)
    if not below:
        yield error


def _entry_page() -> str:
    source = Path(entry.__file__).read_text(encoding="utf-8")
    return "\n".join(
        [
            "# Entry and installer's document",
            "",
            "What the index says of one wheel. A reader ignores keys that it does not know. An",
            "entry's own file, `entries/<sha256>.json`, has a `schema` too; one above the reader's",
            f"({entry.SCHEMA}) is refused in one line.",
            "",
            *_fields(source, "Entry"),
            "",
            "Each of `modules`:",
            "",
            *_fields(source, "Module"),
            "",
            "The installer's document, `<index path>/install-<python>.json`, lists every entry of",
            "one index path and Python:",
            "",
            *_fields(source, "Document"),
            "",
        ]
    )


def _report_page() -> str:
    source = Path(report.__file__).read_text(encoding="utf-8")
    outcomes = ", ".join(f"`{outcome}`" for outcome in report.OUTCOMES)
    return "\n".join(
        [
            "# Report",
            "",
            "The JSON account of one install: `--json` prints it on stdout, and it is left as",
            "`apex-install.json` in the temporary directory for readiness probes.",
            f"Outcomes, worst first: {outcomes}.",
            "",
            *_fields(source, "Report"),
            "",
            f"Keys of `environment`: {_environment_keys()}.",
            "",
            "Each of `attempts`:",
            "",
            *_fields(source, "Attempt"),
            "",
            "Each of `refusals`, and `nearest`:",
            "",
            *_fields(source, "Refusal"),
            "",
        ]
    )


def _environment_keys() -> str:
    """What `environment_facts` returns, read from its source: it needs a pod to be called."""
    source = Path(account.__file__).read_text(encoding="utf-8")
    function = next(
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name == "environment_facts"
    )
    made = next(node for node in ast.walk(function) if isinstance(node, ast.Dict))
    return ", ".join(f"`{ast.literal_eval(key)}`" for key in made.keys if key)


def _fields(source: str, name: str) -> Iterator[str]:
    yield "| key | type | meaning |"
    yield "|---|---|---|"
    for field, kind, meaning in parse_fields(source, name):
        yield f"| `{field}` | {kind} | {meaning} |"


def parse_fields(source: str, name: str) -> Iterator[tuple[str, str, str]]:
    """Field, JSON type and attribute docstring of one dataclass, in order."""
    body = next(
        node.body
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == name
    )
    for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        text = str(after.value.value) if told else ""  # type: ignore[attr-defined]
        yield node.target.id, json_type(node.annotation), " ".join(text.split()).replace("|", "\\|")


def json_type(annotation: ast.expr) -> str:
    """What it is in JSON: `Optional[Tuple[str, ...]]` -> list of string or null."""
    if isinstance(annotation, ast.Name):
        return JSON_TYPES.get(annotation.id, "object")
    if not (isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name)):
        raise TypeError(f"no JSON type for {ast.unparse(annotation)}")
    inner = annotation.slice
    if annotation.value.id == "Optional":
        return f"{json_type(inner)} or null"
    if annotation.value.id == "Tuple" and isinstance(inner, ast.Tuple):
        return f"list of {json_type(inner.elts[0])}"
    return "object"


def main() -> None:
    """Write the pages."""
    DOCS.mkdir(parents=True, exist_ok=True)
    for name, text in render_pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
