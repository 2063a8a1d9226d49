"""Lint, types, shell and workflows: what a reviewer should not have to look for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parent.parent.parent
SHELL = ("farm", "run.sh", ".ci/run", ".ci/check-image", ".ci/push-image")
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def assert_clean(*command: str) -> None:
    environ = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def test_ruff_finds_nothing(requires_tool: Callable[[str], str]) -> None:
    assert_clean(requires_tool("ruff"), "check", "--no-cache", ".")


def test_the_code_is_formatted(requires_tool: Callable[[str], str]) -> None:
    assert_clean(requires_tool("ruff"), "format", "--no-cache", "--check", ".")


def test_the_types_hold(tmp_path: Path) -> None:
    assert_clean(sys.executable, "-m", "mypy", f"--cache-dir={tmp_path}")


def test_shellcheck_finds_nothing(requires_tool: Callable[[str], str]) -> None:
    assert_clean(requires_tool("shellcheck"), *SHELL)


def test_zizmor_finds_nothing(requires_tool: Callable[[str], str]) -> None:
    zizmor = requires_tool("zizmor")
    assert_clean(zizmor, "--offline", "--no-progress", "--persona", "auditor", *map(str, WORKFLOWS))


def test_the_workflows_fit_their_schema(requires_tool: Callable[[str], str]) -> None:
    check = requires_tool("check-jsonschema")
    assert_clean(check, "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS))


def test_the_issue_forms_fit_their_schema(requires_tool: Callable[[str], str]) -> None:
    check = requires_tool("check-jsonschema")
    assert FORMS
    assert_clean(check, "--builtin-schema", "vendor.github-issue-forms", *map(str, FORMS))


def test_actionlint_finds_nothing(requires_tool: Callable[[str], str]) -> None:
    assert_clean(requires_tool("actionlint"), *map(str, WORKFLOWS))
