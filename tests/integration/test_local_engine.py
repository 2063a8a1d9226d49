"""The front end on a job folder whose backend is a few lines of the test's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.jobs import make_request
from support.machine import REPOSITORY
from wheelbuild.engines import local
from wheelbuild.engines.jobfolder import write_job_folder
from wheelbuild.engines.local import build_job_folder
from wheelbuild.errors import BuildError, CommandError
from wheelbuild.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from apex_installer.make.request import BuildRequest

pytestmark = pytest.mark.integration

WHEEL = "apex-0.1-cp311-cp311-linux_x86_64.whl"
GOOD = f"""
import os, sys
def build_wheel(folder, config_settings=None, metadata_directory=None):
    assert os.path.exists("job.json") and os.path.exists("src/setup.py")
    print("noise on stdout")
    open(os.path.join(folder, {WHEEL!r}), "w").write(sys.executable)
    return {WHEEL!r}
"""
BAD = """
def build_wheel(folder, config_settings=None, metadata_directory=None):
    raise RuntimeError("layer_norm.cpp:12: no such thing")
"""
SLOW = """
import os, time
def build_wheel(folder, config_settings=None, metadata_directory=None):
    open("started", "w").write(str(os.getppid()))
    time.sleep(60)
"""
FARM = """
import sys
from pathlib import Path
from support.jobs import make_request
from support.machine import REPOSITORY
from wheelbuild.engines.local import build_job_folder
folder, out = map(Path, sys.argv[1:])
request = make_request(interpreter=sys.executable)
build_job_folder(folder, request=request, out=out)
"""


@pytest.fixture
def request_here(tmp_path: Path) -> BuildRequest:
    return make_request(interpreter=sys.executable, work=str(tmp_path / "job/work"))


def make_job_folder(tmp_path: Path, request: BuildRequest, backend: str) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    (source / "setup.py").write_text("")
    folder = tmp_path / "job"
    write_job_folder(folder, request=request, source=Source(directory=source, how="folder"))
    (folder / "backend/apex_installer/make/backend.py").write_text(backend)
    return folder


def test_the_wheel_is_built_by_the_cells_interpreter(
    tmp_path: Path, request_here: BuildRequest
) -> None:
    folder = make_job_folder(tmp_path, request_here, GOOD)
    wheel = build_job_folder(folder, request=request_here, out=tmp_path / "built")
    assert wheel == tmp_path / "built" / WHEEL
    assert wheel.read_text() == sys.executable


def test_an_interpreter_without_build_is_served_by_ours(
    tmp_path: Path, request_here: BuildRequest, requires_python: Callable[[str], str]
) -> None:
    bare = tmp_path / "bare"
    python = requires_python("3.9")
    local.run_command([python, "-m", "venv", "--without-pip", bare])
    request = replace(request_here, interpreter=str(bare / "bin/python"))
    folder = make_job_folder(tmp_path, request, GOOD)
    wheel = build_job_folder(folder, request=request, out=tmp_path / "built")
    assert wheel.read_text() == request.interpreter


def test_a_build_that_fails_leaves_the_old_wheel_and_says_why(
    tmp_path: Path, request_here: BuildRequest
) -> None:
    folder = make_job_folder(tmp_path, request_here, BAD)
    old = tmp_path / "built" / WHEEL
    old.parent.mkdir()
    old.write_text("old")
    with pytest.raises(BuildError, match=r"cp311-torch2\.11-cu130"):
        build_job_folder(folder, request=request_here, out=tmp_path / "built")
    assert old.read_text() == "old"


def test_a_build_that_does_not_end_is_ended(
    tmp_path: Path, request_here: BuildRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "GRACE", 0.0)
    request = replace(request_here, time_limit=3.0)
    folder = make_job_folder(tmp_path, request, SLOW)
    started = time.monotonic()
    with pytest.raises(CommandError, match="not done after 3 s"):
        build_job_folder(folder, request=request, out=tmp_path / "built")
    assert time.monotonic() - started < 30


def test_work_outlives_a_second_build(tmp_path: Path, request_here: BuildRequest) -> None:
    folder = make_job_folder(tmp_path, request_here, GOOD)
    (folder / "work").mkdir()
    (folder / "work/a.o").write_text("kept")
    (folder / "src/stale.py").write_text("")
    source = Source(directory=tmp_path / "source", how="folder")
    write_job_folder(folder, request=request_here, source=source)
    assert (folder / "work/a.o").read_text() == "kept"
    assert not (folder / "src/stale.py").exists()


def test_a_farm_that_is_killed_leaves_no_build(tmp_path: Path, request_here: BuildRequest) -> None:
    folder = make_job_folder(tmp_path, request_here, SLOW)
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY / "tests")}
    command = [sys.executable, "-c", FARM, str(folder), str(tmp_path / "built")]
    with subprocess.Popen(command, env=environ, cwd=REPOSITORY) as farm:
        started = folder / "started"
        assert within(60, lambda: started.exists() and bool(started.read_text()))
        farm.send_signal(signal.SIGKILL)
    front_end = Path("/proc") / started.read_text()
    assert within(10, lambda: not front_end.exists())


def test_what_a_killed_build_left_is_not_taken_for_a_wheel(
    tmp_path: Path, request_here: BuildRequest
) -> None:
    folder = make_job_folder(tmp_path, request_here, GOOD)
    left = tmp_path / "built/new-1/half-0.1-cp311-cp311-linux_x86_64.whl"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    wheel = build_job_folder(folder, request=request_here, out=tmp_path / "built")
    assert list((tmp_path / "built").iterdir()) == [wheel]


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    ends = time.monotonic() + seconds
    while not holds() and time.monotonic() < ends:
        time.sleep(0.05)
    return holds()
