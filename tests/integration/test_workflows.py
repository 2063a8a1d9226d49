"""The build workflow in an empty fork, run by `act` against a GitHub of ours: one story in order.

The tests stand in the order in which a fork's owner meets things; each takes the fork as the one
before left it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.act import Ran, Workflows, lend_environment
from support.cuda_mirror import cuda_mirror, write_mirrored_toolkits
from support.fake_driver import make_driver
from support.fake_github import REPOSITORY as NAME
from support.fake_github import TOKEN, serve_github
from support.skeleton import skeleton_image
from support.trivial_package import write_trivial_data
from wheelbuild.known_failures import FILE as KNOWN
from wheelbuild.serve import IndexServer
from wheelbuild.stores.directory import DirectoryStore
from wheelbuild.summary import NO_GPU

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apex_installer.model.entry import Entry
    from support.torch_environments import TorchEnvironment

pytestmark = [pytest.mark.integration, pytest.mark.compile]

TAG = f"cp{sys.version_info[0]}{sys.version_info[1]}"
CELL = f"{TAG}-torch2.11-cu130-linux_x86_64"
BAD = f"{TAG}-torch2.6-cu124-linux_x86_64"
KERNEL = """\
#if __CUDACC_VER_MAJOR__ < 13
#error "no such thing in CUDA 12"
#endif
__global__ void twice(float* x) { x[threadIdx.x] *= 2; }
"""
PLAYED = """\
import json, os
result = {"passed": 1, "failed": 0, "seconds": 0}
if os.environ.get("CUDA_VISIBLE_DEVICES") != "":
    result |= {"gpu": "Made Up", "driver": "580.65"}
    if "PLAY_FAULT" in os.environ:
        result |= {"failed": 1, "first_error": "twice: 3 is not 4"}
print(json.dumps(result))
"""
"""A module's test; there is a GPU where it is not hidden from it."""


@dataclass
class Fork:
    """An empty fork, and its pages as they are served."""

    workflows: Workflows
    pages: IndexServer
    driver: Path
    """Of a GPU that is not there."""
    runs: list[Ran] = field(default_factory=list)

    def build(self, event: str, **options: Any) -> Ran:
        self.runs.append(self.workflows.run(event, "build.yml", **options))
        return self.runs[-1]

    def build_on_gpu(self, event: str, *, fault: bool = False, **inputs: str) -> Ran:
        """Compiled and tested on one machine with a GPU."""
        variables = {"BUILD_RUNNER": "gpu", "GPU_RUNNER": "gpu"}
        environ = {"LD_LIBRARY_PATH": str(self.driver), **({"PLAY_FAULT": "1"} if fault else {})}
        return self.build(event, variables=variables, environ=environ, **inputs)

    def serve_pages(self) -> DirectoryStore:
        """As Pages does after a push."""
        tree = self.workflows.github.checkout("gh-pages")
        assert tree
        shutil.copytree(tree, self.pages.directory, dirs_exist_ok=True)
        return DirectoryStore(self.pages.directory)

    def entries(self) -> dict[str, Entry]:
        """File -> entry, of all cells."""
        return {entry.file: entry for entry in self.serve_pages().entries() if entry.modules}

    def change_recipe(self, old: str, new: str) -> None:
        recipe = self.workflows.data / "recipes/apex/recipe.toml"
        text = recipe.read_text()
        assert old in text
        recipe.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def fork(
    torch_211: TorchEnvironment,
    torch_26: TorchEnvironment,
    cuda_130: Path,
    cache: Path,
    requires_tool: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fork]:
    """Two cells are wanted; one of them cannot be compiled."""
    act, folder = requires_tool("act"), tmp_path_factory.mktemp("fork")
    tests = dict.fromkeys(("tests/apex_C.py", "tests/fused_layer_norm_cuda.py"), PLAYED)
    sources = {"source/csrc/norm_kernels.cu": KERNEL, **tests}
    data = write_trivial_data(folder / "data", tag=TAG, sources=sources)
    write_mirrored_toolkits(cuda_mirror(cache), data / "toolkits.toml")
    for torch, name in ((torch_211, "2.11.0+cu130"), (torch_26, "2.6.0+cu124")):
        lend_environment(
            torch.build_python.parents[1], folder / f"cache/environments/{TAG}-torch{name}"
        )
    driver = make_driver(
        folder / "driver", requires_tool("cc"), driver="580.65", cuda=(13, 0), gpu=(9, 0)
    )
    (folder / "pages").mkdir()
    with serve_github(folder / "github") as github, IndexServer(folder / "pages") as pages:
        environ = {"CUDA_HOME": str(cuda_130), "WHEELBUILD_CACHE": str(folder / "cache")}
        environ["WHEELBUILD_INDEX_URL"] = pages.url
        workflows = Workflows(act, folder, github, data, environ)
        workflows.prepare()
        yield Fork(workflows, pages, driver)


