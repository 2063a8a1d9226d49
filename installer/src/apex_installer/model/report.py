"""The report: the JSON account of one install, and the one line that people grep."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from apex_installer.values import asdict, dataclass, field

SCHEMA = 1

OUTCOMES = ("none", "python-only", "compiled", "wheel", "already")
"""How Apex got there, worst first."""

AT_LEAST = ("python-only", "compiled", "wheel")
"""What `--at-least` takes, lowest first."""


@dataclass(frozen=True)
class Refusal:
    """One entry that was not taken, and why, in words a user can act on."""

    file: str
    """File name of the wheel."""
    reason: str
    """Every reason, with `; ` between."""


@dataclass(frozen=True)
class Attempt:
    """One outcome that was tried and did not come to be."""

    outcome: str
    """Which one."""
    cause: str
    """A cause word of `errors`."""
    detail: str
    """The error's own line: what, where, what to do."""
    seconds: float = 0.0
    """Spent on it."""


@dataclass(frozen=True)
class Report:
    """What happened, for people, probes and other programs."""

    outcome: str
    """How Apex got there, one of those above."""
    exit_code: int
    """That apex-install ended with."""
    line: str
    """The last line on stderr, without its `apex: `."""
    version: str
    """Of apex-install."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """What was read of the pod; empty where no torch was found."""
    chosen: Optional[Mapping[str, Any]] = None
    """The entry that was installed or would be (`--dry-run`); of `check`, what is there, without
    its `url`."""
    degraded: bool = False
    """Whether what is there is Python-only."""
    foreign: bool = False
    """Whether it was there already and not installed by apex-install."""
    cache: Mapping[str, Any] = field(default_factory=dict)
    """`directory`, `why` it is that one, `outlives_pod` as far as can be known; empty where it was
    not asked."""
    signed: bool = False
    """Whether the index proved who it is; none can yet."""
    dry_run: bool = False
    """Whether nothing was changed because `--dry-run` asked for that."""
    refusals: Tuple[Refusal, ...] = ()
    """Every entry that does not fit, with the reason."""
    nearest: Optional[Refusal] = None
    """The one of them with the fewest reasons."""
    attempts: Tuple[Attempt, ...] = ()
    """Every outcome that was tried and did not come to be."""
    findings: Tuple[str, ...] = ()
    """One line each: missing requirements, hidden GPUs, a cache that dies with the pod."""
    evidence: Tuple[Mapping[str, Any], ...] = ()
    """Results of `check --run`, one per module."""
    examined: Tuple[Mapping[str, Any], ...] = ()
    """What `doctor SUBJECT` read, one per module and library."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Per step, in order; `total` last."""
    bytes: Mapping[str, int] = field(default_factory=dict)
    """`downloaded`, `installed`."""
    schema: int = SCHEMA
    """Of this account; a higher one may mean other things by the same keys."""

    def to_json(self) -> Dict[str, Any]:
        """Plain values only."""
        return asdict(self)
