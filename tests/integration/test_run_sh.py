"""`run.sh` starts the app whatever happens: in time, with its own exit status, nothing left behind.

The faults are rows of `support.pod_faults`; a fixed sample of them runs always, all by the soak.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import fault_server as server
from support.fault import BUILDING, NO_REPORT, Fault, Kits
from support.faults_process import killed_after
from support.pod_faults import FAULTS, SAMPLE
from support.start_pod import STATUS, StartPod
from support.tiny_pod import TinyPod

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

REST = tuple(fault for fault in FAULTS if fault not in SAMPLE)


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Kits:
    return Kits(tmp_path_factory.mktemp("kits"))


@pytest.fixture
def pod(tmp_path: Path, kits: Kits) -> Iterator[StartPod]:
    with ExitStack() as stack:
        yield StartPod(TinyPod(tmp_path / "pod", kits.tiny), stack)


def start_with(fault: Fault, folder: Path, kits: Kits) -> None:
    if fault.missing():
        pytest.skip(f"no {fault.missing()}")
    told = fault.run(folder, kits)
    assert not told.broken, told.said


@pytest.mark.parametrize("fault", SAMPLE, ids=str)
def test_the_app_starts(fault: Fault, tmp_path: Path, kits: Kits) -> None:
    start_with(fault, tmp_path / "pod", kits)


@pytest.mark.soak
@pytest.mark.parametrize("fault", REST, ids=str)
def test_the_app_starts_with_every_other_fault(fault: Fault, tmp_path: Path, kits: Kits) -> None:
    start_with(fault, tmp_path / "pod", kits)


@pytest.mark.soak
def test_the_installer_killed_at_any_moment(tmp_path: Path, kits: Kits) -> None:
    """40 moments of a compile that hangs; at the first of them no installer has started yet."""
    moments = random.Random(5)  # noqa: S311 - the same ones each time
    for number in range(40):
        kill = killed_after(moments.uniform(0, 1.6))
        fault = Fault(f"killed {number}", "processes", kill, (NO_REPORT, "python-only"), BUILDING)
        told = fault.run(tmp_path / str(number), kits)
        assert not told.broken, told.said


def test_the_sample_is_of_every_group_and_every_outcome() -> None:
    assert len(FAULTS) >= 60
    assert len(SAMPLE) >= 20
    assert {fault.group for fault in SAMPLE} == {fault.group for fault in FAULTS}
    assert len({str(fault) for fault in FAULTS}) == len(FAULTS)


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


def refused(pod: StartPod) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        pod.set(APEX_INSTALL_INDEX_URL=f"http://127.0.0.1:{taken.getsockname()[1]}/")


def test_without_a_command_it_installs_and_exits(pod: StartPod) -> None:
    run = [str(pod.folder / "run.sh")]
    done = subprocess.run(run, env=pod.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert (pod.target / "apex/__init__.py").is_file()
    pod.tiny.index.rename(pod.tiny.root / "gone")
    shutil.rmtree(pod.target / "apex")
    shutil.rmtree(Path(pod.environ["XDG_CACHE_HOME"]))
    done = subprocess.run(run, env=pod.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 3


def test_an_init_container_installs_for_the_app_s(pod: StartPod, tmp_path: Path) -> None:
    """Into an empty volume, which the app's container has on PYTHONPATH."""
    volume = tmp_path / "volume"
    volume.mkdir()
    command = ["sh", "-c", f"{pod.folder}/run.sh || true"]
    environ = {**pod.environ, "APEX_INSTALL_TARGET": str(volume)}
    subprocess.run(command, env=environ, capture_output=True, check=True)
    app = [str(pod.tiny.python), "-c", "import apex; print(apex.__file__)"]
    said = subprocess.check_output(app, env={"PYTHONPATH": str(volume)}, text=True)
    assert said == f"{volume}/apex/__init__.py\n"


def test_strict_starts_nothing_where_apex_is_not_good_enough(pod: StartPod) -> None:
    refused(pod)
    pod.environ["APEX_INSTALL_STRICT"] = "1"
    start = pod.start()
    assert (start.code, start.out) == (3, "")


def test_strict_starts_the_app_where_it_is(pod: StartPod) -> None:
    pod.environ["APEX_INSTALL_STRICT"] = "1"
    assert pod.start().code == STATUS


def test_skip_starts_the_app_alone(pod: StartPod) -> None:
    pod.environ["APEX_INSTALL_SKIP"] = "1"
    start = pod.start()
    assert (start.code, start.err, start.report) == (STATUS, "", {})


def test_the_app_s_own_interpreter_is_the_one_that_is_asked(pod: StartPod) -> None:
    """Its virtual environment is none that `run.sh` was started in."""
    app = pod.tiny.root / "app"
    shutil.copytree(pod.tiny.environment, app / "venv", symlinks=True)
    shutil.rmtree(pod.target / "torch")
    assert pod.start(str(app / "venv/bin/python"), "-c", "raise SystemExit(7)").code == STATUS
    assert list(app.glob("venv/lib/*/site-packages/apex/__init__.py"))


def heed_signals() -> None:
    """A test run in the background, or by nohup, ignores some, and a shell cannot undo that."""
    for number in (1, 2, 15):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize("number", [1, 2, 15])
@pytest.mark.parametrize("whole_group", [True, False])
def test_a_signal_while_it_installs_ends_all_at_once(
    pod: StartPod, number: int, *, whole_group: bool
) -> None:
    """`docker stop` sends one to process 1 alone, a terminal to the whole group."""
    pod.serve(server.silent())
    pod.environ["APEX_INSTALL_DEADLINE"] = "30"
    process = subprocess.Popen(
        [str(pod.folder / "run.sh"), "sleep", "60"],
        env=pod.environ,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=heed_signals,  # noqa: PLW1509 - it sets three signals, no more
    )
    time.sleep(0.5)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    assert process.wait(timeout=5) in (128 + number, -number)
    ends = time.monotonic() + 2
    while session_of(process.pid) and time.monotonic() < ends:
        time.sleep(0.02)
    assert not session_of(process.pid)


def test_the_app_s_signals_are_its_own(pod: StartPod) -> None:
    assert pod.start("sh", "-c", "kill -s TERM $$; sleep 1").code == -15
