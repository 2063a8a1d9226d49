"""The workflows, run on this machine by `act`, with a GitHub of ours and no network.

Actions are stubs of a few lines: a checkout copies the repository, artifacts are folders. `farm` is
our own Python instead of a virtual environment per job; the launcher has tests of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from support.fake_github import REPOSITORY as NAME
from support.machine import REPOSITORY as SOURCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.fake_github import FakeGitHub

_CHECKOUT = 'test -e farm || cp -a "$STUB_REPOSITORY/." .'
_UPLOAD = """\
mkdir -p "$STUB_ARTIFACTS/${{ inputs.name }}"
test ! -e "${{ inputs.path }}" || cp -a "${{ inputs.path }}/." "$STUB_ARTIFACTS/${{ inputs.name }}/"
"""
_DOWNLOAD = """\
mkdir -p "${{ inputs.path }}"
for one in "$STUB_ARTIFACTS"/${{ inputs.pattern }}; do
  test ! -d "$one" || cp -a "$one/." "${{ inputs.path }}/"
done
"""
_STUBS = {
    "actions/checkout": _CHECKOUT,
    "actions/setup-python": "true",
    "actions/upload-artifact": _UPLOAD,
    "actions/download-artifact": _DOWNLOAD,
    "actions/attest": 'ls ${{ inputs.subject-path }} >>"$STUB_ATTESTED"',
}
_FARM = """\
#!/bin/sh
export {variables}
echo "$*" >>"$STUB_COMMANDS"
exec {python} -m wheelbuild "$@"
"""


@dataclass
class Ran:
    code: int
    said: str
    summary: str
    commands: list[str] = field(default_factory=list)
    """What `./farm` was called with."""


@dataclass
class Workflows:
    """One repository with the project's workflows."""

    act: str
    folder: Path
    github: FakeGitHub
    data: Path
    environ: dict[str, str]
    """For the farm's commands."""

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    def prepare(self) -> None:
        shutil.copytree(SOURCE / ".github/workflows", self.repository / ".github/workflows")
        (self.folder / "home/.config/act").mkdir(parents=True)
        (self.folder / "home/.config/act/actrc").touch()
        for name, script in _STUBS.items():
            self._write_stub(name, script)
        variables = {**self.environ, **self.github.environ()}
        variables |= {"WHEELBUILD_DATA": str(self.data)}
        variables |= {"GITHUB_STEP_SUMMARY": str(self.folder / "summary.md")}
        variables["PYTHONPATH"] = f"{SOURCE}:{SOURCE / 'installer/src'}"
        words = " ".join(f"{name}='{value}'" for name, value in variables.items())
        farm = self.repository / "farm"
        farm.write_text(_FARM.format(variables=words, python=sys.executable))
        farm.chmod(0o755)
        git = ["git", "-C", str(self.repository)]
        who = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", "init", "-q", "-b", "main", str(self.repository)], check=True)
        origin = f"https://github.com/{NAME}.git"
        subprocess.run([*git, "remote", "add", "origin", origin], check=True)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, *who, "commit", "-q", "-m", "first"], check=True)
        subprocess.run([*git, "push", "-q", str(self.github.git), "main"], check=True)

    def run(
        self,
        event: str,
        workflow: str,
        *,
        variables: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
        **inputs: str,
    ) -> Ran:
        """`variables` are the repository's, `environ` is what the runners have."""
        artifacts = self.folder / "artifacts"
        shutil.rmtree(artifacts, ignore_errors=True)
        noted = [self.folder / name for name in ("summary.md", "commands", "attested")]
        for path in noted:
            path.unlink(missing_ok=True)
        words = [self.act, event, "-W", f".github/workflows/{workflow}", "--pull=false"]
        labels = {"ubuntu-24.04", "ubuntu-22.04"}
        for name, value in (variables or {}).items():
            words += ["--var", f"{name}={value}"]
            labels |= {value} if name.endswith("_RUNNER") else set()
        for label in sorted(labels):
            words += ["-P", f"{label}=-self-hosted"]
        words += ["-s", f"GITHUB_TOKEN={self.github.environ()['GITHUB_TOKEN']}"]
        for name, value in inputs.items():
            words += ["--input", f"{name}={value}"]
        known = {
            **(environ or {}),
            "STUB_REPOSITORY": str(self.repository),
            "STUB_ARTIFACTS": str(artifacts),
            "STUB_COMMANDS": str(noted[1]),
            "STUB_ATTESTED": str(noted[2]),
        }
        for name, value in known.items():
            words += ["--env", f"{name}={value}"]
        text = (self.repository / ".github/workflows" / workflow).read_text()
        for name in sorted(set(re.findall(r"uses: (\S+@\S+)", text))):
            stub = self.folder / "stubs" / name.partition("@")[0]
            words += ["--local-repository", f"{name}={stub}"]
        home = {**os.environ, "HOME": str(self.folder / "home"), "NO_COLOR": "1"}
        done = subprocess.run(
            words, cwd=self.repository, env=home, capture_output=True, text=True, check=False
        )
        summary, commands = (path.read_text() if path.exists() else "" for path in noted[:2])
        said = f"{done.stdout}\n{done.stderr}"
        return Ran(done.returncode, said, summary, commands.splitlines())

    def _write_stub(self, name: str, script: str) -> None:
        folder = self.folder / "stubs" / name
        folder.mkdir(parents=True)
        names = sorted(set(re.findall(r"inputs\.([a-z-]+)", script)))
        inputs = "".join(f"  {one}:\n    required: false\n" for one in names)
        body = "".join(f"        {line}\n" for line in script.splitlines())
        head = f"name: stub\ndescription: stub\n{f'inputs:{chr(10)}{inputs}' if inputs else ''}"
        runs = "runs:\n  using: composite\n  steps:\n    - shell: sh\n      run: |\n"
        (folder / "action.yml").write_text(f"{head}{runs}{body}")


def lend_environment(source: Path, folder: Path) -> None:
    """Make another environment one of the farm's own, by links: `bin/python` and its packages."""
    folder.mkdir(parents=True)
    for path in source.iterdir():
        if path.name != "pyvenv.cfg":
            (folder / path.name).symlink_to(path)
    shutil.copy(source / "pyvenv.cfg", folder)
    if not (folder / "complete").exists():
        (folder / "complete").write_text("lent\n")
