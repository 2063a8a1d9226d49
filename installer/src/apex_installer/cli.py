"""Arguments in, words and exit code out. The only place that turns an error into either."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any, Callable, List, Mapping, NoReturn, Optional, Sequence, Tuple

import apex_installer
from apex_installer import data
from apex_installer.account import Account
from apex_installer.errors import EXIT_BUG, EXIT_USAGE, InstallError, UsageError
from apex_installer.model.report import AT_LEAST, Report
from apex_installer.model.request import Request
from apex_installer.watchdog import Watchdog

COMMANDS = ("install", "doctor", "check", "prefetch", "remove")
PREFIX = "APEX_INSTALL_"
BACKGROUND = f"{PREFIX}BACKGROUND"
"""Not a flag: who sets it owns the pod, and knows that a process stays behind."""
TRUE, FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")

WIDTH = 100

EPILOG = """\
Every flag has a variable: --index-url is APEX_INSTALL_INDEX_URL; a flag wins over its variable.
After -- stands the app's own command; it is read only to find the interpreter.
exit codes: 0 usable, at or above --at-least; 1 a bug of ours; 2 usage; 3 nothing good enough
"""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Of one width: to ask the terminal for its own would import `shutil` at every start."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=WIDTH)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see apex-install --help")


def build_parser() -> argparse.ArgumentParser:
    """The parser; docs and tests read the closed list of flags from it."""
    parser = _Parser(
        prog="apex-install",
        description="Put the one Apex that fits this pod into place.",
        epilog=EPILOG,
        allow_abbrev=False,
        formatter_class=_Formatter,
    )
    add = parser.add_argument
    # No `choices`: a misspelt flag's value would be refused in its place.
    add("command", nargs="?", default="install", help=f"{', '.join(COMMANDS)} (default: install)")
    add("subject", nargs="?", help="with doctor: a module, package, wheel or URL to examine")
    add("--index-url", metavar="URL", help="index to take wheels from (https, file or loopback)")
    add("--pypi-url", metavar="URL", help="simple index for what comes from PyPI (default: pip's)")
    add("--cuda-mirror", metavar="URL", help="in place of NVIDIA's address for CUDA archives")
    add("--allow-http", action="store_true", help="take an index over plain http too")
    add("--python", metavar="PATH", help="interpreter that the app runs with")
    add("--target", metavar="DIR", help="directory to install into (default: where torch is)")
    add("--cache-dir", metavar="DIR", help="cache of wheels (default: the volume, else XDG)")
    add("--require", metavar="NAME", action="append", help="class, module or group that must work")
    add("--at-least", choices=AT_LEAST, help="worse outcomes are not tried (default: python-only)")
    add("--offline", action="store_true", help="ask no server; a file:// index still counts")
    add("--dry-run", action="store_true", help="say what would be done, change nothing")
    add("--gpu", metavar="LIST", help="count these as the GPUs, e.g. 8.0,8.6 (to bake an image)")
    add("--deadline", metavar="SECONDS", help="for everything but compiling (default: 60)")
    add("--compile-timeout", metavar="SECONDS", help="for a compile (default: 600; 0: never)")
    add("--toolkit", metavar="HOW", help="auto, apt, archive, pypi or a folder (default: auto)")
    add("--toolkits", metavar="FILE", help="pins of CUDA toolkits in place of the carried ones")
    add("--source", metavar="DIR", help="a checkout, or an archive of one, to compile")
    add("--keep-foreign", action="store_true", help="never touch an Apex that we did not install")
    add("--replace-foreign", action="store_true", help="replace any Apex that we did not install")
    add("--run", action="store_true", help="with check: construct and run what is required")
    add("--json", action="store_true", help="print the report as JSON on stdout")
    add("-q", "--quiet", action="store_true", help="the last line only")
    add("-v", "--verbose", action="store_true", help="every step")
    add("--version", action="version", version=f"apex-install {apex_installer.__version__}")
    return parser


def parse_words(words: Sequence[str]) -> argparse.Namespace:
    """The words before `--`; with `doctor`, flags may stand before its subject, too."""
    parser = build_parser()
    # It goes over the words twice, which a start need not pay for.
    parse = parser.parse_intermixed_args if "doctor" in words else parser.parse_args
    return parse(list(words))


def join_variables(
    arguments: argparse.Namespace, environ: Mapping[str, str]
) -> Tuple[Mapping[str, Any], List[str]]:
    """Fill what no flag gave from APEX_INSTALL_<FLAG>; faults of all variables at once."""
    joined, faults = dict(vars(arguments)), []
    for name, value in vars(arguments).items():
        text = environ.get(PREFIX + name.upper())
        if name in ("command", "subject") or text is None or value not in (None, False):
            continue
        if value is False:
            if text.lower() not in (*TRUE, *FALSE):
                faults.append(f"{PREFIX}{name.upper()}={text!r} is neither 1 nor 0")
            joined[name] = text.lower() in TRUE
        elif text:
            joined[name] = text.split(",") if name == "require" else text
    background = environ.get(BACKGROUND, "").lower()
    if background not in (*TRUE, *FALSE):
        faults.append(f"{BACKGROUND}={background!r} is neither 1 nor 0")
    joined["background"] = background in TRUE
    return joined, faults


def build_request(values: Mapping[str, Any], app: Tuple[str, ...], faults: List[str]) -> Request:
    """Flags and variables to a request; UsageError lists every fault."""
    if values["command"] not in COMMANDS:
        faults.append(f"{values['command']!r} is none of the commands {', '.join(COMMANDS)}")
    elif values["subject"] is not None and values["command"] != "doctor":
        faults.append(f"{values['subject']!r}: only doctor takes something to examine")
    at_least = values["at_least"] or AT_LEAST[0]
    if at_least not in AT_LEAST:
        faults.append(f"--at-least {at_least!r} is none of {', '.join(AT_LEAST)}")
    deadline = _seconds(values["deadline"], "--deadline", Request.deadline, faults)
    compile_timeout = _seconds(
        values["compile_timeout"], "--compile-timeout", Request.compile_timeout, faults, least=0
    )
    if values["keep_foreign"] and values["replace_foreign"]:
        faults.append("--keep-foreign and --replace-foreign exclude each other")
    if values["run"] and values["command"] != "check":
        faults.append("--run belongs to check")
    if faults:
        raise UsageError("; ".join(faults))
    require = [word.strip() for group in values["require"] or () for word in group.split(",")]
    return Request(
        index_url=values["index_url"] or _default_index_url(),
        allow_http=values["allow_http"],
        python=values["python"],
        target=values["target"],
        cache_dir=values["cache_dir"],
        require=tuple(word for word in require if word),
        at_least=at_least,
        offline=values["offline"],
        dry_run=values["dry_run"],
        gpu=values["gpu"],
        deadline=deadline,
        compile_timeout=compile_timeout,
        source=values["source"],
        toolkit=values["toolkit"],
        toolkits=values["toolkits"],
        cuda_mirror=values["cuda_mirror"],
        pypi_url=values["pypi_url"],
        background=values["background"],
        keep_foreign=values["keep_foreign"],
        replace_foreign=values["replace_foreign"],
        app=app,
    )


def _seconds(
    text: Optional[str], flag: str, default: float, faults: List[str], *, least: float = 1e-9
) -> float:
    try:
        seconds = float(text) if text else default
    except ValueError:
        seconds = -1.0
    if not least <= seconds < float("inf"):
        kind = "a number of seconds" if least == 0 else "a number of seconds above 0"
        faults.append(f"{flag} {text!r} is not {kind}")
    return seconds


def _default_index_url() -> Optional[str]:
    defaults: Mapping[str, str] = json.loads(data.read("defaults.json") or "{}")
    return defaults.get("index_url")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command; the last line on stderr is greppable, the code is documented."""
    _fill_standard_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    app: Tuple[str, ...] = ()
    if "--" in words:
        cut = words.index("--")
        words, app = words[:cut], tuple(words[cut + 1 :])
    try:
        values, faults = join_variables(parse_words(words), os.environ)
        request = build_request(values, app, faults)
    except UsageError as error:
        _print_last(f"none (usage: {error})")
        return EXIT_USAGE
    return _run(request, values)


