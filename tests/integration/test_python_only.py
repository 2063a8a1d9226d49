"""The Python-only wheel: packed by the farm, carried by the zipapp, taken in the last resort."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import packaging
import pytest

from support import fault_server as server
from support.carrying import pack_carrying, small_data
from support.skips import NO_APEX_SOURCE
from support.tiny_pod import CPU_PY, INDEX_PATH, TAG, Kit, TinyPod, make_kit
from wheelbuild.cli import main as farm
from wheelbuild.data import load_data

if TYPE_CHECKING:
    from support.torch_environments import TorchEnvironment

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parent.parent.parent
STANDINS = REPOSITORY / "wheelbuild/recipes/apex/standins"
SMALL = REPOSITORY / "tests/data/recipes/small"
CHECKS = REPOSITORY / "tests/data"
EXAMPLES = 60
CARRIED_BYTES = 1_500_000
"""All real refs' wheels together, at most."""
DOCUMENT = f"/{INDEX_PATH}/install-{TAG}.json"


def run_checks(torch: TorchEnvironment, script: str, *words: object, path: str = "") -> None:
    """Each of the script's checks says that it passed, and none is left out."""
    command = [str(torch.python), str(CHECKS / script), *map(str, words)]
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stderr[-3000:]
    listed = re.search(r"\nfor check in \(([^)]*)\):", (CHECKS / script).read_text())
    assert listed is not None
    names = [name.strip() for name in listed.group(1).split(",") if name.strip()]
    assert names
    assert done.stdout.splitlines() == [f"{name} passed" for name in names]


def run_standin_checks(torch: TorchEnvironment, script: str, examples: int) -> None:
    run_checks(torch, script, STANDINS, Path(hypothesis.__file__).parent.parent, examples)


SCRIPTS = pytest.mark.parametrize("script", ["standin_checks.py", "amp_checks.py"])


@SCRIPTS
def test_a_stand_in_is_what_the_compiled_module_is(
    torch_211: TorchEnvironment, torch_26: TorchEnvironment, script: str
) -> None:
    for torch in (torch_211, torch_26):
        run_standin_checks(torch, script, EXAMPLES)


@pytest.mark.soak
@SCRIPTS
def test_a_stand_in_in_many_examples(torch_211: TorchEnvironment, script: str) -> None:
    run_standin_checks(torch_211, script, 3000)


