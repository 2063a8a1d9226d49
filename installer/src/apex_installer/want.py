"""The link that asks a farm for a wheel: an issue form, filled in. Pure; nothing is sent."""

from __future__ import annotations

from typing import Sequence

from apex_installer.model.environment import Environment

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
