"""Arguments in, words and exit code out. The only place that turns an error into either."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from apex_installer.errors import EXIT_USAGE, InstallError
from wheelbuild import commands, discovery, planning_commands, planning_flags, workflow
from wheelbuild.compiler_cache import NAMES as CACHES
from wheelbuild.errors import EXIT_BUG, EXIT_INPUT, EXIT_STEP, FarmError, UsageError
from wheelbuild.telling import CellFormatter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DESCRIPTION = """\
Compile, test and publish wheels: per Python, torch, CUDA and GPU architecture.

A cell is one thing worth building, such as cp311-torch2.11-cu130-linux_x86_64. Each step prints
the path of its result, which the next one takes; `run` does all of them.
"""
EPILOG = """\
variables: WHEELBUILD_DATA (--data), WHEELBUILD_CACHE (--cache), WHEELBUILD_INDEX (--index),
  WHEELBUILD_STORE (--store), WHEELBUILD_INDEX_URL (--index-url)
exit codes: 0 done; 1 a bug of ours; 2 usage or data; 3 a step failed
"""
INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    common = _common(defaults=False)
    parser = _Parser(
        prog="wheelbuild",
        description=DESCRIPTION,
        epilog=EPILOG,
        parents=[_common(defaults=True)],
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for run, add_flags in _COMMANDS:
        name = run.__name__.removeprefix("run_").replace("_", "-")
        text = (run.__doc__ or "").partition("\n")[0]
        command = found.add_parser(
            name, help=text, description=text, parents=[common], allow_abbrev=False
        )
        for add in add_flags:
            add(command)
        command.set_defaults(run=run)
    return parser


def _common(*, defaults: bool) -> _Parser:
    """Flags that stand before the command or after it; only those before have defaults."""
    common = _Parser(add_help=False, argument_default=None if defaults else argparse.SUPPRESS)
    data, cache = os.environ.get("WHEELBUILD_DATA"), os.environ.get("WHEELBUILD_CACHE")
    given = {"data": Path(data) if data else None, "cache": Path(cache or ".cache")}
    kept = given if defaults else {}
    add = common.add_argument
    add("--data", metavar="DIR", type=Path, help="data folder in place of ours")
    add("--cache", metavar="DIR", type=Path, help="sources, environments, toolkits, work folders")
    add("--json", action="store_true", help="results as JSON on stdout")
    add("-q", "--quiet", action="store_true", help="errors alone")
    add("-v", "--verbose", action="store_true", help="every command that is run")
    common.set_defaults(**kept)
    return common


def _cells(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cells", metavar="CELL", nargs="*", help="label, or the start of some")


def _some_cells(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cells", metavar="CELL", nargs="+", help="label, or the start of some")


def _cell(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cell", metavar="CELL", help="its label")


def _wheel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("wheel", metavar="WHEEL", type=_file)


def _selection(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--only", metavar="NAME", action="append", help="only these modules, groups or classes")
    add("--arch", metavar="LIST", help="only these architectures, e.g. 9.0 or 8.0;9.0+PTX")
    add("--force", action="store_true", help="also what is fresh, and what is known to fail")


def _build(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--source", metavar="DIR", type=Path, help="a checkout in place of the pinned commit")
    add("--python", metavar="PATH", type=Path, help="an interpreter that holds the cell's torch")
    add("--jobs", metavar="N", type=_number, help="compilers at once (default: by CPU and memory)")
    add("--time-limit", metavar="SECONDS", type=_number, help="for each build")
    text = "local, or container: cibuildwheel in --image by podman, else docker (default: local)"
    engines = ("local", "container", "podman", "docker")
    add("--engine", metavar="NAME", choices=engines, default="local", help=text)
    add("--image", metavar="NAME", help="the manylinux image of --engine container")
    text = "compile through sccache, set by SCCACHE_*; publish takes only what a trusted one made"
    add("--compiler-cache", metavar="NAME", choices=CACHES, default="none", help=text)


def _out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="DIR", type=Path, help="folder for the result")


def _policy(parser: argparse.ArgumentParser) -> None:
    text = "what the wheel must be fit for, e.g. manylinux_2_28_x86_64 (default: what is found)"
    parser.add_argument("--policy", metavar="NAME", help=text)


def _job(parser: argparse.ArgumentParser) -> None:
    text = "the job.json it was built from (default: that of the work folder)"
    parser.add_argument("--job", metavar="FILE", type=_file, help=text)


def _test(parser: argparse.ArgumentParser) -> None:
    text = "an interpreter that holds the cell's torch (default: the one it was built with)"
    parser.add_argument("--python", metavar="PATH", type=Path, help=text)


def _on_gpu(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--on-gpu", action="store_true", help="run each module on the GPU")


def _index(parser: argparse.ArgumentParser) -> None:
    default = Path(os.environ.get("WHEELBUILD_INDEX", "dist/index"))
    text = "folder of the index (default: dist/index)"
    parser.add_argument("--index", metavar="DIR", type=Path, default=default, help=text)


def _store(parser: argparse.ArgumentParser) -> None:
    default = os.environ.get("WHEELBUILD_STORE")
    text = "github:OWNER/NAME: wheels in that repository's releases (token: GITHUB_TOKEN)"
    parser.add_argument("--store", metavar="PLACE", default=default, help=text)


def _yank(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--yank", metavar="WHEEL", help="yank this file, so that only an exact pin takes it")
    add("--reason", metavar="TEXT", default="", help="why, for those who meet it")
    add("--unyank", metavar="WHEEL", help="take a yank back")


def _upload(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--to", metavar="URL", help="upload with twine to this index instead")
    add("--force", action="store_true", help="publish a build of the same key again")


def _port(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=8765, help="default: 8765; 0: any free one")


def _refs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("refs", metavar="REF", nargs="*", help="refs of the recipe (default: all)")
    add("--source", metavar="DIR", type=Path, help="a checkout in place of the pinned commit")


def _publish(parser: argparse.ArgumentParser) -> None:
    text = "put them into the index too, below python/simple/"
    parser.add_argument("--publish", action="store_true", help=text)


def _zipapp(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    out = Path("dist/apex-install.pyz")
    add("--out", metavar="FILE", type=Path, default=out, help=f"default: {out}")
    url = os.environ.get("WHEELBUILD_INDEX_URL")
    add("--index-url", metavar="URL", default=url, help="the index it takes when none is named")
    text = "repository whose issue form it names where no wheel fits (https://…/owner/name)"
    add("--repository-url", metavar="URL", type=_address, help=text)


def _made(parser: argparse.ArgumentParser) -> None:
    out = Path("dist/made")
    text = f"folder of what was made (default: {out})"
    parser.add_argument("--out", metavar="DIR", type=Path, default=out, help=text)


def _force(parser: argparse.ArgumentParser) -> None:
    text = "also what the index holds and is fresh"
    parser.add_argument("--force", action="store_true", help=text)


def _for_a_matrix(parser: argparse.ArgumentParser) -> None:
    text = "labels or beginnings, separated by blanks or commas (default: all)"
    parser.add_argument("--cells", metavar="TEXT", default="", help=text)
    text = "first what open issues of --store's repository with the label `wanted` ask for"
    parser.add_argument("--wanted", action="store_true", help=text)


def _gather(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--expect", metavar="JSON", help="cells that must have left a result, as `jobs` says them")
    url = os.environ.get("WHEELBUILD_INDEX_URL")
    add("--index-url", metavar="URL", default=url, help="where the pages are served")


def _direction(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("direction", choices=("fetch", "push"))


def _packed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("zipapp", metavar="FILE", type=_file)


def _write(parser: argparse.ArgumentParser) -> None:
    text = "write the thin part's JSON from the TOML"
    parser.add_argument("--write", action="store_true", help=text)


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text}: no such file")
    return path


def _address(text: str) -> str:
    if not re.fullmatch(r"https://[^\s?#]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an https:// address")
    return text


def _number(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


_COMMANDS: tuple[
    tuple[
        Callable[[argparse.Namespace], int],
        tuple[Callable[[argparse.ArgumentParser], None], ...],
    ],
    ...,
] = (
    (commands.run_matrix, (_cells,)),
    (planning_commands.run_plan, (_cells, _selection, *planning_flags.PLAN)),
    (discovery.run_discover, (*planning_flags.DISCOVER, _store)),
    (commands.run_build, (_cell, _selection, _build, _index)),
    (commands.run_repair, (_wheel, _policy, _out)),
    (commands.run_stamp, (_wheel, _job, _out)),
    (commands.run_test, (_wheel, _test, _on_gpu)),
    (commands.run_publish, (_wheel, _upload, _index, _store)),
    (
        commands.run_run,
        (_some_cells, _selection, _build, _policy, _on_gpu, _index, _store, *planning_flags.RUN),
    ),
    (commands.run_index, (_index, _yank)),
    (planning_commands.run_coverage, planning_flags.COVERAGE),
    (planning_commands.run_evidence, planning_flags.EVIDENCE),
    (commands.run_serve, (_index, _port)),
    (commands.run_python_only, (_refs, _publish, _index, _store)),
    (commands.run_sources, (_refs, _index)),
    (commands.run_zipapp, (_zipapp, _store)),
    (commands.run_demo, (_build,)),
    (workflow.run_jobs, (_for_a_matrix, _force, _index, _store)),
    (workflow.run_make, (_cell, _made, _force, _build, _index)),
    (workflow.run_prove, (_made, _force, _index)),
    (workflow.run_gather, (_made, _gather, _force, _index, _store)),
    (workflow.run_pages, (_direction, _index, _store)),
    (workflow.run_release_installer, (_packed, _store)),
    (commands.run_data, (_write,)),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code says whose move is next."""
    try:
        arguments = build_parser().parse_args(argv)
        _configure_logging(quiet=arguments.quiet, verbose=arguments.verbose)
        code: int = arguments.run(arguments)
    except FarmError as error:
        return _say(error, error.exit_code)
    except InstallError as error:
        return _say(error, EXIT_INPUT if error.exit_code == EXIT_USAGE else EXIT_STEP)
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _say(_os_error_line(error), EXIT_STEP)
    except Exception as error:  # noqa: BLE001 - a bug of ours ends in one line, too
        return _say(f"a bug of ours: {error!r} (log: {_write_bug()})", EXIT_BUG)
    return code


def _say(what: object, code: int) -> int:
    for line in str(what).splitlines():
        sys.stderr.write(f"wheelbuild: {line}\n")
    return code


def _os_error_line(error: OSError) -> str:
    """A file or a disk that does not do: the machine's fault or the command line's, not ours."""
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{error.strerror or error} (log: {_write_bug()})"


def _configure_logging(*, quiet: bool, verbose: bool) -> None:
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(CellFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("wheelbuild").setLevel(level)


def _write_bug() -> str:
    with tempfile.NamedTemporaryFile(
        "w", prefix="wheelbuild-bug-", suffix=".log", delete=False
    ) as file:
        traceback.print_exc(file=file)
    return file.name


if __name__ == "__main__":
    sys.exit(main())
