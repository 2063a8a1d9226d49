"""Bad input, from the command line of the packed installer: one line, its code, nothing changed.

Each case starts from a pod that has a foreign Apex in its target and an index with one wheel that
fits, and spoils one thing. The farm's own cases are in `test_bad_farm_input.py`.
"""

from __future__ import annotations

import json
import shlex
import shutil
import socket
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from support import fault_server as server
from support.fake_driver import make_driver
from support.mounts import Mounts
from support.targets import add_foreign
from support.tiny_elf import TinyElf
from support.tiny_pod import (
    CHECK_FAIL,
    CPU_PY,
    INDEX_PATH,
    ROCM_PY,
    SUFFIX,
    TAG,
    Kit,
    TinyPod,
    make_kit,
    module_bytes,
    state_of,
)
from support.wheels import MODULE, VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.fault_server import Handler
    from support.tiny_pod import Ended
    from support.wheels import MadeWheel

pytestmark = pytest.mark.integration

NEEDED_BY_ALL, NEEDED_BY_A_PART = 40 * "a", 40 * "b"
PACKAGING = {"name": "packaging", "specifier": "packaging>20.6", "module": "packaging"}
REQUIREMENTS = {
    "*": [],
    NEEDED_BY_ALL: [{**PACKAGING, "needed_for_import": True}],
    NEEDED_BY_A_PART: [{**PACKAGING, "needed_for_import": False}],
}
DOCUMENT = f"/{INDEX_PATH}/install-{TAG}.json"


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return make_kit(tmp_path_factory.mktemp("kit"), requirements=REQUIREMENTS)


@dataclass
class Scene:
    """A pod, and what the case wants said to the installer."""

    pod: TinyPod
    wheel: MadeWheel
    stack: ExitStack
    words: list[str] = field(default_factory=lambda: ["--gpu", "9.0"])
    environ: dict[str, str] = field(default_factory=dict)

    def offer(self, **how: object) -> None:
        """Another wheel in place of the one that fits."""
        self.wheel = self.pod.wheel("other", **how)
        shutil.rmtree(self.pod.index)
        self.pod.offer(self.wheel)

    def offer_module(self, data: bytes) -> None:
        self.offer(module_bytes={MODULE: data})

    def write_torch(self, text: str) -> None:
        (self.pod.target / "torch/version.py").write_text(text)

    def say(self, *words: str) -> None:
        self.words += words

    def serve(self, handlers: dict[str, Handler]) -> None:
        served = self.stack.enter_context(server.FaultServer(handlers))
        self.say("--index-url", f"{served.url}/")

    def serve_wheel(self, change: Callable[[bytes], Handler]) -> None:
        """The true document, and this answer in place of the wheel."""
        entry = self.wheel.entry
        document = (self.pod.index / DOCUMENT[1:]).read_bytes()
        self.serve(
            {
                DOCUMENT: server.answer(document),
                f"/files/{entry.sha256}/{entry.file}": change(self.wheel.path.read_bytes()),
            }
        )

    def run(self) -> Ended:
        return self.pod.run(*self.words, **self.environ)


@pytest.fixture
def scene(tmp_path: Path, kit: Kit) -> Iterator[Scene]:
    pod = TinyPod(tmp_path / "pod", kit)
    add_foreign(pod.target)
    wheel = pod.wheel()
    pod.offer(wheel)
    with ExitStack() as stack:
        yield Scene(pod, wheel, stack)


