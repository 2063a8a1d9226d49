"""What is missed: cells for which pods found no wheel, counted from a file of JSON lines. Pure.

A line is an installer's report (`apex-install --json`), or an issue of the form "want this wheel?"
as `gh issue list --json title,body` prints it; a list of either counts as its members.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from apex_installer.errors import UsageError as CellError
from apex_installer.model.cell import Cell
from wheelbuild.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_LABEL = re.compile(r"\bcp3\d+t?-torch\d+\.\d+-cu\d{3}(?:-[a-z]+_[a-z0-9_]+)?\b")
_CUDA = re.compile(r"(\d+)\.(\d)")
_TORCH = re.compile(r"(\d+)\.(\d+)\.")


def count_misses(lines: Iterable[str], *, where: str) -> Counter[str]:
    """Cell's label -> how often it was missed; UsageError names the first line that is neither.

    A report counts where no wheel fitted; one that found a wheel, could not reach the index or
    has no torch with CUDA counts for nothing.
    """
    found: Counter[str] = Counter()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.update(cell.label for one in _members(json.loads(line)) if (cell := _cell(one)))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(
                f"{where}:{number}: neither a report of apex-install nor an issue with title and "
                f"body, as JSON in one line: {error}"
            ) from error
    return found


def _members(value: Any) -> Iterator[Mapping[str, Any]]:
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, dict):
            raise TypeError(f"{type(one).__name__} where an object is wanted")
        yield one


def _cell(one: Mapping[str, Any]) -> Cell | None:
    if "outcome" in one:
        return _missed_by_pod(one)
    if "title" not in one and "body" not in one:
        raise ValueError("it has no outcome, title or body")
    return _asked_for(f"{one.get('title') or ''}\n{one.get('body') or ''}")


def _missed_by_pod(report: Mapping[str, Any]) -> Cell | None:
    causes = {(one.get("outcome"), one.get("cause")) for one in report.get("attempts") or ()}
    environment = report.get("environment") or {}
    torch = _TORCH.match(environment.get("torch") or "")
    cuda = _CUDA.fullmatch(environment.get("cuda") or "")
    if ("wheel", "no-wheel") not in causes or not (torch and cuda):
        return None
    platform = re.sub(r"[-.]", "_", environment.get("platform") or "linux_x86_64")
    label = f"{environment.get('python_tag')}-torch{torch[1]}.{torch[2]}-cu{cuda[1]}{cuda[2]}"
    return _parse(f"{label}-{platform}")


def _asked_for(text: str) -> Cell | None:
    """The first cell that an issue names; people write the platform or not."""
    match = _LABEL.search(text)
    if match is None:
        return None
    return _parse(match[0]) or _parse(f"{match[0]}-linux_x86_64")


def _parse(label: str) -> Cell | None:
    try:
        return Cell.parse(label)
    except CellError:
        return None
