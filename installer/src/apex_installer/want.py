"""The link that asks a farm for a wheel: an issue form, filled in. Pure; nothing is sent."""

from __future__ import annotations

import json
from typing import Mapping, Optional, Sequence

from apex_installer.model.environment import Environment
from apex_installer.model.report import Attempt

FORM = "want-this-wheel.yml"
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
"""RFC 3986, 2.3: what needs no quoting anywhere."""


def quote(text: str) -> str:
    """As a value of a query; urllib.parse would cost a start 20 ms."""
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in text.encode("utf-8"))


def want_url(repository_url: str, environment: Environment, modules: Sequence[str]) -> str:
    """The address of the form, with the cell, the GPUs, torch and the required modules in it."""
    cell = environment.cell
    label = cell.label if cell else ""
    fields = {
        "template": FORM,
        "title": f"Want this wheel: {label}",
        "cell": label,
        "gpu": environment.gpu_text,
        "torch": environment.torch.version,
        "modules": ", ".join(modules),
    }
    query = "&".join(f"{name}={quote(value)}" for name, value in fields.items())
    return f"{repository_url.rstrip('/')}/issues/new?{query}"


def want_line(
    defaults: Optional[str],
    environment: Environment,
    modules: Sequence[str],
    attempts: Sequence[Attempt],
) -> Optional[str]:
    """The line for people; None where there is no farm to ask, or nothing to ask it for.

    `defaults` is the text of `data/defaults.json`. Only a miss is worth a wheel: not an index that
    cannot be reached, and not a wheel that is there and bad.
    """
    baked: Mapping[str, str] = json.loads(defaults or "{}")
    causes = {attempt.cause for attempt in attempts if attempt.outcome == "wheel"}
    if not baked.get("repository_url") or environment.cell is None or causes != {"no-wheel"}:
        return None
    return f"want this wheel? {want_url(baked['repository_url'], environment, modules)}"