def unreachable() -> str:
    """An address of this machine where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/"


def torch_elsewhere(scene: Scene) -> None:
    shutil.copytree(scene.pod.environment, scene.pod.root / "HOME/app/venv", symlinks=True)
    shutil.rmtree(scene.pod.target / "torch")


def edit_document(scene: Scene, change: Callable[[str], str]) -> None:
    path = scene.pod.index / DOCUMENT[1:]
    text = path.read_text()
    path.write_text(change(text))
    assert path.read_text() != text


@dataclass(frozen=True)
class Case:
    """What is spoilt, and what must be said of it."""

    spoil: Callable[[Scene], object]
    code: int
    causes: tuple[str, ...]
    says: tuple[str, ...]
    """Words of the last line: what, where, what to do."""


def no_torch(spoil: Callable[[Scene], object], *says: str) -> Case:
    return Case(spoil, 3, ("no-torch",), says)


def no_wheel(spoil: Callable[[Scene], object], *says: str) -> Case:
    return Case(spoil, 3, ("no-wheel",), says)


def download(spoil: Callable[[Scene], object], *says: str) -> Case:
    return Case(spoil, 3, ("download",), says)


def struck_out(cause: str, spoil: Callable[[Scene], object], *says: str) -> Case:
    """And there is no other."""
    remedy = ("no other wheel fits: tell who keeps ", "or name another with --index-url")
    return Case(spoil, 3, (cause, "no-wheel"), (*says, *remedy))


def trust(spoil: Callable[[Scene], object], *says: str) -> Case:
    return struck_out("trust", spoil, *says)


def fault(name: str, *says: str) -> Case:
    """A fault of `support.wheel_faults`, published under its true sha256."""
    return trust(lambda scene: scene.offer(fault=name), f"apex-{VERSION}-{TAG}-", *says)


def usage(*words: str, says: tuple[str, ...]) -> Case:
    return Case(lambda scene: scene.say(*words), 2, ("usage",), says)


def refused(*words: str, says: tuple[str, ...]) -> Case:
    """Usage, found before anything is begun: there is no report."""
    return Case(lambda scene: scene.say(*words), 2, (), says)


CASES: dict[str, Case] = {
    # torch
    "no torch": no_torch(
        lambda scene: shutil.rmtree(scene.pod.target / "torch"),
        "no torch in {python} (",
        "install torch there first, or name its python with --python",
    ),
    "a torch that says no version": no_torch(
        lambda scene: scene.write_torch("nonsense"),
        "{target}/torch/version.py states no __version__: reinstall torch",
    ),
    "a torch that cannot be read": no_torch(
        lambda scene: (scene.pod.target / "torch/version.py").write_bytes(b"\xff\xfe"),
        "cannot read {target}/torch/version.py: ",
        ": reinstall torch",
    ),
    "torch elsewhere": no_torch(
        torch_elsewhere,
        "no torch in {python} (",
        "found 2.11.0+cu130 in {home}/app/venv: use --python {home}/app/venv/bin/python",
    ),
    "CPU torch": no_wheel(
        lambda scene: scene.write_torch(CPU_PY),
        "torch 2.11.0+cpu in {target}/torch is built without CUDA: install a CUDA build of torch",
    ),
    "torch for ROCm": no_wheel(
        lambda scene: scene.write_torch(ROCM_PY),
        "torch 2.11.0+rocm6.4 in {target}/torch is built for ROCm 6.4.43482",
        "install a CUDA build of torch",
    ),
    # the index
    "no index": no_wheel(
        lambda scene: scene.say("--index-url", ""),
        "no index: give --index-url or set APEX_INSTALL_INDEX_URL",
    ),
    "index unreachable": download(
        lambda scene: scene.say("--index-url", unreachable()),
        f"{DOCUMENT}: cannot connect to 127.0.0.1:",
        "Connection refused (tried 4 times): check the network, or name another source",
    ),
    "index that never answers": Case(
        lambda scene: (scene.serve({DOCUMENT: server.silent()}), scene.say("--deadline", "1")),
        3,
        ("deadline",),
        (f"{DOCUMENT}: the time budget of 1 s is used up; a longer one is --deadline SECONDS",),
    ),
    "index without this cell": no_wheel(
        lambda scene: scene.serve({}),
        f"the index has nothing for {TAG}, torch 2.11, cu130 (http://127.0.0.1:",
        f"{DOCUMENT} is not there): check --index-url, or ask its keeper for that cell",
    ),
    "document truncated": download(
        lambda scene: scene.serve({DOCUMENT: server.truncated(b'{"schema"', announced=900)}),
        f"{DOCUMENT}: the answer was cut off, 891 of 900 bytes are missing (tried 4 times)",
        "check the network",
    ),
    "document is a sign-in page": Case(
        lambda scene: scene.serve({DOCUMENT: server.answer(b"<!doctype html>")}),
        3,
        ("trust",),
        (f"{DOCUMENT}: not JSON (", "is this the index, or a sign-in page?"),
    ),
    "document for a newer installer": Case(
        lambda scene: edit_document(
            scene, lambda text: json.dumps({**json.loads(text), "schema": 2})
        ),
        3,
        ("trust",),
        ("schema 2 needs apex-install", "fetch a newer apex-install.pyz"),
    ),
    # the wheel's bytes
    "wheel 404": struck_out(
        "download",
        lambda scene: scene.serve_wheel(lambda _: server.status("404 Not Found")),
        f"{TAG}-linux_x86_64.whl: not there (HTTP 404), though the index lists it",
    ),
    "wheel truncated": download(
        lambda scene: scene.serve_wheel(
            lambda data: server.truncated(data[:1000], announced=len(data))
        ),
        "linux_x86_64.whl: the answer was cut off, ",
        "bytes are missing (tried 4 times): check the network, or name another source",
    ),
    "wheel of another hash": trust(
        lambda scene: scene.serve_wheel(lambda data: server.answer(data[:-1] + b"x")),
        "linux_x86_64.whl: sha256 is ",
        "the index says {sha256}",
    ),
    "wheel of another size": trust(
        lambda scene: scene.serve_wheel(lambda data: server.answer(data + b"x")),
        "linux_x86_64.whl: is {one_more} bytes, the index says {size}",
    ),
    "not a zip": fault("not-a-zip", "is not a zip archive"),
    "an empty file": fault("empty", "is not a zip archive"),
    "a file that was cut before it was published": fault("truncated", "is cut off"),
    "a zip bomb": fault("bomb", "would expand from 82 kB to 80 MB, which no wheel does"),
    # what the wheel holds
    "a missing module": fault("missing-module", f"lacks the module: {MODULE}{SUFFIX}"),
    "a path outside": fault("path-outside", "leads outside or is no plain path: ../outside.py"),
    "an absolute path": fault("path-absolute", "is no plain path: /etc/absolute.py"),
    "a symlink": fault("symlink", "is not a plain file (a link, a device or a folder): apex/link"),
    "a duplicate": fault("duplicate", "is there twice: apex/__init__.py"),
    "RECORD lacks a file": fault("record-lacks-member", "RECORD lacks: apex/extra.py"),
    "RECORD lists too much": fault(
        "record-lacks-file", "RECORD lists what is not there: apex/normalization/deep/er.py"
    ),
    "RECORD has another hash": fault(
        "record-wrong-hash", "apex/normalization/deep/er.py is not what RECORD says"
    ),
    "RECORD has another size": fault("record-wrong-size", "RECORD has another size for: apex-"),
    "no RECORD": fault("record-missing", "has no RECORD"),
    "machine code for another GPU, as the index says": no_wheel(
        lambda scene: scene.offer(architectures=("8.0",)),
        f"no wheel for {TAG} torch 2.11.0+cu130 cu130 sm_90; nearest: apex-{VERSION}",
        "has no code for 9.0; it holds 8.0; apex-install doctor names all",
    ),
    "machine code for another GPU than the index says": trust(
        lambda scene: scene.offer_module(module_bytes("8.0")),
        f"apex-{VERSION}-{TAG}-{TAG}-linux_x86_64.whl: {MODULE} holds code for 8.0, "
        "the index says 8.0;9.0",
    ),
    "no machine code at all": trust(
        lambda scene: scene.offer_module(module_bytes()),
        f"{MODULE} holds code for no GPU, the index says 8.0;9.0",
    ),
    "a module for another machine": Case(
        lambda scene: scene.offer_module(TinyElf(machine=183, undefined=(CHECK_FAIL,)).data()),
        3,
        ("check", "no-wheel"),
        (f"linux_x86_64.whl: {MODULE}{SUFFIX}: is for another machine than x86_64",),
    ),
    "a module for another torch": Case(
        lambda scene: scene.offer_module(module_bytes("8.0", "9.0", undefined="_ZN3c103newEv")),
        3,
        ("check", "no-wheel"),
        (
            "symbol check: ",
            "undefined symbol c10::new(): libc10.so of torch 2.11.0+cu130 does not",
        ),
    ),
    # the pod
    "a target that is not there": Case(
        lambda scene: (
            shutil.rmtree(scene.pod.target / "apex"),
            scene.say("--target", "/nowhere/at/all"),
        ),
        3,
        ("target",),
        ("cannot write /nowhere/at/all: No such file", "make that folder first, or say --target"),
    ),
    "a GPU that nobody knows": no_wheel(
        lambda scene: scene.say("--gpu", "99.9"),
        "cu130 sm_999; nearest: apex-",
        "has no code for 99.9; it holds 8.0;9.0; apex-install doctor names all",
    ),
    # the command line
    "a GPU that is nonsense": usage(
        "--gpu",
        "nonsense",
        says=("--gpu nonsense: ", "write compute capabilities: 8.0,8.6"),
    ),
    "unknown names in --require": usage(
        "--require",
        "FusedRMSNrom,zzz",
        says=(
            "--require FusedRMSNrom: unknown; near: FusedRMSNorm, apex.normalization.FusedRMSNorm",
            "--require zzz: unknown; `default` stands for the whole default set",
        ),
    ),
    "an index that is no address": usage(
        "--index-url", "/srv/index", says=("--index-url: '/srv/index'", "write file:///srv/index")
    ),
    "an index over plain http": usage(
        "--index-url", "http://example.invalid/", says=("plain http is taken from this machine",)
    ),
    "a python that is not there": usage(
        "--python", "/nowhere", says=("--python /nowhere: no such program; give the path",)
    ),
    "a python that is none": usage(
        "--python", "/bin/ls", says=("/bin/ls does not run as a Python 3: it exits with 2",)
    ),
    "a cache that is relative": usage(
        "--cache-dir", "here", says=("--cache-dir here: give an absolute path",)
    ),
    "a deadline that is none": refused(
        "--deadline", "soon", says=("--deadline 'soon' is not a number of seconds above 0",)
    ),
    "a flag that is none": refused("--no-such-flag", says=("--no-such-flag; see apex-install",)),
}


@pytest.mark.parametrize("name", CASES)
def test_one_line_its_code_and_nothing_changed(scene: Scene, name: str) -> None:
    case = CASES[name]
    case.spoil(scene)
    before = state_of(scene.pod.environment)
    ended = scene.run()
    assert state_of(scene.pod.environment) == before
    assert (ended.code, tuple(ended.causes)) == (case.code, case.causes), ended.err
    assert_one_line(ended)
    for words in case.says:
        assert filled(words, scene) in ended.line
    left = [path.name for path in (scene.pod.root / "TMPDIR").iterdir()]
    assert left == [], "something was left behind"


def assert_one_line(ended: Ended) -> None:
    """The findings, then one line that says it all; no traceback, nothing on stdout."""
    assert ended.out == ""
    assert all(line.startswith("apex: ") for line in ended.lines), ended.err
    assert len(ended.lines) == 1 + len(ended.report.get("findings", ())), ended.err
    if ended.report:
        assert ended.report["exit_code"] == ended.code
        assert ended.line.startswith("apex: none (")


def filled(words: str, scene: Scene) -> str:
    """The pod's own paths and the wheel's figures in place of {names}."""
    entry, pod = scene.wheel.entry, scene.pod
    figures = {"sha256": entry.sha256, "size": entry.size, "one_more": entry.size + 1}
    paths = {"python": pod.python, "target": pod.target, "home": pod.root / "HOME"}
    return words.format(**figures, **paths)


def test_what_is_spoilt_was_good_before(scene: Scene) -> None:
    """Without this, each case might fail for a reason of its own."""
    ended = scene.run()
    assert (ended.code, ended.line) == (0, f"apex: wheel, apex {VERSION} (sm_90)")
    assert ended.report["findings"][0].endswith(
        f"does not fit: has no module {MODULE}; to be put aside"
    )


def test_the_helpful_line_helps(scene: Scene) -> None:
    torch_elsewhere(scene)
    line = scene.run().line
    _, _, python = line.removesuffix(")").partition("use --python ")
    scene.say("--python", python)
    assert scene.run().code == 0


def test_a_driver_that_is_too_old(
    scene: Scene, tmp_path: Path, requires_tool: Callable[[str], str]
) -> None:
    """Read from the driver's own libraries, as in a pod."""
    cc, before = requires_tool("cc"), scene.pod.state()
    for cuda, driver in (((12, 2), "535.104.05"), ((13, 0), "580.65.06")):
        folder = make_driver(tmp_path / driver, cc, driver=driver, cuda=cuda, gpu=(9, 0))
        ended = scene.pod.run("--dry-run", LD_LIBRARY_PATH=str(folder))
        assert scene.pod.state() == before
        assert ended.report["environment"]["gpus"] == ["Made Up (9.0)"]
        if cuda[0] == 12:
            assert (ended.code, ended.causes) == (3, ["no-wheel"])
            assert_one_line(ended)
            assert (
                "needs a driver for CUDA 13, driver 535.104.05 runs up to 12.2: update the driver"
                in ended.line
            )
    assert ended.code == 0, "the same with a newer driver"


