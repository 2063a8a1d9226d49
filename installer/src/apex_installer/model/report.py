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
    reason: str


@dataclass(frozen=True)
class Attempt:
    """One outcome that was tried and did not come to be."""

    outcome: str
    cause: str
    """A cause word of `errors`."""
    detail: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """What happened, for people, probes and other programs."""

    outcome: str
    exit_code: int
    line: str
    """The last line on stderr, without its `apex: `."""
    version: str
    """Of apex-install."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    chosen: Optional[Mapping[str, Any]] = None
    """The entry that was installed or would be (`--dry-run`)."""
    degraded: bool = False
    foreign: bool = False
    signed: bool = False
    dry_run: bool = False
    refusals: Tuple[Refusal, ...] = ()
    nearest: Optional[Refusal] = None
    attempts: Tuple[Attempt, ...] = ()
    findings: Tuple[str, ...] = ()
    """One line each: missing requirements, hidden GPUs, a cache that dies with the pod."""
    evidence: Tuple[Mapping[str, Any], ...] = ()
    """Results of `check --run`, one per module."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Per step, in order; `total` last."""
    bytes: Mapping[str, int] = field(default_factory=dict)
    """`downloaded`, `installed`."""
    schema: int = SCHEMA

    def to_json(self) -> Dict[str, Any]:
        """Plain values only."""
        return asdict(self)
