"""An Apex that is there already, whoever put it there, and the Python that it is there for.

By the packed installer: what is left alone, what is put aside and comes back, what never counts.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.targets import add_foreign
from support.tiny_pod import (
    SUFFIX,
    VERSION_PY,
    Ended,
    Kit,
    TinyPod,
    make_kit,
    make_venv,
    module_bytes,
    state_of,
    write_torch,
)
from support.wheels import MODULE, VERSION

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = pytest.mark.integration

MORE = "amp_C"
MADE = f"apex: wheel, apex {VERSION} (sm_90)"
UPSTREAM = {
    "apex/__init__.py": "from apex import normalization\n",
    "apex/normalization/__init__.py": "class FusedRMSNorm: ...\n",
}
PATH_LINE = {"__editable__.apex-0.1.pth": "/src/apex\n"}


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    groups = {"norm": [MODULE], "default": [MODULE, MORE]}
    return make_kit(tmp_path_factory.mktemp("kit"), groups=groups)


@pytest.fixture
def pod(tmp_path: Path, kit: Kit) -> TinyPod:
    """With a wheel in its index that fits a GPU of 9.0."""
    pod = TinyPod(tmp_path / "pod", kit)
    pod.offer(pod.wheel())
    return pod


def run(pod: TinyPod, *words: str, gpu: str = "9.0", **environ: str) -> Ended:
    return pod.run("--gpu", gpu, *words, **environ)


def add_module(pod: TinyPod, *machine_code: str, **how: str) -> None:
    (pod.target / f"{MODULE}{SUFFIX}").write_bytes(module_bytes(*machine_code, **how))


def add_upstream(pod: TinyPod, **how: object) -> None:
    """What `pip install .` of the upstream source leaves without a compiler."""
    add_foreign(pod.target, version="0.1", files=UPSTREAM, **how)


def add_compiled(pod: TinyPod, *machine_code: str, undefined: str = "", **how: object) -> None:
    """A foreign Apex with its module, which RECORD lists."""
    add_upstream(pod, **how)
    undefined = {"undefined": undefined} if undefined else {}
    add_module(pod, *machine_code, **undefined)
    record = pod.target / "apex-0.1.dist-info/RECORD"
    if record.exists():
        record.write_text(f"{MODULE}{SUFFIX},,\n{record.read_text()}")


# -- foreign: replaced and brought back ----------------------------------------------------------

REPLACED: dict[str, tuple[Callable[[TinyPod], object], str]] = {
    "upstream's Python-only install": (add_upstream, f"has no module {MODULE}"),
    "the same by uv": (lambda pod: add_upstream(pod, installer="uv"), "(installed by uv)"),
    "a wheel for one other architecture": (
        lambda pod: add_compiled(pod, "8.0"),
        f"{MODULE} holds code for 8.0 only, not for 9.0: it would fail later as 'no kernel image'",
    ),
    "a wheel for another torch": (
        lambda pod: add_compiled(pod, "9.0", undefined="_ZN3c107new_oneEv"),
        "undefined symbol c10::new_one(): libc10.so of torch 2.11.0+cu130 does not define it",
    ),
    "PyPI's unrelated apex": (lambda pod: add_foreign(pod.target), "apex 0.9.10.dev0 in "),
}


@pytest.mark.parametrize("name", REPLACED)
def test_a_foreign_one_that_does_not_fit_is_put_aside_and_comes_back(
    pod: TinyPod, name: str
) -> None:
    add, says = REPLACED[name]
    add(pod)
    before = pod.state()
    ended = run(pod)
    assert (ended.code, ended.line) == (0, MADE)
    assert says in ended.lines[0]
    assert ended.lines[0].endswith("; to be put aside")
    assert run(pod).report["outcome"] == "already"
    assert pod.run("remove").code == 0
    assert pod.state() == before


# -- foreign: left alone -------------------------------------------------------------------------


def without_a_dist_info(pod: TinyPod) -> None:
    add_upstream(pod)
    shutil.rmtree(pod.target / "apex-0.1.dist-info")


def by_dpkg(pod: TinyPod) -> None:
    without_a_dist_info(pod)
    (pod.target / "apex-0.1.egg-info").write_text("Name: apex\nVersion: 0.1\n")


def developed(pod: TinyPod) -> None:
    """`setup.py develop`: a link, and the checkout behind the target on `sys.path`."""
    checkout = pod.root / "checkout"
    (checkout / "apex").mkdir(parents=True)
    (checkout / "apex/__init__.py").touch()
    (checkout / "apex.egg-info").mkdir()
    (pod.target / "apex.egg-link").write_text(f"{checkout}\n.")
    (pod.target / "easy-install.pth").write_text(f"{checkout}\n")


LEFT: dict[str, Callable[[TinyPod], object]] = {
    "nothing describes it": without_a_dist_info,
    "an egg-info, as dpkg has it": by_dpkg,
    "no RECORD": lambda pod: add_upstream(pod, record=False),
    "of another installer": lambda pod: add_upstream(pod, installer="conda"),
    "editable": lambda pod: add_foreign(pod.target, version="0.1", files=PATH_LINE),
    "editable, as setuptools had it": developed,
}


@pytest.mark.parametrize("name", LEFT)
def test_one_that_is_not_ours_to_touch_is_left_and_the_line_says_what_to_do(
    pod: TinyPod, name: str
) -> None:
    LEFT[name](pod)
    before = state_of(pod.root)
    ended = run(pod)
    assert (ended.code, ended.causes) == (3, ["target"])
    assert "it is not ours to touch: remove it, or run again with --replace-foreign" in ended.line
    assert state_of(pod.root) == before


@pytest.mark.parametrize("name", LEFT)
def test_it_is_replaced_when_that_is_asked_and_comes_back(pod: TinyPod, name: str) -> None:
    LEFT[name](pod)
    before = pod.state()
    ended = run(pod, "--replace-foreign")
    assert (ended.code, ended.line) == (0, MADE)
    found = subprocess.run(
        [str(pod.python), "-c", "import apex; print(apex.version)"],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == f"{VERSION}\n", found.stderr
    assert pod.run("remove").code == 0
    assert pod.state() == before


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize("words", [(), ("--at-least", "wheel"), ("--keep-foreign",)])
def test_one_that_fits_is_left_alone_and_counts_as_a_wheel(
    pod: TinyPod, words: tuple[str, ...], *, record: bool
) -> None:
    add_compiled(pod, "8.0", "9.0", record=record)
    before = state_of(pod.environment)
    ended = run(pod, *words)
    assert (ended.code, ended.report["outcome"], ended.report["foreign"]) == (0, "already", True)
    assert ended.line == "apex: already, apex 0.1 (foreign, installed by pip)"
    assert state_of(pod.environment) == before


def test_one_that_fits_is_replaced_when_that_is_asked(pod: TinyPod) -> None:
    add_compiled(pod, "9.0")
    before = pod.state()
    assert run(pod, "--replace-foreign").line == MADE
    assert pod.run("remove").code == 0
    assert pod.state() == before


def test_one_that_does_not_fit_is_kept_when_that_is_asked(pod: TinyPod) -> None:
    add_upstream(pod)
    before = state_of(pod.environment)
    ended = run(pod, "--keep-foreign")
    assert (ended.code, ended.causes) == (3, ["target"])
    assert "kept, as --keep-foreign asks" in ended.line
    assert state_of(pod.environment) == before


# -- already, and what never counts as it --------------------------------------------------------


def outcome(ended: Ended) -> tuple[int, object]:
    return ended.code, ended.report["outcome"]


def has_finding(ended: Ended, words: str) -> bool:
    return any(words in line for line in ended.report["findings"])


def test_another_torch_under_the_same_path(pod: TinyPod) -> None:
    """Of the same minor: installed for anew. Of another: nothing fits, and it is not `already`."""
    run(pod)
    torch = pod.target / "torch/version.py"
    torch.write_text(VERSION_PY.replace("2.11.0", "2.11.1"))
    ended = run(pod)
    assert outcome(ended) == (0, "wheel")
    assert has_finding(ended, "torch is 2.11.1+cu130, was 2.11.0+cu130")
    assert outcome(run(pod)) == (0, "already")
    torch.write_text(VERSION_PY.replace("2.11.0", "2.12.0"))
    assert outcome(run(pod)) == (3, "none")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("70d99e998b49", "f" * 12, "torch_git is ffff"),
        ("'13.0'", "'13.1'", "cuda is 13.1, was 13.0"),
    ],
)
def test_a_torch_rebuilt_under_the_same_version(
    pod: TinyPod, old: str, new: str, says: str
) -> None:
    run(pod)
    (pod.target / "torch/version.py").write_text(VERSION_PY.replace(old, new))
    ended = run(pod)
    assert ended.report["outcome"] != "already"
    assert has_finding(ended, says)


def test_another_python_at_the_same_target(
    pod: TinyPod, tmp_path: Path, requires_python: Callable[[str], str]
) -> None:
    """A folder on a volume, whose environment was made anew with another Python."""
    other = TinyPod(
        tmp_path / "other", make_kit(tmp_path / "kit", python=requires_python("3.12"), minor="3.12")
    )
    volume = tmp_path / "volume"
    volume.mkdir()
    words = ("--target", str(volume))
    assert outcome(run(pod, *words)) == (0, "wheel")
    assert outcome(run(pod, *words)) == (0, "already")
    assert outcome(run(other, *words)) == (3, "none"), "its index is empty"
    other.offer(other.wheel())
    ended = run(other, *words)
    assert outcome(ended) == (0, "wheel")
    assert has_finding(ended, f"python is cp312, was {pod.wheel().entry.the_cell.python}")
    assert list(volume.glob(f"{MODULE}.cpython-312-*.so"))
    assert not list(volume.glob(f"{MODULE}{SUFFIX}"))


def test_one_that_lacks_what_is_required_now(pod: TinyPod) -> None:
    run(pod)
    ended = run(pod, "--require", "default")
    assert outcome(ended) == (3, "none")
    assert has_finding(ended, f"lacks {MORE}")
    both = pod.wheel(
        "both",
        modules=(MODULE, MORE),
        module_bytes={name: module_bytes("8.0", "9.0") for name in (MODULE, MORE)},
    )
    pod.offer(both)
    assert outcome(run(pod, "--require", "default")) == (0, "wheel")
    assert outcome(run(pod)) == (0, "already"), "more than is required is enough"


def test_one_without_code_for_a_gpu_that_is_there_now(pod: TinyPod) -> None:
    run(pod)
    ended = run(pod, gpu="9.0,12.0")
    assert outcome(ended) == (3, "none")
    assert has_finding(ended, "has no code for 12.0")
    assert outcome(pod.run()) == (0, "already"), "no GPU visible: not asked"


def receipt_of(pod: TinyPod) -> Path:
    return pod.target / f"apex-{VERSION}.dist-info/apex_install.json"


@pytest.mark.parametrize(
    ("kept", "at_least", "becomes"),
    [
        ("compiled", "python-only", "already"),
        ("compiled", "compiled", "already"),
        ("compiled", "wheel", "wheel"),
        ("python-only", "python-only", "wheel"),
        ("wheel", "wheel", "already"),
    ],
)
def test_an_already_counts_as_its_receipt_says(
    pod: TinyPod, kept: str, at_least: str, becomes: str
) -> None:
    run(pod)
    receipt = json.loads(receipt_of(pod).read_text())
    receipt_of(pod).write_text(json.dumps({**receipt, "outcome": kept}))
    assert outcome(run(pod, "--at-least", at_least)) == (0, becomes)


def test_a_receipt_that_cannot_be_read_counts_for_nothing(pod: TinyPod) -> None:
    run(pod)
    receipt_of(pod).write_text("{")
    ended = run(pod)
    assert outcome(ended) == (0, "wheel")
    assert has_finding(ended, "its receipt cannot be read")


# -- which Python --------------------------------------------------------------------------------


class Start:
    """A pod that is started by a Python of its own without a torch; the app's is elsewhere."""

    def __init__(self, pod: TinyPod) -> None:
        self.pod, self.app = pod, pod.environment
        self.bare = pod.root / "bare"
        make_venv(self.bare)
        self.script = pod.root / "tools/torchrun"
        self.script.parent.mkdir()

    def run(self, *words: str, **environ: str) -> Ended:
        command = [str(self.bare / "bin/python"), str(self.pod.zipapp), "--gpu", "9.0"]
        command += ["--index-url", self.pod.index_url, *words]
        path = f"{self.bare}/bin:{self.script.parent}"
        done = subprocess.run(
            command,
            env={**self.pod.environ, "PATH": path, **environ},
            cwd=self.pod.root,
            capture_output=True,
            text=True,
            check=False,
        )
        return self.pod.ended(done)