def test_one_dispatch_with_one_cell_publishes_it(fork: Fork) -> None:
    """The very first run. No GPU runner is named: that job is skipped, and the page says so."""
    first = fork.build("workflow_dispatch", cells=CELL)
    assert first.code == 0, first.said[-3000:]
    (entry,) = fork.entries().values()
    assert entry.cell == CELL
    assert "## 1 published, 0 failed" in first.summary
    assert f"| {CELL} | published | untested | {entry.file} |" in first.summary
    assert "prove" not in first.commands
    assert NO_GPU in first.summary
    front = (fork.pages.directory / "index.html").read_text()
    assert '<a href="coverage.html">' in front
    assert f'title="{BAD}: ' in (fork.pages.directory / "coverage.html").read_text()


def test_pip_installs_from_the_pages(
    fork: Fork, torch_211: TorchEnvironment, tmp_path: Path
) -> None:
    (entry,) = fork.entries().values()
    python = torch_211.throwaway(tmp_path / "pod")
    words = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-cache-dir"]
    simple = f"{fork.pages.url}cu130/torch2.11/simple/"
    run([*words, f"apex=={entry.version}", "--extra-index-url", simple])
    assert version_in(python) == entry.version


def test_the_released_installer_installs_from_the_pages(
    fork: Fork, torch_211: TorchEnvironment, tmp_path: Path
) -> None:
    """Taken as people take it, checked as they check it; no index is named."""
    (entry,) = fork.entries().values()
    latest = f"{fork.workflows.github.url}/{NAME}/releases/latest/download/apex-install.pyz"
    for end in ("", ".sha256"):
        with urllib.request.urlopen(f"{latest}{end}", timeout=30) as got:  # noqa: S310 - loopback
            (tmp_path / f"apex-install.pyz{end}").write_bytes(got.read())
    run(["sha256sum", "--check", "apex-install.pyz.sha256"], cwd=tmp_path)
    python = torch_211.throwaway(tmp_path / "pod")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    run([*pip, "packaging"])
    words = [str(python), "apex-install.pyz", "--gpu", "9.0", "--at-least", "wheel"]
    run([*words, "--cache-dir", str(tmp_path / "cache")], cwd=tmp_path)
    assert version_in(python) == entry.version


def test_a_second_run_builds_nothing(fork: Fork) -> None:
    before = fork.entries()
    again = fork.build("workflow_dispatch", cells=CELL)
    assert again.code == 0, again.said[-3000:]
    assert made(again) == []
    assert "Nothing to build" in again.summary
    assert fork.entries() == before


def test_a_failing_cell_leaves_the_other_published_and_the_run_red(fork: Fork) -> None:
    """The first schedule, after a change of the recipe: the one that builds is tag 2."""
    before = fork.entries()
    fork.change_recipe('"packaging>20.6"', '"packaging>20.7"')
    scheduled = fork.build("schedule")
    assert scheduled.code != 0
    assert sorted(made(scheduled)) == sorted([CELL, BAD])
    assert "## 1 published, 1 failed" in scheduled.summary
    assert f"| {BAD} | build | {BAD}: " in scheduled.summary
    assert "no such thing in CUDA 12" in scheduled.summary
    after = fork.entries()
    assert {file: after[file] for file in before} == before
    (new,) = set(after) - set(before)
    assert (after[new].cell, after[new].build_tag) == (CELL, 2)
    assert "-2-" in new


