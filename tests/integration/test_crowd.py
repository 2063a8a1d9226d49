"""Pods of one kind on one volume: one compile, one result, every pod usable, nothing half."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.crowd import MOUNT, OTHER, Crowd, CrowdKit, Pod, make_crowd_kit
from support.crowd_rounds import play_round
from support.mounts import Mounts
from support.wheels import MODULE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.integration

SEED = 2


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> CrowdKit:
    return make_crowd_kit(tmp_path_factory.mktemp("kit"))


@pytest.fixture
def crowd(tmp_path: Path, kit: CrowdKit) -> Iterator[Crowd]:
    made = Crowd(tmp_path / "crowd", kit)
    yield made
    wait_until(lambda: not made.running())


@pytest.fixture
def volume(crowd: Crowd) -> Iterator[Path]:
    """The same crowd's cache on what outlives a pod."""
    with tempfile.TemporaryDirectory(prefix="crowd-", dir=MOUNT) as name:
        crowd.cache = Path(name) / "cache"
        yield crowd.cache


def wait_until(happened: Callable[[], object], *, seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < ends, "did not happen"
        time.sleep(0.02)


def start_a_holder(crowd: Crowd, *, seconds: float = 5) -> Pod:
    """A pod that compiles for so long; those that follow it are as quick as ever."""
    crowd.kit.set(seconds=seconds)
    pod = crowd.start("first")
    wait_until(crowd.kit.compiles)
    crowd.kit.set()
    return pod


def assert_compiled(*pods: Pod) -> None:
    for pod in pods:
        pod.wait()
        assert (pod.process.returncode, pod.outcome, pod.is_usable) == (0, "compiled", True), (
            pod.said
        )


# -- the crowd -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [SEED, SEED + 1])
def test_pods_at_once_some_of_them_killed(crowd: Crowd, seed: int) -> None:
    assert play_round(crowd, pods=8, seed=seed).faults == []


@pytest.mark.soak
def test_many_pods_at_once_in_many_rounds(crowd: Crowd) -> None:
    rounds = [play_round(crowd, pods=24, seed=seed) for seed in range(100, 120)]
    assert [fault for one in rounds for fault in one.faults] == []
    assert sum(one.killed_holders for one in rounds) > 0


def test_who_waits_says_for_whom_and_compiles_nothing(crowd: Crowd) -> None:
    first = start_a_holder(crowd)
    second = crowd.start("second")
    assert_compiled(first, second)
    assert f"process {first.pid}) compiles the same: waiting for its result" in second.said
    assert "compiled by another pod" in second.said
    assert crowd.kit.compiles() == [f"{MODULE}.cpp"]
    assert crowd.holders() == []


def test_a_holder_that_is_killed_is_followed(crowd: Crowd) -> None:
    first = start_a_holder(crowd)
    second = crowd.start("second")
    wait_until(lambda: "waiting" in second.said)
    first.process.kill()
    first.wait()
    began = time.monotonic()
    assert_compiled(second)
    assert time.monotonic() - began < 30
    assert len(crowd.kit.compiles()) == 2
    assert (crowd.holders(), crowd.half()) == ([], [])


def test_a_holder_that_shows_no_life_is_followed_and_drops_its_own(crowd: Crowd) -> None:
    first = start_a_holder(crowd, seconds=2)
    first.process.send_signal(signal.SIGSTOP)
    second = crowd.start("second")
    assert_compiled(second)
    (result,) = crowd.results()
    first.process.send_signal(signal.SIGCONT)
    assert_compiled(first)
    assert crowd.results() == [result]
    assert (len(crowd.kit.compiles()), crowd.half()) == (2, [])


def test_a_holder_in_another_container_is_followed_when_it_has_been_silent(
    crowd: Crowd, requires_tool: Callable[[str], str]
) -> None:
    """Its process id means nothing here, though host and boot are the same."""
    unshare = requires_tool("unshare")
    Mounts(unshare, crowd.root).run("true")
    command = crowd.command
    contained = [unshare, "-r", "-p", "-f", "--mount-proc", "--kill-child"]
    crowd.command = lambda *words: [*contained, *command(*words)]  # type: ignore[method-assign]
    first = start_a_holder(crowd)
    crowd.command = command  # type: ignore[method-assign]
    second = crowd.start("second")
    wait_until(lambda: "waiting" in second.said)
    first.process.kill()
    first.wait()
    killed = time.monotonic()
    wait_until(lambda: len(crowd.kit.compiles()) == 2)
    assert time.monotonic() - killed > 3  # of the 5 s that a silent one of the tests is given
    assert_compiled(second)
    assert (crowd.holders(), crowd.half()) == ([], [])


def test_who_waits_in_vain_is_one_outcome_down_and_usable_at_its_next_start(crowd: Crowd) -> None:
    first = start_a_holder(crowd, seconds=8)
    second = crowd.run("second", "--compile-timeout", "1")
    assert (second.outcome, second.causes[-1], second.is_usable) == (
        "python-only",
        "deadline",
        True,
    )
    assert "its result is taken at the next start" in second.said
    assert not (crowd.cache / "failures").exists()
    assert_compiled(first)
    assert_compiled(crowd.start("second"))
    assert len(crowd.kit.compiles()) == 1


def test_a_pod_that_is_told_to_end_gives_its_lease_back(crowd: Crowd) -> None:
    first = start_a_holder(crowd)
    first.process.terminate()
    first.wait()
    assert crowd.holders() == []
    wait_until(lambda: not crowd.running())


# -- what was compiled is taken by whom it fits ----------------------------------------------------


def test_a_result_of_more_modules_serves_who_needs_fewer(crowd: Crowd) -> None:
    assert_compiled(crowd.start("all", "--require", "default"))
    assert_compiled(crowd.start("norm"))
    assert len(crowd.results()) == 1


def test_a_result_that_lacks_a_module_or_a_gpu_does_not(crowd: Crowd) -> None:
    assert_compiled(crowd.start("norm"))
    assert_compiled(crowd.start("all", "--require", "default"))
    assert len(crowd.results()) == 2
    older = crowd.run("older", "--gpu", "8.0", "--compile-timeout", "300", "--dry-run")
    assert "would compile" in older.said


def test_a_dry_run_installs_nothing_of_it(crowd: Crowd) -> None:
    assert_compiled(crowd.start("first"))
    second = crowd.run("second", "--dry-run")
    assert (second.process.returncode, second.outcome) == (0, "compiled")
    assert list((second.folder / "target").iterdir()) == []


def test_bad_bytes_are_compiled_again(crowd: Crowd) -> None:
    assert_compiled(crowd.start("first"))
    (wheel,) = crowd.cache.glob("wheels/*/*.whl")
    wheel.write_bytes(b"bad")
    assert_compiled(crowd.start("second"))
    assert (len(crowd.kit.compiles()), crowd.half()) == (2, [])


# -- back-off ------------------------------------------------------------------------------------


def test_what_failed_is_left_alone_for_a_while_by_all_pods(crowd: Crowd) -> None:
    crowd.kit.set(broken=True, seconds=1.2)
    pods = [crowd.start(f"pod{number}") for number in range(3)]
    for pod in pods:
        pod.wait()
        assert (pod.outcome, pod.causes[-1]) == ("python-only", "compile")
        assert "'broken' was not declared" in pod.said
    assert len(crowd.kit.compiles()) == 1
    again = crowd.run("pod0")
    assert "is tried again after 20" in again.said
    (failure,) = (crowd.cache / "failures").iterdir()
    assert f"at once after rm {failure}" in again.said
    assert json.loads(failure.read_text())["count"] == 1

    crowd.kit.set()
    failure.unlink()
    assert_compiled(crowd.start("pod0"))


def test_it_is_tried_again_when_the_time_has_come_and_then_forgotten(crowd: Crowd) -> None:
    crowd.kit.set(broken=True, seconds=1.2)
    crowd.run("pod")
    (failure,) = (crowd.cache / "failures").iterdir()
    known = json.loads(failure.read_text())
    failure.write_text(json.dumps({**known, "at": known["at"] - 601}))
    crowd.run("pod")
    assert json.loads(failure.read_text())["count"] == 2
    known = json.loads(failure.read_text())
    failure.write_text(json.dumps({**known, "at": known["at"] - 1201}))
    crowd.kit.set()
    assert_compiled(crowd.start("pod"))
    assert not failure.exists()


def test_who_took_too_long_is_tried_again_with_more_time_alone(crowd: Crowd) -> None:
    crowd.kit.set(seconds=60)
    slow = crowd.run("slow", "--compile-timeout", "8")
    assert (slow.outcome, slow.causes[-1]) == ("python-only", "deadline"), slow.said
    again = crowd.run("slow", "--compile-timeout", "8")
    assert (again.outcome, again.causes[-1]) == ("python-only", "compile")
    assert len(crowd.kit.compiles()) == 1
    crowd.kit.set()
    assert_compiled(crowd.start("slow"))


def test_what_costs_nothing_is_tried_at_each_start(crowd: Crowd) -> None:
    poor = crowd.run("poor", PATH="/nowhere")
    assert (poor.outcome, poor.causes[-1]) == ("python-only", "toolkit"), poor.said
    assert not (crowd.cache / "failures").exists()
    assert_compiled(crowd.start("poor"))


# -- volumes that fail ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prepare", "meanwhile"),
    [
        ("mount -t tmpfs -o size=16k none mnt; head -c 1m /dev/zero >mnt/fill || true", ""),
        ("mount -t tmpfs -o nr_inodes=2 none mnt; touch mnt/fill || true", ""),
        ("mount -t tmpfs none mnt; mount -o remount,ro mnt", ""),
        ("mount -t tmpfs none mnt", "umount -l mnt; mount -t tmpfs -o ro none mnt"),
        ("mount -t tmpfs none mnt", "umount -l mnt; rmdir mnt; touch mnt"),
        ("mount -t tmpfs -o size=64k none mnt", "head -c 1m /dev/zero >mnt/fill || true"),
    ],
    ids=["full", "no-inodes", "read-only", "turns-read-only", "vanishes", "fills-up"],
)
def test_a_volume_that_fails_is_survived(
    crowd: Crowd, requires_tool: Callable[[str], str], prepare: str, meanwhile: str
) -> None:
    mounts = Mounts(requires_tool("unshare"), crowd.root)
    crowd.cache = crowd.root / "mnt/cache"
    pod = crowd.folder("pod")
    for name in ("target", "tmp"):
        (pod / name).mkdir(parents=True)
    words = " ".join(f"'{word}'" for word in crowd.command("pod"))
    environ = " ".join(f"{name}='{value}'" for name, value in crowd.environ("pod").items())
    log = crowd.kit.folder / "compiles"
    wait = f"while [ ! -e '{log}' ]; do sleep 0.05; done; {meanwhile}" if meanwhile else "true"
    said = mounts.run(f"{prepare}\nenv {environ} {words} &\n{wait}\nwait $!")
    report = json.loads((pod / "tmp/apex-install.json").read_text())
    assert report["outcome"] == "compiled", said
    assert "cache" in " ".join(report["findings"])
    assert (pod / "target/apex/__init__.py").is_file()


