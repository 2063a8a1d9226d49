"""A tiny pod that is started by `run.sh`, and how its start ended.

pod = StartPod(TinyPod(tmp_path / "pod", kit), stack)
pod.serve(server.silent())          # spoil something
start = pod.start()
start.outcome, start.seconds, start.left
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support import fault_server as server
from support.left_behind import Adopted, Ended
from support.tiny_pod import INDEX_PATH, TAG

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from support.fault_server import FaultServer, Handler
    from support.tiny_pod import TinyPod

RUN_SH = Path(__file__).parents[2] / "run.sh"
DEADLINE = 2.0
STATUS = 7
"""The app's own."""
GIVEN = "from stdin\n"
APP = ("sh", "-c", f'cat; echo "started $*"; exit {STATUS}', "app", "a b", "")
SAID = f"{GIVEN}started a b \n"
DOCUMENT = f"/{INDEX_PATH}/install-{TAG}.json"
TOOLS = ("sh", "dirname", "cat", "env", "sleep", "cp", "mount", "setsid")
TIMEOUT = 60.0
"""Seconds by which a start is given up that never ends."""


@dataclass(frozen=True)
class Start:
    """How the app was started."""

    code: int
    out: str
    err: str
    seconds: float
    """From the start of run.sh to the end of the app, which takes none."""
    left: tuple[str, ...]
    """Command lines of what still ran 2 s later."""
    report: dict[str, Any]

    @property
    def outcome(self) -> str:
        return str(self.report.get("outcome", ""))

    @property
    def causes(self) -> list[str]:
        return [attempt["cause"] for attempt in self.report.get("attempts", ())]


@dataclass
class StartPod:
    """A tiny pod with `run.sh` and the installer side by side, as an image has them."""

    tiny: TinyPod
    stack: ExitStack
    environ: dict[str, str] = field(default_factory=dict)
    wrapper: tuple[str, ...] = ()
    """Words before run.sh: a command that starts the command after it."""
    closed: str = ""
    """Numbers of the standard streams that it is started without."""
    meanwhile: Callable[[Adopted], object] = lambda _: None
    """What happens while it starts."""

    def __post_init__(self) -> None:
        self.folder = self.root / "opt"
        self.folder.mkdir()
        shutil.copy(RUN_SH, self.folder)
        shutil.copy(self.tiny.zipapp, self.folder / "apex-install.pyz")
        self.tools = self.root / "tools"
        self.tools.mkdir()
        for name in TOOLS:
            self.link_tool(name)
        self.wheel = self.tiny.wheel()
        self.tiny.offer(self.wheel)
        self.environ = {
            **self.tiny.environ,
            "PATH": f"{self.tiny.environ['PATH']}:{self.tools}",
            "APEX_INSTALL_INDEX_URL": self.tiny.index_url,
            "APEX_INSTALL_GPU": "9.0",
            "APEX_INSTALL_DEADLINE": str(DEADLINE),
            "APEX_INSTALL_COMPILE_TIMEOUT": "0",
        }

    @property
    def root(self) -> Path:
        return self.tiny.root

    @property
    def target(self) -> Path:
        return self.tiny.target

    @property
    def cache(self) -> Path:
        return Path(self.environ["XDG_CACHE_HOME"])

    @property
    def budget(self) -> float:
        """Seconds that the flags allow."""
        return sum(
            float(self.environ[f"APEX_INSTALL_{name}"]) for name in ("DEADLINE", "COMPILE_TIMEOUT")
        )

    def start(self, *words: str) -> Start:
        ended = self.started(*words).wait(GIVEN, timeout=max(TIMEOUT, self.budget * 2))
        return self.told(ended)

    def started(self, *words: str) -> Adopted:
        command = (*self.wrapper, str(self.folder / "run.sh"), *(words or APP))
        adopted = Adopted(command, environ=self.environ, cwd=self.root, close=self.closed)
        self.meanwhile(adopted)
        return adopted

    def told(self, ended: Ended) -> Start:
        """With the report that the start left."""
        try:
            report = json.loads((self.root / "TMPDIR/apex-install.json").read_text())
        except (OSError, ValueError):
            report = {}
        return Start(ended.code, ended.out, ended.err, ended.seconds, ended.left, report)

    def set(self, **environ: str) -> None:
        self.environ |= environ

    def link_tool(self, name: str) -> None:
        found = shutil.which(name)
        assert found, f"no {name}"
        (self.tools / name).symlink_to(found)

    def write_tool(self, name: str, script: str) -> Path:
        """A program of a few lines of shell, which is found before any of the same name."""
        first = self.root / "first"
        first.mkdir(exist_ok=True)
        path = first / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        if not self.environ["PATH"].startswith(str(first)):
            self.environ["PATH"] = f"{first}:{self.environ['PATH']}"
        return path

    def wrap_python(self, *words: str | Path) -> None:
        """Put these words before the installer's Python, and before nothing else."""
        python = self.tiny.python
        said = shlex.join([*map(str, words), str(python)])
        self.write_tool("python3", f'exec {said} "$@"')
        self.set(APEX_INSTALL_PYTHON=str(python))

    def in_namespace(self, script: str, *, network: bool = False) -> None:
        """Start all in mounts of its own, after this script, which sees PATH and the pod's root."""
        unshare, sh = shutil.which("unshare"), shutil.which("sh")
        assert unshare
        assert sh
        rights = [] if os.geteuid() == 0 else ["-r"]
        words = [unshare, *rights, "-m", *(["-n"] if network else [])]
        self.wrapper = (*words, sh, "-euc", f'{script}\nexec "$@"', "sh")

    def serve(self, *handlers: Handler, at: str = DOCUMENT) -> FaultServer:
        return self._served({at: server.then(*handlers)})

    def serve_wheel(self, change: Callable[[bytes], Handler]) -> FaultServer:
        """The true document, and this in place of the wheel."""
        entry = self.wheel.entry
        document = (self.tiny.index / DOCUMENT[1:]).read_bytes()
        wheel = f"/files/{entry.sha256}/{entry.file}"
        return self._served(
            {DOCUMENT: server.answer(document), wheel: change(self.wheel.path.read_bytes())}
        )

    def _served(self, handlers: dict[str, Handler]) -> FaultServer:
        served = self.stack.enter_context(server.FaultServer(handlers))
        self.set(APEX_INSTALL_INDEX_URL=f"{served.url}/")
        return served

    def torch(self, text: str) -> None:
        (self.target / "torch/version.py").write_text(text)

    def replace_installer(self, text: str) -> None:
        (self.folder / "apex-install.pyz").write_text(text)
