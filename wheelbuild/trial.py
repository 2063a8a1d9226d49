"""A clean environment to try a wheel in: a venv that sees torch, and nothing else of the host."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelbuild.command import Ran, run_command
from wheelbuild.errors import CommandError, TestError
from wheelbuild.index.admission import check_wheel
from wheelbuild.index.pages import render
from wheelbuild.stores.directory import DirectoryStore
from wheelbuild.thin_json import thin_texts
from wheelbuild.zipapp import pack_zipapp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apex_installer.model.entry import Entry
    from wheelbuild.data import FarmData
    from wheelbuild.engines.environment import BuildEnvironment

_IMPORTS = """
import importlib, json, sys
import torch
print(json.dumps({name: importlib.import_module(name).__file__ for name in sys.argv[1:]}))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One environment, one wheel."""

    folder: Path
    python: Path
    target: Path
    """Where the installer puts the wheel."""
    zipapp: Path
    package: str
    log: Path | None

    def install(self, wheel: Path, entry: Entry, *, on_gpu: bool) -> dict[str, Any]:
        """Publish into an index of its own and install from that; return the installer's report."""
        store = DirectoryStore(self.folder / "index")
        _publish_alone(wheel, entry, store=store, named=self.folder / entry.base_file)
        words = ["--index-url", store.directory.as_uri(), "--at-least", "wheel", "--json"]
        words += ["--python", str(self.python), "--target", str(self.target)]
        words += ["--cache-dir", str(self.folder / "cache")]
        words += [word for name in entry.module_names for word in ("--require", name)]
        words += [] if on_gpu else _as_if_gpus(entry)
        ran = self._run([str(self.zipapp), "install", *words], on_gpu=on_gpu)
        report: dict[str, Any] = _last_json(ran) if ran.output.strip() else {}
        chosen = (report.get("chosen") or {}).get("sha256")
        if ran.code or report.get("outcome") != "wheel" or chosen != entry.sha256:
            line = report.get("line") or f"exit {ran.code}, no report"
            raise TestError(f"{wheel.name}: apex-install would not install it: {line}")
        return report

    def check_imports(self, modules: Sequence[str]) -> None:
        """Import the package and every module after torch; each must come from this wheel."""
        ran = self._run(["-c", _IMPORTS, self.package, *modules], on_gpu=False)
        if ran.code:
            raise TestError(f"import fails: {ran.last_line}")
        for name, file in _last_json(ran).items():
            if not Path(file).resolve().is_relative_to(self.target.resolve()):
                raise TestError(f"import {name} takes {file}, not this wheel's")

    def run_script(self, script: Path, *, on_gpu: bool) -> dict[str, Any]:
        """Run one module's test; its one line of JSON, or what it said when there is none."""
        ran = self._run([str(script)], on_gpu=on_gpu)
        try:
            return _last_json(ran)
        except (ValueError, IndexError):
            failed = f"exit {ran.code}: {ran.last_line}"
            return {"passed": 0, "failed": 1, "first_error": failed, "seconds": ran.seconds}

    def _run(self, words: Sequence[str], *, on_gpu: bool) -> Ran:
        """By the environment's Python, away from any source tree, without our own variables."""
        environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "APEX_", "PIP_", "VIRTUAL_ENV"))
        }
        environ |= {} if on_gpu else {"CUDA_VISIBLE_DEVICES": ""}
        cwd = self.folder / "elsewhere"
        cwd.mkdir(exist_ok=True)
        ran = run_command([self.python, *words], cwd=cwd, environ=environ, check=False)
        if self.log:
            with self.log.open("a", encoding="utf-8") as log:
                log.write(f"+ {shlex.join(ran.arguments)}\n{ran.output}{ran.errors}")
        return ran


def make_trial(
    environment: BuildEnvironment, *, data: FarmData, folder: Path, log: Path | None = None
) -> Trial:
    """Make the venv and pack the installer; a `.pth` file shows torch's packages behind it."""
    folder.mkdir(parents=True)
    venv = folder / "venv"
    try:
        run_command([environment.interpreter.executable, "-m", "venv", "--without-pip", venv])
    except CommandError as error:
        raise TestError(f"no clean environment: {error}") from error
    (target,) = venv.glob("lib/python3*/site-packages")
    shown = "".join(f"{path}\n" for path in environment.package_folders)
    (target / "torch.pth").write_text(shown, encoding="utf-8")
    return Trial(
        folder=folder,
        python=venv / "bin" / "python",
        target=target,
        zipapp=pack_zipapp(out=folder / "apex-install.pyz", texts=thin_texts(data), pythons=()),
        package=data.recipe.package,
        log=log,
    )


def _publish_alone(wheel: Path, entry: Entry, *, store: DirectoryStore, named: Path) -> None:
    """Whatever its build tag is: that one is next is the real index's question.

    A variant goes by the plain wheel's name, since whether it may be taken depends on where it is
    put, and here that is wherever this machine keeps temporary files.
    """
    sidecar = check_wheel(wheel, entry)
    named.symlink_to(wheel.absolute())
    url = store.put_file(named, sha256=entry.sha256, sidecar=sidecar)
    plain = replace(entry, url=url, uploaded="1980-01-01T00:00:00Z", file=named.name, variant="")
    store.put_entry(plain)
    store.write_pages(render(store.entries()))


def _as_if_gpus(entry: Entry) -> list[str]:
    """Count the wheel's own architectures as the GPUs, whatever this machine has."""
    numbers = {
        arch.rstrip("af")
        for module in entry.modules
        for arch in (module.machine_code or module.ptx)
    }
    return ["--gpu", ",".join(sorted(numbers))] if numbers else []


def _last_json(ran: Ran) -> dict[str, Any]:
    text = ran.output.strip()
    data = json.loads(text if text.startswith("{") else text.splitlines()[-1])
    if not isinstance(data, dict):
        raise ValueError(text)  # noqa: TRY004 - the caller looks for one
    return data
