"""`check --run`: construct and run the required classes, in the app's own interpreter."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any, Dict, Mapping, Tuple

from apex_installer.errors import CheckError
from apex_installer.model.environment import Environment

TAIL = 400
"""Characters of a crashed check's last words that a line shows."""


def run_check(
    module: str, script: str, *, environment: Environment, seconds: float
) -> Mapping[str, Any]:
    """Run one of the recipe's checks in a process of the target's interpreter.

    Returns its JSON: `passed`, `failed`, `first_error`, `gpu`, … or `{"skipped": "no GPU"}`.
    CheckError when it crashed, hung or printed no JSON.
    """
    import subprocess  # noqa: PLC0415 - only this command pays for it

    with tempfile.TemporaryDirectory(prefix="apex-check-") as folder:
        try:
            done = subprocess.run(
                [environment.interpreter.executable, "-c", script],
                cwd=folder,
                env=_environ(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CheckError(f"{module}: the check did not end within {seconds:.0f} s") from error
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    try:
        result: Dict[str, Any] = json.loads(lines[-1])
    except (ValueError, IndexError) as error:
        words = " | ".join(lines)[-TAIL:] or f"exit code {done.returncode}, no output"
        raise CheckError(f"{module}: the check ended without a result: {words}") from error
    return {"module": module, **result}


def run_faults(results: Tuple[Mapping[str, Any], ...]) -> Tuple[str, ...]:
    """One line per check that failed."""
    return tuple(
        f"{result['module']}: {result['failed']} of {result['failed'] + result['passed']} "
        f"checks failed: {result.get('first_error')}"
        for result in results
        if result.get("failed")
    )


def _environ(environment: Environment) -> Dict[str, str]:
    """The app's environment, with the target importable where it is no site directory."""
    environ = dict(os.environ)
    if environment.target not in environment.interpreter.path:
        paths = [environment.target, environ.get("PYTHONPATH", "")]
        environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return environ
