"""Targets as pods have them: an image's layer, a read-only one, a full disk, eight at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from support import judge, put_driver
from support.mounts import Mounts
from support.targets import FOREIGN_VERSION, add_foreign, tree
from support.wheels import MadeWheel, make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.integration

OLD, NEW = "0.1+20260708.cu130.torch2.11", "0.1+20270101.cu130.torch2.11"
DRIVER = f"{sys.executable} -B {put_driver.__file__}"


@pytest.fixture
def in_a_namespace(requires_tool: Callable[[str], str], tmp_path: Path) -> Callable[..., str]:
    """Run a shell script with mounts of its own, which end with it."""
    return Mounts(requires_tool("unshare"), tmp_path).run


def job(directory: Path, made: MadeWheel, target: Path, *, put_aside: bool = False) -> Path:
    path = directory / f"{made.entry.version}.json"
    values = {"wheel": str(made.path), "entry": made.entry.to_json(), "target": str(target)}
    path.write_text(json.dumps({**values, "put_aside": put_aside}))
    return path


def run(*arguments: str | Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-W", "error", "-B", put_driver.__file__, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("minor", ["3.9", "3.10", "3.12", "3.13"])
def test_every_python(minor: str, tmp_path: Path, requires_python: Callable[[str], str]) -> None:
    python, target = requires_python(minor), tmp_path / "target"
    target.mkdir()
    add_foreign(target)
    before = tree(target)
    large = {"amp_C": os.urandom(3_000_000)}  # worth a thread
    old = make_wheel(tmp_path / "old", version=OLD)
    new = make_wheel(tmp_path / "new", version=NEW, modules=("amp_C",), module_bytes=large)
    for made in (old, new):
        done = run("install", job(tmp_path, made, target, put_aside=made is old), python=python)
        assert done.returncode == 0, done.stderr
        verdict = judge.judge(target, python=python)
        assert verdict == {"importable": True, "versions": [made.entry.version], "faults": []}
    done = run("remove", target, python=python)
    assert done.returncode == 0, done.stderr
    assert tree(target) == before


@pytest.mark.parametrize("before", ["ours", "foreign"])
def test_a_package_of_the_image_is_replaced_and_removed(
    before: str, tmp_path: Path, in_a_namespace: Callable[..., str]
) -> None:
    """Under overlayfs no folder of the image can be renamed; the image itself never changes."""
    lower = tmp_path / "lower"
    lower.mkdir()
    if before == "ours":
        first = make_wheel(tmp_path / "old", version=OLD)
        assert run("install", job(tmp_path, first, lower)).returncode == 0
    else:
        add_foreign(lower)
    image = tree(lower)
    made = make_wheel(tmp_path / "new", version=NEW, modules=("amp_C",))
    target = tmp_path / "mnt"
    new = job(tmp_path, made, target, put_aside=before == "foreign")
    mount = """
        mkdir -p scratch && mount -t tmpfs none scratch && mkdir scratch/upper scratch/work
        mount -t overlay -o lowerdir=lower,upperdir=scratch/upper,workdir=scratch/work none mnt
    """
    judged = f"{sys.executable} -I -B -S {judge.__file__} {target} apex"
    output = in_a_namespace(
        f"""
        {mount}
        python3 -c 'import os; os.rename("mnt/apex", "mnt/moved")' 2>&1 | grep -q cross-device
        {DRIVER} install {new}
        {judged}
        {DRIVER} remove {target}
        {judged}
        ls -A mnt
        """,
        tried=mount,
    )
    verdicts = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    back = FOREIGN_VERSION if before == "foreign" else None
    assert verdicts == [
        {"importable": True, "versions": [NEW], "faults": []},
        {"importable": back is not None, "versions": [back] if back else [], "faults": []},
    ]
    assert tree(lower) == image
    if before == "ours":
        assert output.splitlines()[-1].startswith("{"), "something was left in the target"


def test_a_read_only_target(tmp_path: Path, in_a_namespace: Callable[..., str]) -> None:
    made = make_wheel(tmp_path / "wheel")
    add_foreign(tmp_path / "mnt")
    before = tree(tmp_path / "mnt")
    new = job(tmp_path, made, tmp_path / "mnt", put_aside=True)
    output = in_a_namespace(
        f"""
        mount --bind mnt mnt && mount -o remount,ro,bind mnt
        {DRIVER} install {new} && exit 9 || echo "exit $?"
        """
    )
    assert "Read-only file system; run it as the owner, or say --target DIR" in output
    assert output.startswith("target: ") or "\ntarget: " in output
    assert "exit 3" in output
    assert tree(tmp_path / "mnt") == before


@pytest.mark.parametrize("size", ["4300k", "24k", "nr_inodes=12"])
def test_a_full_disk(size: str, tmp_path: Path, in_a_namespace: Callable[..., str]) -> None:
    """Found full before anything is written, or in the middle: nothing is changed."""
    data = {"fused_layer_norm_cuda": os.urandom(500_000)}
    made = make_wheel(tmp_path / "wheel", module_bytes=data)
    new = job(tmp_path, made, tmp_path / "mnt")
    option = size if "=" in size else f"size={size}"
    output = in_a_namespace(
        f"""
        mount -t tmpfs -o {option} none mnt
        {DRIVER} install {new} && exit 9 || echo "exit $?"
        ls -A mnt
        """
    )
    assert "target: " in output
    assert "free some" in output
    assert output.rstrip().endswith("exit 3"), "something was left"


def test_eight_at_once(tmp_path: Path) -> None:
    """All end well, whichever was first; what they leave is whole."""
    target = tmp_path / "target"
    target.mkdir()
    made = make_wheel(tmp_path / "wheel")
    path = job(tmp_path, made, target)
    command = [sys.executable, "-B", put_driver.__file__, "install", str(path)]
    for _ in range(2):
        running = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(8)]
        errors = [process.communicate()[1] for process in running]
        assert [process.returncode for process in running] == [0] * 8, errors
        verdict = judge.judge(target)
        assert verdict == {"importable": True, "versions": [OLD], "faults": []}
        assert len(list(target.iterdir())) == 3


ATTACKER = """
import os, sys
good, evil = (open(path, "rb").read() for path in sys.argv[2:])
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
while True:
    for data in (good, evil):
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))
"""


def test_a_wheel_that_is_overwritten_all_the_time(tmp_path: Path) -> None:
    """Installs run while the file changes under them: the good one is installed, or none."""
    good = make_wheel(tmp_path / "good")
    evil = make_wheel(tmp_path / "evil", python_files={"apex/__init__.py": "evil = 1\n"})
    victim = replace(good, path=tmp_path / "victim.whl")
    files = [str(made.path) for made in (victim, good, evil)]
    outcomes = []
    with subprocess.Popen([sys.executable, "-c", ATTACKER, *files]) as attacker:
        for number in range(15):
            target = tmp_path / f"target{number}"
            target.mkdir()
            outcomes.append(run("install", job(tmp_path, victim, target)).returncode)
            verdict = judge.judge(target)
            assert not verdict["faults"]
            assert verdict["importable"] == (outcomes[-1] == 0)
            assert not any("evil" in path.read_text() for path in target.glob("apex/__init__.py"))
        assert attacker.poll() is None, "it must have been at work"
        attacker.kill()
    assert set(outcomes) <= {0, 3}
