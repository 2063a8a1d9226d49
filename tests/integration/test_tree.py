"""A child's whole tree ends with it: daemons, what ignores signals, and after our own SIGKILL."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apex_installer.errors import DeadlineError
from apex_installer.make.process import Child, Ended, end_tree, new_tree, wait_for
from apex_installer.make.tree import PATIENCE, VARIABLE, find_marked
from support.left_behind import run_adopting

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration

STUBBORN = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
if not os.fork():
    os.setsid()
    if not os.fork():
        open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
        time.sleep(600)
    os._exit(0)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
print("started", flush=True)
if "stays" in sys.argv:
    time.sleep(600)
"""
"""A daemon, and a process that ends at once or `stays`."""


def start(folder: Path, *words: str, tree: str = "") -> Child:
    return Child(
        [sys.executable, "-c", STUBBORN, str(folder / "pid"), *words],
        environ={"PATH": "/usr/bin:/bin"},
        folder=str(folder),
        words=str(folder / "words"),
        tree=tree,
    )


def daemon_of(folder: Path) -> int:
    ends = time.monotonic() + 20
    while not (folder / "words").read_text() and time.monotonic() < ends:
        time.sleep(0.01)
    return int((folder / "pid").read_text())


def runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(") ")[2][0] != "Z"


def wait_until(done: Callable[[], bool]) -> bool:
    ends = time.monotonic() + 3
    while not done() and time.monotonic() < ends:
        time.sleep(0.01)
    return done()


def test_a_daemon_that_ignores_signals_ends_with_its_child(tmp_path: Path) -> None:
    child = start(tmp_path, "stays")
    daemon = daemon_of(tmp_path)
    assert runs(daemon)
    child.end()
    assert not runs(daemon)


def test_at_a_deadline_too(tmp_path: Path) -> None:
    child = start(tmp_path, "stays")
    daemon = daemon_of(tmp_path)
    with pytest.raises(DeadlineError):
        wait_for(child, ends_at=time.monotonic(), doing="x")
    assert not runs(daemon)


def test_the_daemon_of_a_child_that_ended_well_ends_with_its_tree(tmp_path: Path) -> None:
    tree = new_tree()
    child = start(tmp_path, tree=tree)
    daemon = daemon_of(tmp_path)
    ended: list[Ended] = []
    assert wait_until(lambda: bool(ended or ((how := child.poll()) and not ended.append(how))))
    assert ended[0].status == 0
    assert runs(daemon)
    end_tree(new_tree(), children=())
    assert runs(daemon), "another tree's end is not its own"
    end_tree(tree, children=())
    assert not runs(daemon)


KILLED = """
import os, sys
sys.path[:0] = {path!r}
from pathlib import Path
from test_tree import daemon_of, start
folder = Path(sys.argv[1])
child = start(folder, "stays")
daemon_of(folder)
os.kill(os.getpid(), 9)
"""


def test_after_our_own_sigkill_a_guard_ends_it(tmp_path: Path) -> None:
    path = [str(Path(__file__).parent), *sys.path]
    code = KILLED.format(path=path)
    ended = run_adopting(
        [sys.executable, "-c", code, str(tmp_path)], environ=dict(os.environ), cwd=tmp_path
    )
    assert ended.code == -9, ended.err
    assert ended.left == ()
    assert not runs(int((tmp_path / "pid").read_text()))


def test_what_hangs_in_the_kernel_is_left_after_two_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's part is played by a kill that does nothing."""
    child = start(tmp_path, "stays")
    pids = (child._process.pid, daemon_of(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", lambda *_: None)
        patch.setattr(os, "killpg", lambda *_: None)
        began = time.monotonic()
        child.end()
        assert PATIENCE - 0.1 < time.monotonic() - began < 3
    assert all(map(runs, pids))
    for pid in pids:
        os.kill(pid, 9)
    os.waitpid(pids[0], 0)


def test_a_process_that_cleared_its_environment_ends_with_its_parent(tmp_path: Path) -> None:
    words = tmp_path / "words"
    script = "env -i setsid sleep 600 & echo $!; wait"
    child = Child(["sh", "-c", script], environ=dict(os.environ), folder="/", words=str(words))
    assert wait_until(lambda: bool(words.read_text()))
    pid = int(words.read_text())
    assert wait_until(lambda: "sleep" in Path(f"/proc/{pid}/cmdline").read_text())
    child.end()
    assert not runs(pid)


def test_our_own_environment_never_bears_the_mark(tmp_path: Path) -> None:
    """Else what is started by others, the app too, would be found."""
    start(tmp_path).end()
    assert VARIABLE not in os.environ


def test_a_build_in_a_build_belongs_to_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "0123456789abcdef-0;")
    child = start(tmp_path, "stays")
    daemon = daemon_of(tmp_path)
    assert {daemon, child._process.pid} <= find_marked("0123456789abcdef-0;")
    child.end()
    assert not runs(daemon)