@pytest.mark.parametrize("name", ["leases", "compiled", "wheels", ""])
def test_a_folder_that_answers_eio_is_survived(
    crowd: Crowd, requires_tool: Callable[[str], str], name: str
) -> None:
    strace = requires_tool("strace")
    for folder in ("leases", "compiled", "wheels"):
        (crowd.cache / folder).mkdir(parents=True)
    command = crowd.command
    faults = ["-P", str(crowd.cache / name), "-e", "inject=%file:error=EIO"]
    crowd.command = lambda *words: [  # type: ignore[method-assign]
        *(strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=%file", *faults),
        *command(*words),
    ]
    pod = crowd.run("pod")
    assert (pod.outcome, pod.is_usable) == ("compiled", True), pod.said


# -- the rest, in the background -----------------------------------------------------------------


@pytest.mark.usefixtures("volume")
def test_the_rest_compiles_for_the_next_pod(crowd: Crowd) -> None:
    first = crowd.start("first", APEX_INSTALL_BACKGROUND="1")
    assert_compiled(first)
    (line,) = [line for line in first.said.splitlines() if "in the background" in line]
    assert f"apex: compiling {OTHER} in the background, for the next pod: process " in line
    assert not list((first.folder / "target").glob(f"{OTHER}*"))
    wait_until(lambda: len(crowd.results()) == 2)
    log = Path(line.partition("log: ")[2])
    wait_until(lambda: "is in the cache" in log.read_text())
    wait_until(lambda: not crowd.running())
    assert not list((first.folder / "target").glob(f"{OTHER}*"))
    crowd.kit.forget()

    second = crowd.run("second", APEX_INSTALL_BACKGROUND="1")
    assert_compiled(second)
    assert list((second.folder / "target").glob(f"{OTHER}*"))
    assert "in the background" not in second.said
    lacking = crowd.run("first", "--require", "default", APEX_INSTALL_BACKGROUND="1")
    assert_compiled(lacking)
    assert list((lacking.folder / "target").glob(f"{OTHER}*"))
    assert crowd.kit.compiles() == []
    assert crowd.half() == []


@pytest.mark.usefixtures("volume")
def test_a_rest_that_failed_is_not_begun_again_so_soon(crowd: Crowd) -> None:
    assert_compiled(crowd.start("first"))
    crowd.kit.set(broken=True, seconds=1.2)
    first = crowd.run("again", APEX_INSTALL_BACKGROUND="1")
    assert_compiled(first)
    wait_until(lambda: not crowd.running())
    second = crowd.run("and-again", APEX_INSTALL_BACKGROUND="1")
    assert_compiled(second)
    assert "nothing compiles in the background: was compiled in vain once" in second.said


def test_without_being_asked_nothing_stays_behind(crowd: Crowd, volume: Path) -> None:
    assert_compiled(crowd.start("first"))
    wait_until(lambda: not crowd.running())
    assert len(list((volume / "compiled").iterdir())) == 1


def test_a_cache_that_dies_with_the_pod_is_no_place_for_it(crowd: Crowd) -> None:
    first = crowd.run("first", APEX_INSTALL_BACKGROUND="1")
    assert_compiled(first)
    assert "nothing compiles in the background" in first.said
    wait_until(lambda: not crowd.running())
    assert len(crowd.results()) == 1


def test_who_reads_what_the_install_says_does_not_wait_for_the_rest(
    crowd: Crowd, volume: Path
) -> None:
    """`$(apex-install)` ends with the install."""
    crowd.kit.set(seconds=2)
    for part in ("target", "tmp"):
        (crowd.folder("pod") / part).mkdir(parents=True)
    done = subprocess.run(
        crowd.command("pod"),
        env=crowd.environ("pod", APEX_INSTALL_BACKGROUND="1"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "in the background" in done.stderr
    assert len(list((volume / "compiled").iterdir())) == 1
    wait_until(lambda: len(crowd.results()) == 2)


def test_one_pod_compiles_the_rest_for_all(crowd: Crowd, volume: Path) -> None:
    pods = [crowd.start(f"pod{number}", APEX_INSTALL_BACKGROUND="1") for number in range(3)]
    assert_compiled(*pods)
    wait_until(lambda: not crowd.running())
    assert sorted(crowd.kit.compiles()) == [f"{OTHER}.cpp", *[f"{MODULE}.cpp"] * 2]
    assert len(list((volume / "compiled").iterdir())) == 2