def _fill_standard_streams() -> None:
    """A pod may start us without some: what we open must not take a number below 3 then.

    And without a stderr our lines would go to stdout, which is the app's.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - to the end


def _run(request: Request, values: Mapping[str, Any]) -> int:
    say: Callable[[str], None] = _print_line if values["verbose"] else _ignore
    announce: Callable[[str], None] = _ignore if values["quiet"] else _print_line
    account = Account(say=say, announce=announce)
    lines: Tuple[str, ...] = ()
    try:
        report, lines = _dispatch(request, values, account)
    except InstallError as error:
        account.fail(values["command"], error)
        report = account.close("none", f"none ({error.cause}: {error})", error=error)
    except Exception as error:  # noqa: BLE001 - a bug must not keep the container from starting
        path = _write_bug()
        report = account.close("none", f"none (bug: {error!r}; log: {path})")
        _write_status(report, exit_code=EXIT_BUG, command=values["command"])
        _print_last(report.line)
        return EXIT_BUG
    _write_status(report, exit_code=report.exit_code, command=values["command"])
    if values["json"]:
        print(json.dumps(report.to_json(), indent=1))
    for line in () if values["quiet"] or values["json"] else lines:
        print(line)
    if not (values["quiet"] or values["verbose"]):
        for finding in report.findings:
            _print_line(finding)
    _print_last(report.line)
    return report.exit_code


def _dispatch(
    request: Request, values: Mapping[str, Any], account: Account
) -> Tuple[Report, Tuple[str, ...]]:
    command = values["command"]
    if command == "install":
        from apex_installer.flow import install  # noqa: PLC0415 - pods pay for every import

        with Watchdog(request.deadline + request.compile_timeout):
            return install(request, environ=os.environ, account=account), ()
    if command == "prefetch":
        from apex_installer.prefetch import prefetch  # noqa: PLC0415 - the same

        return prefetch(request, environ=os.environ, account=account), ()
    from apex_installer import commands  # noqa: PLC0415 - the same

    if command == "doctor":
        subject = values["subject"]
        return commands.doctor(request, subject, environ=os.environ, account=account)
    if command == "check":
        run = bool(values["run"])
        return commands.check(request, environ=os.environ, account=account, run=run), ()
    return commands.remove(request, environ=os.environ, account=account), ()


def _print_line(line: str) -> None:
    print(f"apex: {line}", file=sys.stderr)


def _print_last(line: str) -> None:
    print(f"apex: {' '.join(line.split())}", file=sys.stderr, flush=True)


def _ignore(line: str) -> None:
    """Drop a line that nobody asked for."""


def _write_status(report: Report, *, exit_code: int, command: str) -> None:
    """Leave the report in the temporary directory for readiness probes; never a reason to fail.

    `doctor` leaves none: whoever examines something in a pod that runs says nothing of the pod.
    """
    if command == "doctor":
        return
    folder = _temporary_directory()
    part = os.path.join(folder, f"apex-install-{os.getpid()}-{os.urandom(4).hex()}.part")
    try:
        # O_EXCL follows no link that somebody put there, and the rename replaces one.
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps({**report.to_json(), "exit_code": exit_code}))
        os.replace(part, os.path.join(folder, "apex-install.json"))
    except OSError:
        return


def _write_bug() -> str:
    import traceback  # noqa: PLC0415 - only on a bug

    path = os.path.join(_temporary_directory(), f"apex-install-bug-{os.urandom(4).hex()}.log")
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            traceback.print_exc(file=file)
    except OSError as error:
        return f"not written: {error}"
    return path


def _temporary_directory() -> str:
    """As `tempfile.gettempdir` in all that matters to a pod; that module costs 10 ms."""
    return os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - what is written there is O_EXCL
