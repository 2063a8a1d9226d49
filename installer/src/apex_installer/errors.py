"""Every way an install can fail: one tree, each error knows its cause word and exit code.

    InstallError
    ├── UsageError        usage        2   flags, variables or configuration that make no sense
    ├── NoTorchError      no-torch     3   no interpreter with a torch was found
    ├── NoWheelError      no-wheel     3   the index holds nothing that fits
    ├── DownloadError     download     3   could not be had: network, disk, server
    ├── TrustError        trust        3   bytes are not what was promised
    ├── ToolkitError      toolkit      3   no CUDA toolkit equal to torch's, or no host compiler
    ├── CompileError      compile      3   the compiler or linker failed
    ├── CheckError        check        3   the symbol check, or the check of an install, failed
    ├── DeadlineError     deadline     3   the time budget ran out
    ├── TargetError       target       3   the target cannot be written or is not ours
    └── RequirementError  requirement  3   a package that Apex needs at run time is missing

The exit codes are those of the command line: 0 usable, 1 our bug, 2 usage or configuration,
3 nothing good enough. Only `cli` turns an error into words and a code.
"""

from __future__ import annotations

EXIT_USABLE = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_NOTHING_GOOD_ENOUGH = 3


class InstallError(Exception):
    """A failure with a cause word for the report; the text is one line: what, where, what to do."""

    cause = "bug"
    exit_code = EXIT_BUG


class UsageError(InstallError):
    """Flags, variables or configuration that make no sense."""

    cause = "usage"
    exit_code = EXIT_USAGE


class NothingGoodEnoughError(InstallError):
    """The parent of all that end with exit code 3."""

    exit_code = EXIT_NOTHING_GOOD_ENOUGH


class NoTorchError(NothingGoodEnoughError):
    """No interpreter with a torch was found."""

    cause = "no-torch"


class NoWheelError(NothingGoodEnoughError):
    """The index holds nothing that fits."""

    cause = "no-wheel"


class DownloadError(NothingGoodEnoughError):
    """Something could not be had: network, server or disk."""

    cause = "download"


class TrustError(NothingGoodEnoughError):
    """Bytes are not what was promised; they are never installed."""

    cause = "trust"


class ToolkitError(NothingGoodEnoughError):
    """No CUDA toolkit equal to torch's, or no host compiler that it accepts."""

    cause = "toolkit"


class CompileError(NothingGoodEnoughError):
    """The compiler or the linker failed."""

    cause = "compile"


class CheckError(NothingGoodEnoughError):
    """The symbol check, or the check of an installed Apex, failed."""

    cause = "check"


class DeadlineError(NothingGoodEnoughError):
    """The time budget ran out."""

    cause = "deadline"


class TargetError(NothingGoodEnoughError):
    """The place to install into cannot be written, or what is there is not ours to replace."""

    cause = "target"


class RequirementError(NothingGoodEnoughError):
    """A package that Apex needs at run time is missing; exit code 0 where only a part needs it.

    `breaks_import`: whether `import <package>` itself fails without it.
    """

    cause = "requirement"

    def __init__(self, line: str, *, breaks_import: bool) -> None:
        super().__init__(line)
        self.breaks_import = breaks_import