def test_the_next_schedule_knows_it_and_is_green(fork: Fork) -> None:
    known = tomllib.loads((fork.serve_pages().directory / KNOWN).read_text())["failures"]
    assert [(one["cell"], one["step"]) for one in known] == [(BAD, "build")]
    scheduled = fork.build("schedule")
    assert scheduled.code == 0, scheduled.said[-3000:]
    assert made(scheduled) == []
    assert "Known not to build" in scheduled.summary
    covered = (fork.serve_pages().directory / "coverage.html").read_text()
    assert "1 untested, 0 stale, 1 failing, 0 missing" in covered
    assert f"- {BAD}: build failed on " in scheduled.summary


def test_changed_inputs_try_it_again_and_a_gpu_s_evidence_reaches_the_entry(fork: Fork) -> None:
    """Where a GPU runner is named; the cell that cannot be compiled is none of its business."""
    before = fork.entries()
    fork.change_recipe('"packaging>20.7"', '"packaging>20.8"')
    proved = fork.build_on_gpu("schedule")
    assert sorted(made(proved)) == sorted([CELL, BAD])
    assert "prove" in proved.commands
    assert "## 1 published, 1 failed" in proved.summary
    assert NO_GPU not in proved.summary
    after = fork.entries()
    (new,) = set(after) - set(before)
    tests = after[new].tests
    assert (tests["gpu"], tests["driver"], tests["passed"]) == ("Made Up", "580.65", 2)


def test_what_fails_on_the_gpu_is_not_published_and_the_run_is_red(fork: Fork) -> None:
    before = fork.entries()
    failed = fork.build_on_gpu("workflow_dispatch", fault=True, cells=CELL, force="true")
    assert failed.code != 0
    assert f"| {CELL} | test on a GPU | apex_C: 1 failed: twice: 3 is not 4 |" in failed.summary
    assert fork.entries() == before


def test_where_an_image_is_named_the_wheel_is_built_in_it(
    fork: Fork, requires_tool: Callable[[str], str], tmp_path: Path
) -> None:
    """By cibuildwheel, and held to the manylinux policy that the matrix names."""
    podman = requires_tool("podman")
    requires_tool("runc")
    before = fork.entries()
    names = ("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF")
    with skeleton_image(tmp_path / "image", podman=podman, pythons={TAG: sys.executable}) as image:
        built = fork.build(
            "workflow_dispatch",
            variables={"BUILD_IMAGE": image.name},
            environ={name: image.environ[name] for name in names},
            cells=CELL,
            force="true",
        )
    assert built.code == 0, built.said[-3000:]
    (tried,) = [words for words in built.commands if words.startswith("make ")]
    assert tried.endswith(f"--engine container --image {image.name}")
    (new,) = set(fork.entries()) - set(before)
    assert new.endswith(f"-{TAG}-{TAG}-manylinux_2_28_x86_64.whl")


def test_the_token_is_in_no_log_and_no_page_and_went_to_no_stranger(fork: Fork) -> None:
    fork.serve_pages()
    written = [path for path in fork.pages.directory.rglob("*.*") if path.is_file()]
    assert not any(TOKEN.encode() in path.read_bytes() for path in written)
    assert len(fork.runs) >= 6
    assert not any(TOKEN in ran.said + ran.summary for ran in fork.runs)
    assert not fork.workflows.github.strangers


def made(ran: Ran) -> list[str]:
    """The cells that were tried."""
    return [words.split()[1] for words in ran.commands if words.startswith("make ")]


def run(words: list[str], *, cwd: Path | None = None) -> None:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"


def version_in(python: Path) -> str:
    script = "import importlib.metadata as m; print(m.version('apex'))"
    words = [str(python), "-I", "-c", script]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