@pytest.fixture
def start(pod: TinyPod) -> Start:
    return Start(pod)


WAYS: dict[str, Callable[[Start], tuple[list[str], dict[str, str]]]] = {
    "the flag": lambda start: (["--python", str(start.app)], {}),
    "the app's command": lambda start: (["--", str(start.app / "bin/python"), "app.py"], {}),
    "the command's own first line": lambda _: (["--", "torchrun", "app.py"], {}),
    "VIRTUAL_ENV": lambda start: ([], {"VIRTUAL_ENV": str(start.app)}),
    "CONDA_PREFIX": lambda start: ([], {"CONDA_PREFIX": str(start.app)}),
    "VIRTUAL_ENV, where the command has no torch": lambda start: (
        ["--", "python", "app.py"],
        {"VIRTUAL_ENV": str(start.app)},
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_the_app_s_python_is_found_by(start: Start, name: str) -> None:
    start.script.write_text(f"#!{start.app}/bin/python\n")
    start.script.chmod(0o755)
    words, environ = WAYS[name](start)
    ended = start.run(*words, **environ)
    assert (ended.code, ended.line) == (0, MADE), ended.err
    assert ended.report["environment"]["python"] == str(start.app / "bin/python")
    assert (start.pod.target / "apex/__init__.py").is_file()


def test_without_any_hint_the_line_says_what_was_tried(start: Start) -> None:
    ended = start.run()
    assert (ended.code, ended.causes) == (3, ["no-torch"])
    assert f"no torch in {start.bare}/bin/python" in ended.line


def test_the_flag_it_names_is_the_one_that_helps(start: Start) -> None:
    """As a pod is that makes its environment on a volume, in a folder of the app's own."""
    app = start.pod.root / "HOME/x/venv"
    shutil.copytree(start.app, app, symlinks=True)
    line = start.run().line
    assert f"found 2.11.0+cu130 in {app}: use --python {app}/bin/python" in line
    python = line.removesuffix(")").rpartition("--python ")[2]
    assert start.run("--python", python).line == MADE


def test_the_command_s_python_wins_over_virtual_env(start: Start, tmp_path: Path) -> None:
    other = tmp_path / "other"
    make_venv(other)
    write_torch(next(other.glob("lib/*/site-packages")))
    ended = start.run("--", str(start.app / "bin/python"), "app.py", VIRTUAL_ENV=str(other))
    assert ended.report["environment"]["python"] == str(start.app / "bin/python")
