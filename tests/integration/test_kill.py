"""Killed at any state-changing system call, the target holds one package whole, or none."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import judge, put_driver
from support.kill import Call, find_calls, run_killed
from support.targets import FOREIGN_VERSION, add_foreign
from support.wheels import MadeWheel, make_wheel, write_document

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration

OLD, NEW = "0.1+20260708.cu130.torch2.11", "0.1+20270101.cu130.torch2.11"
SAMPLE = 3
"""Kills per story in a usual run; `--soak` does every one."""


@dataclass(frozen=True)
class Story:
    """What is there before, what is run, and what may be there afterwards."""

    before: str
    """`nothing`, `ours`, `foreign` or `ours over foreign`."""
    command: str
    """`install` or `remove`."""
    ends_with: str | None
    """The version at the end; None for none."""
    lower: bool = False
    """The folders that are there come from an image's lower layer, and cannot be renamed."""

    @property
    def start_version(self) -> str | None:
        starts = {"nothing": None, "foreign": FOREIGN_VERSION}
        return starts.get(self.before, OLD)


STORIES = {
    "fresh": Story("nothing", "install", NEW),
    "upgrade": Story("ours", "install", NEW),
    "upgrade-lower": Story("ours", "install", NEW, lower=True),
    "foreign": Story("foreign", "install", NEW),
    "foreign-lower": Story("foreign", "install", NEW, lower=True),
    "remove": Story("ours", "remove", None),
    "remove-lower": Story("ours", "remove", None, lower=True),
    "bring-back": Story("ours over foreign", "remove", FOREIGN_VERSION),
    "bring-back-lower": Story("ours over foreign", "remove", FOREIGN_VERSION, lower=True),
}


class Stage:
    """One target, set up again for every kill."""

    def __init__(self, directory: Path, story: Story, strace: str) -> None:
        self.story, self.strace = story, strace
        self.target, self.log = directory / "target", directory / "strace.log"
        self.master, self.cache = directory / "master", directory / "cache"
        self.directory = directory
        wheels = directory / "wheels"
        self.old = make_wheel(wheels / "old", version=OLD)
        self.new = make_wheel(
            wheels / "new", version=NEW, modules=("fused_layer_norm_cuda", "amp_C")
        )
        self.environ = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
        if story.lower:
            self.environ["PUT_DRIVER_LOWER"] = "1"
        self.target.mkdir()
        if "foreign" in story.before:
            add_foreign(self.target)
        if "ours" in story.before:
            self.run(self.command_to_install(self.old, put_aside="foreign" in story.before), {})
        shutil.copytree(self.target, self.master, symlinks=True)

    def command_to_install(self, made: MadeWheel, *, put_aside: bool) -> list[str]:
        """Through index and cache, both on disk, as a pod would."""
        index = self.directory / f"index-{made.entry.version}"
        if not index.exists():
            write_document(index, [made])
        job = self.directory / f"{made.entry.version}.json"
        values = {"index": f"file://{index}", "cache": str(self.cache)}
        job.write_text(json.dumps({**values, "target": str(self.target), "put_aside": put_aside}))
        return [sys.executable, "-B", put_driver.__file__, "install", str(job)]

    @property
    def command(self) -> list[str]:
        if self.story.command == "remove":
            return [sys.executable, "-B", put_driver.__file__, "remove", str(self.target)]
        return self.command_to_install(self.new, put_aside=self.story.before == "foreign")

    def run(self, command: list[str], environ: dict[str, str]) -> None:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env={**self.environ, **environ}
        )
        assert done.returncode == 0, done.stderr

    def reset(self) -> None:
        shutil.rmtree(self.cache, ignore_errors=True)
        shutil.rmtree(self.target)
        shutil.copytree(self.master, self.target, symlinks=True)

    def find_calls(self) -> list[Call]:
        self.reset()
        calls = find_calls(self.strace, self.command, log=self.log, environ=self.environ)
        self.assert_end("not killed")
        return calls

    def kill_and_judge(self, call: Call) -> None:
        self.reset()
        run_killed(self.strace, self.command, call, log=self.log, environ=self.environ)
        between = judge.judge(self.target)
        assert not between["faults"], (call, between)
        if between["importable"]:
            assert between["versions"][0] in (self.story.start_version, self.story.ends_with), call
        if self.story.ends_with is None and not between["importable"]:
            self.run([*self.command[:-2], "heal", str(self.target)], {"PUT_DRIVER_LOWER": ""})
        else:
            self.run_again()
        self.assert_end(call)

    def run_again(self) -> None:
        """The same command once more; what the killed run left to a removal is done by healing."""
        healed = judge.judge(self.target)
        if self.story.command == "remove" and healed["versions"] == [self.story.ends_with]:
            self.run([*self.command[:-2], "heal", str(self.target)], {"PUT_DRIVER_LOWER": ""})
        else:
            self.run(self.command, {"PUT_DRIVER_LOWER": ""})

    def assert_end(self, call: object) -> None:
        end = judge.judge(self.target)
        assert not end["faults"], (call, end)
        assert end["versions"] == [v for v in [self.story.ends_with] if v], (call, end)
        assert end["importable"] == (self.story.ends_with is not None), (call, end)
        for wheel in self.cache.rglob("*.whl"):
            assert hashlib.sha256(wheel.read_bytes()).hexdigest() == wheel.parent.name, call
        left = self.target / ".apex-install"
        names = {path.name for path in left.iterdir()} if left.exists() else set()
        kept = {"aside-1"} if self.story.before == "foreign" else set()
        assert names - {"lock"} == kept, (call, names)


@pytest.fixture
def stage(
    request: pytest.FixtureRequest, tmp_path: Path, requires_tool: Callable[[str], str]
) -> Stage:
    return Stage(tmp_path, STORIES[request.param], requires_tool("strace"))


every_story = pytest.mark.parametrize("stage", STORIES, indirect=True)


@every_story
def test_some_kills(stage: Stage) -> None:
    calls = stage.find_calls()
    sample = random.Random(20261124).sample(calls, SAMPLE)  # noqa: S311 - the same ones each time
    for call in sample:
        stage.kill_and_judge(call)


@pytest.mark.soak
@every_story
def test_every_kill(stage: Stage, record_property: Callable[[str, object], None]) -> None:
    calls = stage.find_calls()
    record_property("kills", len(calls))
    for call in calls:
        stage.kill_and_judge(call)
    sys.stdout.write(f"{len(calls)} state-changing calls, killed at each\n")