@pytest.fixture(scope="module")
def real_refs(apex_source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Ref -> its files, of those whose commit the repository holds."""
    found = {}
    for ref in load_data().recipe.refs:
        archive = subprocess.run(
            ["git", "-C", str(apex_source), "archive", ref.commit], capture_output=True, check=False
        )
        if archive.returncode == 0:
            found[ref.name] = tmp_path_factory.mktemp(ref.name)
            with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
                tar.extractall(found[ref.name], filter="data")
    if not found:
        pytest.skip(NO_APEX_SOURCE)
    return found


@pytest.mark.apex
def test_every_real_ref_runs_and_says_what_it_lacks(
    real_refs: dict[str, Path],
    torch_211: TorchEnvironment,
    torch_26: TorchEnvironment,
    tmp_path: Path,
) -> None:
    cache, wheels = tmp_path / "cache", set()
    for name, source in real_refs.items():
        words = ["python-only", name, "--source", str(source)]
        assert farm(["-q", "--cache", str(cache), *words]) == 0
        (wheel,) = set(cache.glob("python-only/*/*.whl")) - wheels
        wheels.add(wheel)
        shutil.unpack_archive(wheel, tmp_path / name, "zip")
        torch = torch_211 if name == "26.07" else torch_26  # older ones import what 2.11 lacks
        run_checks(torch, "apex_checks.py", path=str(tmp_path / name))
    assert sum(wheel.stat().st_size for wheel in wheels) <= CARRIED_BYTES


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    return small_data(folder / "small", lacks="apex.normalization.FusedLayerNorm")


@pytest.fixture(scope="module")
def kit(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Kit:
    folder = tmp_path_factory.mktemp("kit")
    tiny = make_kit(folder)
    return Kit(pack_carrying(folder, data), tiny.environment, tiny.tag)


@pytest.fixture
def pod(tmp_path: Path, kit: Kit) -> TinyPod:
    pod = TinyPod(tmp_path / "pod", kit)
    shutil.copytree(Path(packaging.__file__).parent, pod.target / "packaging")
    return pod


def test_it_is_the_last_resort(pod: TinyPod) -> None:
    ended = pod.run("--gpu", "9.0")
    assert ended.code == 0
    assert ended.report["outcome"] == "python-only"
    assert ended.report["degraded"] is True
    assert ended.line.startswith("apex: python-only, DEGRADED (no-wheel: ")
    assert (pod.target / "apex/normalization/fused.py").is_file()
    assert (pod.target / "fused_layer_norm_cuda.py").is_file()
    assert not list(pod.root.glob("TMPDIR/.apex-install-*"))
    checked = pod.run("check")
    assert checked.code == 0
    assert "stand-ins by torch's own operators: fused_layer_norm_cuda" in checked.report["findings"]
    (pod.target / "fused_layer_norm_cuda.py").write_text("broken")
    assert pod.run("check").code == 3


def test_it_never_counts_as_already_and_is_not_written_again(pod: TinyPod) -> None:
    pod.run("--gpu", "9.0")
    before = pod.state()
    again = pod.run("--gpu", "9.0")
    assert again.report["outcome"] == "python-only"
    assert "is python-only: better is tried at each start" in again.report["findings"]
    assert pod.state() == before


def test_a_changed_file_of_it_is_put_right(pod: TinyPod) -> None:
    pod.run("--gpu", "9.0")
    standin = pod.target / "fused_layer_norm_cuda.py"
    text = standin.read_text()
    standin.write_text("broken")
    assert pod.run("--gpu", "9.0").code == 0
    assert standin.read_text() == text


def test_a_torch_without_cuda_goes_straight_to_it(pod: TinyPod) -> None:
    (pod.target / "torch/version.py").write_text(CPU_PY)
    ended = pod.run()
    assert (ended.code, ended.report["outcome"]) == (0, "python-only")
    assert "is built without CUDA" in ended.line


def test_what_is_asked_at_least_is_kept(pod: TinyPod) -> None:
    before = pod.state()
    ended = pod.run("--gpu", "9.0", "--at-least", "compiled")
    assert (ended.code, ended.report["outcome"]) == (3, "none")
    assert pod.state() == before


def test_nothing_stands_for_a_module_without_a_stand_in(pod: TinyPod) -> None:
    before = pod.state()
    ended = pod.run("--gpu", "9.0", "--require", "apex_C")
    assert (ended.code, ended.report["outcome"]) == (3, "none")
    assert "nothing stands for apex_C without a compiler" in ended.line
    assert pod.state() == before


def test_what_a_stand_in_does_not_hold_is_refused_by_name(pod: TinyPod) -> None:
    before = pod.state()
    for word in ("FusedLayerNorm", "fused_layer_norm_cuda"):
        ended = pod.run("--gpu", "9.0", "--require", word)
        assert (ended.code, ended.report["outcome"]) == (3, "none")
        assert f"no stand-in without a compiler holds all that {word} is" in ended.line
    assert pod.state() == before
    ended = pod.run("--gpu", "9.0", "--require", "FusedRMSNorm")
    assert (ended.code, ended.report["outcome"]) == (0, "python-only")
    assert pod.run("check", "--require", "FusedRMSNorm").code == 0
    checked = pod.run("check", "--require", "FusedLayerNorm")
    assert checked.code == 3
    assert "its stand-ins do not hold all that FusedLayerNorm is" in checked.line


def test_what_is_absent_is_importable_by_nobody(pod: TinyPod) -> None:
    pod.run("--gpu", "9.0")
    code = "try:\n import apex_C\nexcept ImportError as error:\n print(type(error).__name__, error)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(pod.target), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("ModuleNotFoundError apex_C is a compiled module, and nothing")
    assert "apex-install --at-least compiled --require apex_C" in done.stdout


def test_a_dry_run_changes_nothing(pod: TinyPod) -> None:
    before = pod.state()
    ended = pod.run("--gpu", "9.0", "--dry-run")
    assert (ended.code, ended.report["outcome"]) == (0, "python-only")
    assert pod.state() == before


def test_time_is_kept_for_it(pod: TinyPod) -> None:
    with ExitStack() as stack:
        served = stack.enter_context(server.FaultServer({DOCUMENT: server.silent()}))
        began = time.monotonic()
        ended = pod.run("--gpu", "9.0", "--index-url", f"{served.url}/", "--deadline", "1")
        assert time.monotonic() - began < 1 + 3
    assert ended.report["outcome"] == "python-only"
    assert ended.causes[0] == "deadline"


def test_a_full_temporary_directory_does_not_matter(pod: TinyPod) -> None:
    ended = pod.run("--gpu", "9.0", TMPDIR="/dev/null/none")
    assert ended.code == 0
    assert (pod.target / "apex/__init__.py").is_file()


def test_they_are_published_below_a_path_of_their_own(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-q", "--json", "--data", str(data), "--cache", str(tmp_path / "cache")]
    words += ["python-only", "--publish", "--index", str(tmp_path / "index")]
    for state in ("published", "already"):
        assert farm(words) == 0
        assert capsys.readouterr().out.count(f'"{state}"') == 2  # one for each ref
    (page,) = (tmp_path / "index").rglob("simple/apex/index.json")
    assert page == tmp_path / "index/python/simple/apex/index.json"
    versions = json.loads(page.read_text())["versions"]
    assert versions == ["0.1+20261123.python", "0.1+20261124.python"]


def test_it_runs_the_app(pod: TinyPod, torch_211: TorchEnvironment, tmp_path: Path) -> None:
    """On the real torch: constructed, a forward and a backward pass."""
    target = tmp_path / "target"
    shutil.copytree(Path(packaging.__file__).parent, target / "packaging")
    words = ["--target", str(target), "--python", str(torch_211.python)]
    assert pod.run(*words).report["outcome"] == "python-only"
    script = (
        "import torch; from apex.normalization import FusedRMSNorm;"
        "import fused_layer_norm_cuda as module; assert module.__apex_fallback__;"
        "layer = FusedRMSNorm(16); value = torch.randn(4, 16, requires_grad=True);"
        "layer(value).sum().backward(); print(value.grad.shape)"
    )
    done = subprocess.run(
        [str(torch_211.python), "-c", script],
        env={"PYTHONPATH": str(target), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "torch.Size([4, 16])\n", done.stderr


def test_an_installer_without_such_wheels_does_not_speak_of_them(tmp_path: Path) -> None:
    pod = TinyPod(tmp_path / "pod", make_kit(tmp_path / "kit", python=sys.executable))
    ended = pod.run("--gpu", "9.0")
    assert ended.causes == ["no-wheel"]
    assert "Python-only" not in ended.err