@pytest.mark.parametrize(("ref", "code"), [(NEEDED_BY_ALL, 3), (NEEDED_BY_A_PART, 0)])
def test_a_missing_requirement_is_the_pip_line(scene: Scene, ref: str, code: int) -> None:
    """The wheel is in place; what it cannot import is said last, at each start."""
    scene.offer(ref=ref)
    for outcome in ("wheel", "already"):
        ended = scene.run()
        assert (ended.code, ended.causes) == (code, ["requirement"]), ended.err
        assert ended.report["outcome"] == outcome
        assert ended.line == (
            "apex: apex needs packaging, which is missing: "
            f"{scene.pod.python} -m pip install 'packaging>20.6'"
        )
    assert (scene.pod.target / "apex/normalization/__init__.py").is_file()
    (scene.pod.target / "packaging").mkdir()
    assert scene.run().code == 0


@pytest.mark.parametrize("place", ["target", "cache", "temporary directory"])
def test_a_full_disk(scene: Scene, place: str, requires_tool: Callable[[str], str]) -> None:
    mounts, pod = Mounts(requires_tool("unshare"), scene.pod.root), scene.pod
    fill = "mount -t tmpfs -o size=16k none mnt"
    if place == "target":
        shutil.rmtree(pod.target / "apex")
        scene.say("--target", str(pod.root / "mnt"), "--require", "default")
        says = ("target: ", "no disk: ", "say --target DIR on another disk")
    elif place == "cache":
        scene.say("--cache-dir", str(pod.root / "mnt/cache"))
        says = ()
    else:
        scene.environ["TMPDIR"] = str(pod.root / "mnt")
        fill += " && head -c 16k /dev/zero > mnt/full"
        says = ()
    output = run_mounted(mounts, scene, fill)
    lines = output.splitlines()
    if place != "target":
        assert lines[-2:] == [f"apex: wheel, apex {VERSION} (sm_90)", "exit 0"]
        assert ("its disk is full; not used" in output) is (place == "cache")
        return
    assert lines[-1] == "exit 3"
    for words in says:
        assert words in lines[-2]


