"""What a step tells GitHub's runner, by files that variables name; at home there are none."""

from __future__ import annotations

import os
from pathlib import Path


def append_summary(text: str) -> None:
    """Markdown for the run's page."""
    _append("GITHUB_STEP_SUMMARY", text)


def append_output(name: str, value: str) -> None:
    """A value of one line, for later jobs."""
    _append("GITHUB_OUTPUT", f"{name}={value}\n")


def _append(variable: str, text: str) -> None:
    if path := os.environ.get(variable):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
