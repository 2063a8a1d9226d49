"""`run.sh` starts the app whatever happens: in time, with its own exit status, nothing left behind.

Each fault is one row of `FAULTS`: what is spoilt, and the outcome that the report then tells (None:
the installer did not come to leave one).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import fault_server as server
from support.mounts import Mounts
from support.tiny_pod import CPU_PY, INDEX_PATH, TAG, Kit, TinyPod, make_kit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.fault_server import Handler

pytestmark = pytest.mark.integration

RUN_SH = Path(__file__).parent.parent.parent / "run.sh"
DEADLINE = 2.0
GRACE = 3.0
"""Seconds after the budget in force by which the app has started."""
STATUS = 7
"""The app's own."""
DOCUMENT = f"/{INDEX_PATH}/install-{TAG}.json"
TOOLS = ("sh", "dirname", "cat", "env", "sleep")


@dataclass
class Start:
    """How the app was started."""

    code: int
    out: str
    err: str
    seconds: float
    report: dict[str, object]

    @property
    def outcome(self) -> object:
        return self.report.get("outcome")


@dataclass
class Pod:
    """A tiny pod with `run.sh` and the installer side by side, as an image has them."""

    tiny: TinyPod
    stack: ExitStack
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = self.tiny.root / "opt"
        self.folder.mkdir()
        shutil.copy(RUN_SH, self.folder)
        shutil.copy(self.tiny.zipapp, self.folder / "apex-install.pyz")
        tools = self.tiny.root / "tools"
        tools.mkdir()
        for name in TOOLS:
            (tools / name).symlink_to(shutil.which(name) or pytest.fail(f"no {name}"))
        self.wheel = self.tiny.wheel()
        self.tiny.offer(self.wheel)
        self.environ = {
            **self.tiny.environ,
            "PATH": f"{self.tiny.environ['PATH']}:{tools}",
            "APEX_INSTALL_INDEX_URL": self.tiny.index_url,
            "APEX_INSTALL_GPU": "9.0",
            "APEX_INSTALL_DEADLINE": str(DEADLINE),
        }

    def start(self, *words: str) -> Start:
        command = words or ("sh", "-c", f'cat; echo "started $*"; exit {STATUS}', "app", "a b", "")
        began = time.monotonic()
        process = subprocess.Popen(
            [str(self.folder / "run.sh"), *command],
            env=self.environ,
            cwd=self.tiny.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        out, err = process.communicate("from stdin\n", timeout=60)
        seconds = time.monotonic() - began
        assert not session_of(process.pid), "a process was left behind"
        status = self.tiny.root / "TMPDIR/apex-install.json"
        report = json.loads(status.read_text()) if status.is_file() else {}
        return Start(process.returncode, out, err, seconds, report)

    def serve(self, *handlers: Handler, at: str = DOCUMENT) -> None:
        served = self.stack.enter_context(server.FaultServer({at: server.then(*handlers)}))
        self.environ["APEX_INSTALL_INDEX_URL"] = f"{served.url}/"

    def serve_wheel(self, change: Callable[[bytes], Handler]) -> None:
        """The true document, and this in place of the wheel."""
        entry = self.wheel.entry
        document = (self.tiny.index / DOCUMENT[1:]).read_bytes()
        wheel = f"/files/{entry.sha256}/{entry.file}"
        handlers = {
            DOCUMENT: server.answer(document),
            wheel: change(self.wheel.path.read_bytes()),
        }
        served = self.stack.enter_context(server.FaultServer(handlers))
        self.environ["APEX_INSTALL_INDEX_URL"] = f"{served.url}/"

    def torch(self, text: str) -> None:
        (self.tiny.target / "torch/version.py").write_text(text)

    def replace_installer(self, text: str) -> None:
        (self.folder / "apex-install.pyz").write_text(text)


def session_of(leader: int) -> list[str]:
    """Processes that are still in the session of a process that ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[3]) == leader:
            found.append(path.parent.name)
    return found


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return make_kit(tmp_path_factory.mktemp("kit"))


@pytest.fixture
def pod(tmp_path: Path, kit: Kit) -> Iterator[Pod]:
    with ExitStack() as stack:
        yield Pod(TinyPod(tmp_path / "pod", kit), stack)


def refused(pod: Pod) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        pod.environ["APEX_INSTALL_INDEX_URL"] = f"http://127.0.0.1:{taken.getsockname()[1]}/"


def broken_tls(pod: Pod) -> None:
    pod.serve(server.answer(b"{}"))
    url = pod.environ["APEX_INSTALL_INDEX_URL"]
    pod.environ["APEX_INSTALL_INDEX_URL"] = url.replace("http:", "https:")


def corrupt_cache(pod: Pod) -> None:
    """A wheel in the cache whose bytes were damaged after it was put there."""
    pod.start()
    (cached,) = Path(pod.environ["XDG_CACHE_HOME"]).rglob("*.whl")
    cached.chmod(0o644)
    cached.write_bytes(b"damaged" + cached.read_bytes()[7:])
    shutil.rmtree(pod.tiny.target / "apex")


def hang(pod: Pod) -> None:
    """nvidia-smi never answers, and is given up after 5 s."""
    pod.environ["APEX_INSTALL_DEADLINE"] = "8"
    del pod.environ["APEX_INSTALL_GPU"]
    path = pod.tiny.root / "tools/nvidia-smi"
    path.write_text("#!/bin/sh\nexec sleep 60\n")
    path.chmod(0o755)


def traps(pod: Pod) -> None:
    pod.environ |= {
        "PIP_INDEX_URL": "http://127.0.0.1:9/",
        "PIP_REQUIRE_HASHES": "1",
        "APEX_CUDA_EXT": "0",
        "PYTHONWARNINGS": "error",
        "PYTHONOPTIMIZE": "2",
    }


def junk(pod: Pod) -> None:
    """Modules of the standard library's names where PYTHONPATH leads."""
    folder = pod.tiny.root / "junk"
    folder.mkdir()
    for name in ("argparse", "json", "typing", "zipfile"):
        (folder / f"{name}.py").write_text("raise RuntimeError('junk')\n")
    pod.environ["PYTHONPATH"] = str(folder)


def old_python(pod: Pod) -> None:
    """A `python3` that cannot read our files."""
    path = pod.tiny.root / "tools/python3"
    path.write_text("#!/bin/sh\necho 'SyntaxError: invalid syntax' >&2\nexit 1\n")
    path.chmod(0o755)
    pod.environ["PATH"] = str(path.parent)


def without(name: str) -> Callable[[Pod], object]:
    return lambda pod: pod.environ.pop(name)


def setting(name: str, value: str) -> Callable[[Pod], object]:
    return lambda pod: pod.environ.update({name: value})


FAULTS: dict[str, tuple[Callable[[Pod], object], str | None]] = {
    "none at all": (lambda _: None, "wheel"),
    # network
    "refused": (refused, "none"),
    "black hole": (lambda pod: pod.serve(server.silent()), "none"),
    "drip": (lambda pod: pod.serve(server.drip(b"{" * 500)), "none"),
    "endless body": (lambda pod: pod.serve(server.endless()), "none"),
    "503 and a long Retry-After": (
        lambda pod: pod.serve(server.status("503 Busy", **{"Retry-After": 3600})),
        "none",
    ),
    "broken TLS": (broken_tls, "none"),
    "reset": (lambda pod: pod.serve(server.reset_after(b"{", announced=99)), "none"),
    # index
    "index empty": (lambda pod: shutil.rmtree(pod.tiny.index), "none"),
    "index is a sign-in page": (lambda pod: pod.serve(server.answer(b"<html>")), "none"),
    "index address wrong": (setting("APEX_INSTALL_INDEX_URL", "htp://nowhere"), "none"),
    "wheel gone": (
        lambda pod: pod.serve_wheel(lambda _: server.status("404 Not Found")),
        "none",
    ),
    "wheel damaged": (lambda pod: pod.serve_wheel(lambda data: server.answer(data[:-1])), "none"),
    "wheel never ends": (lambda pod: pod.serve_wheel(lambda _: server.silent(head=True)), "none"),
    # cache
    "corrupt wheel in the cache": (corrupt_cache, "wheel"),
    "cache is a file": (setting("APEX_INSTALL_CACHE_DIR", "/dev/null"), "wheel"),
    # environment
    "no HOME": (without("HOME"), "wheel"),
    "no TMPDIR": (setting("TMPDIR", "/nonexistent"), None),
    "PIP_*, APEX_* and PYTHON* traps": (traps, "wheel"),
    "PYTHONPATH junk": (junk, None),
    "no torch": (lambda pod: shutil.rmtree(pod.tiny.target / "torch"), "none"),
    "broken torch": (lambda pod: pod.torch("garbage"), "none"),
    "torch without CUDA": (lambda pod: pod.torch(CPU_PY), "none"),
    "nonsense in a variable": (setting("APEX_INSTALL_GPU", "hopper"), "none"),
    "Python too old": (old_python, None),
    "no Python": (lambda pod: setting("PATH", str(pod.tiny.root / "tools"))(pod), None),
    # processes
    "nvidia-smi hangs": (hang, "wheel"),
    "installer missing": (lambda pod: (pod.folder / "apex-install.pyz").unlink(), None),
    "installer crashes": (
        lambda pod: pod.replace_installer("import os; os.kill(os.getpid(), 11)"),
        None,
    ),
    "installer is garbage": (lambda pod: pod.replace_installer("\0\1"), None),
    "installer raises": (lambda pod: pod.replace_installer("1/0"), None),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_app_starts(pod: Pod, name: str) -> None:
    spoil, outcome = FAULTS[name]
    spoil(pod)
    start = pod.start()
    assert start.out == "from stdin\nstarted a b \n"
    assert start.code == STATUS
    assert start.seconds < float(pod.environ["APEX_INSTALL_DEADLINE"]) + GRACE
    assert start.outcome == outcome, start.err


def test_a_full_or_read_only_target_starts_the_app(
    pod: Pod, requires_tool: Callable[[str], str]
) -> None:
    mounts = Mounts(requires_tool("unshare"), pod.tiny.root)
    words = " ".join(f"{name}={value}" for name, value in pod.environ.items())
    for options in ("size=4k", "ro"):
        said = mounts.run(
            f"""
            mount -t tmpfs -o {options} none mnt
            env -i {words} APEX_INSTALL_TARGET=$PWD/mnt opt/run.sh sh -c 'exit 7' || echo "app $?"
            """
        )
        assert said.splitlines()[-1] == "app 7"
        assert "apex: none (target: " in said


def test_without_a_command_it_installs_and_exits(pod: Pod) -> None:
    run = [str(pod.folder / "run.sh")]
    done = subprocess.run(run, env=pod.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert (pod.tiny.target / "apex/__init__.py").is_file()
    pod.tiny.index.rename(pod.tiny.root / "gone")
    shutil.rmtree(pod.tiny.target / "apex")
    shutil.rmtree(Path(pod.environ["XDG_CACHE_HOME"]))
    done = subprocess.run(run, env=pod.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 3


def test_strict_starts_nothing_where_apex_is_not_good_enough(pod: Pod) -> None:
    refused(pod)
    pod.environ["APEX_INSTALL_STRICT"] = "1"
    start = pod.start()
    assert (start.code, start.out) == (3, "")


def test_strict_starts_the_app_where_it_is(pod: Pod) -> None:
    pod.environ["APEX_INSTALL_STRICT"] = "1"
    assert pod.start().code == STATUS


def test_skip_starts_the_app_alone(pod: Pod) -> None:
    pod.environ["APEX_INSTALL_SKIP"] = "1"
    start = pod.start()
    assert (start.code, start.err, start.report) == (STATUS, "", {})


def test_the_app_s_own_interpreter_is_the_one_that_is_asked(pod: Pod) -> None:
    """Its virtual environment is none that `run.sh` was started in."""
    app = pod.tiny.root / "app"
    shutil.copytree(pod.tiny.environment, app / "venv", symlinks=True)
    shutil.rmtree(pod.tiny.target / "torch")
    assert pod.start(str(app / "venv/bin/python"), "-c", "raise SystemExit(7)").code == STATUS
    assert list(app.glob("venv/lib/*/site-packages/apex/__init__.py"))


@pytest.mark.parametrize("number", [1, 2, 15])
@pytest.mark.parametrize("whole_group", [True, False])
def test_a_signal_while_it_installs_ends_all_at_once(
    pod: Pod, number: int, *, whole_group: bool
) -> None:
    """`docker stop` sends one to process 1 alone, a terminal to the whole group."""
    pod.serve(server.silent())
    pod.environ["APEX_INSTALL_DEADLINE"] = "30"
    process = subprocess.Popen(
        [str(pod.folder / "run.sh"), "sleep", "60"],
        env=pod.environ,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(0.5)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    assert process.wait(timeout=5) in (128 + number, -number)
    ends = time.monotonic() + 2
    while session_of(process.pid) and time.monotonic() < ends:
        time.sleep(0.02)
    assert not session_of(process.pid)


def test_the_app_s_signals_are_its_own(pod: Pod) -> None:
    assert pod.start("sh", "-c", "kill -s TERM $$; sleep 1").code == -15