def test_a_read_only_target(scene: Scene, requires_tool: Callable[[str], str]) -> None:
    mounts, target = Mounts(requires_tool("unshare"), scene.pod.root), scene.pod.target
    before = scene.pod.state()
    fill = f"mount --bind {target} {target} && mount -o remount,ro,bind {target}"
    lines = run_mounted(mounts, scene, fill).splitlines()
    assert lines[-1] == "exit 3"
    assert f"target: cannot write {target}" in lines[-2]
    assert "Read-only file system; run it as the owner, or say --target DIR" in lines[-2]
    assert scene.pod.state() == before


def run_mounted(mounts: Mounts, scene: Scene, mount: str) -> str:
    """What the installer says after these mounts, and `exit N`."""
    pod = scene.pod
    words = [str(pod.python), str(pod.zipapp), "--index-url", pod.index_url, *scene.words]
    environ = {**pod.environ, **scene.environ}
    assigned = [f"{name}={value}" for name, value in environ.items()]
    command = shlex.join(["env", "-i", *assigned, *words])
    return mounts.run(f"{mount}\n{command} && code=0 || code=$?\necho exit $code")


def test_the_next_wheel_is_taken_when_one_is_bad(scene: Scene) -> None:
    """Machine code that is not what the index says strikes that entry out, and no other."""
    pod = scene.pod
    bad = pod.wheel("bad", build_tag=2, module_bytes={MODULE: module_bytes("8.0")})
    pod.offer(bad, scene.wheel)
    ended = scene.run()
    assert (ended.code, ended.causes) == (0, ["trust"])
    assert ended.report["chosen"]["file"] == scene.wheel.entry.file


def test_a_foreign_apex_is_left_as_it_is_where_nothing_better_comes(scene: Scene) -> None:
    """What will become of it is said; that it was done is not."""
    scene.offer(fault="not-a-zip")
    finding = scene.run().lines[0]
    assert "(installed by pip) does not fit" in finding
    assert finding.endswith("to be put aside")
    assert (scene.pod.target / "apex/models.py").is_file()
