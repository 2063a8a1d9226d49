"""Every way the farm can fail: one tree; the exit code says whose move is next.

    FarmError               1   our bug: nobody should ever see one that is nothing more
    ├── InputError          2   something that was given makes no sense; nothing was started
    │   ├── UsageError          flags, variables or names on the command line
    │   └── DataError           recipe, matrix, toolkits: every fault, with file, line and key
    └── StepError           3   a step was started and failed
        ├── SourceError         the recipe's source could not be had, or is another commit
        ├── CellError           the cell's interpreter, torch or toolkit could not be had
        ├── BuildError          capture, compile, link or pack failed
        ├── RepairError         auditwheel, strip or the loader's path
        ├── StampError          the wheel's metadata could not be written
        ├── TestError           a built wheel is not what its cell promises
        ├── PublishError        the index holds something else, or refused
        ├── IndexReadError      a live index, or upstream's, could not be read
        ├── WheelError          a file that should be a wheel is not one
        └── CommandError        an external program failed, or ran out of its time

The codes are documented in `docs/reference/exit-codes.md`. Only `cli` turns an error into words
and a code. What the thin part raises (`apex_installer.errors`) keeps its own class: its exit code
2 stays 2, every other one counts as a failed step.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_BUG = 1
EXIT_INPUT = 2
EXIT_STEP = 3


class FarmError(Exception):
    """A failure; the text says what, where and what to do, one line per fault."""

    exit_code = EXIT_BUG


class InputError(FarmError):
    """Something that was given makes no sense; nothing was started."""

    exit_code = EXIT_INPUT


class UsageError(InputError):
    """Flags, variables or names on the command line."""


class DataError(InputError):
    """Recipe, matrix or toolkits; one line per fault: file, line, key, what is wrong."""


class StepError(FarmError):
    """A step was started and failed; its log says more."""

    exit_code = EXIT_STEP


class SourceError(StepError):
    """The recipe's source could not be had, or is not the pinned commit."""


class CellError(StepError):
    """The cell's interpreter, torch or toolkit could not be had."""


class BuildError(StepError):
    """Capture, compile, link or pack failed."""


class RepairError(StepError):
    """The wheel could not be made to claim what it needs, or held what it must not."""


class StampError(StepError):
    """The wheel's metadata could not be written."""


class TestError(StepError):
    """A built wheel is not what its cell promises."""

    __test__ = False  # pytest would take a class of this name for a test


class PublishError(StepError):
    """The index holds something else under that name, or refused."""


class IndexReadError(StepError):
    """A live index, or upstream's, could not be read, or is none."""


class WheelError(StepError):
    """A file that should be a wheel is not one, or not a sound one."""


class CommandError(StepError):
    """An external program failed, or ran out of its time."""
