"""The build workflow in an empty fork, run by `act` against a GitHub of ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.act import Ran, Workflows, lend_environment
from support.fake_github import REPOSITORY as NAME
from support.fake_github import TOKEN, serve_github
from support.trivial_package import write_trivial_data
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


@dataclass(frozen=True)
class Fork:
    """An empty fork, what its first run did, and its pages as they are served."""

    workflows: Workflows
    pages: IndexServer
    first: Ran

    def serve_pages(self) -> DirectoryStore:
        """As Pages does after a push."""
        tree = self.workflows.github.checkout("gh-pages")
        assert tree
        shutil.copytree(tree, self.pages.directory, dirs_exist_ok=True)
        return DirectoryStore(self.pages.directory)

    def entries(self) -> dict[str, Entry]:
        """File -> entry, of the cell alone."""
        found = self.serve_pages().entries()
        return {entry.file: entry for entry in found if entry.cell == CELL}


@pytest.fixture(scope="module")
def fork(
    torch_211: TorchEnvironment,
    torch_26: TorchEnvironment,
    cuda_130: Path,
    requires_tool: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fork]:
    """After one scheduled run over two cells; for the second there is no compiler here."""
    act, folder = requires_tool("act"), tmp_path_factory.mktemp("fork")
    data, cache = write_trivial_data(folder / "data", tag=TAG), folder / "cache"
    for torch, name in ((torch_211, "2.11.0+cu130"), (torch_26, "2.6.0+cu124")):
        lend_environment(torch.build_python.parents[1], cache / f"environments/{TAG}-torch{name}")
    (folder / "pages").mkdir()
    with serve_github(folder / "github") as github, IndexServer(folder / "pages") as pages:
        environ = {"CUDA_HOME": str(cuda_130), "WHEELBUILD_CACHE": str(cache)}
        environ["WHEELBUILD_INDEX_URL"] = pages.url
        workflows = Workflows(act, folder, github, data, environ)
        workflows.prepare()
        yield Fork(workflows, pages, workflows.run("schedule", "build.yml"))


def test_a_failing_cell_leaves_the_other_published_and_the_run_red(fork: Fork) -> None:
    assert fork.first.code != 0
    assert "## 1 published, 1 failed" in fork.first.summary
    assert f"| {BAD} | build | " in fork.first.summary
    (entry,) = fork.entries().values()
    assert f"| {CELL} | published | untested | {entry.file} |" in fork.first.summary
    assert not fork.workflows.github.strangers


def test_without_a_gpu_runner_the_gpu_is_skipped_and_that_is_said(fork: Fork) -> None:
    assert "prove" not in fork.first.commands
    assert NO_GPU in fork.first.summary


def test_the_token_is_in_no_log_and_no_page(fork: Fork) -> None:
    fork.serve_pages()
    written = [path for path in fork.pages.directory.rglob("*.*") if path.is_file()]
    assert not any(TOKEN.encode() in path.read_bytes() for path in written)
    assert TOKEN not in fork.first.said + fork.first.summary


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


def test_a_second_run_builds_nothing_and_a_changed_recipe_the_next_tag(fork: Fork) -> None:
    before = fork.entries()
    again = fork.workflows.run("workflow_dispatch", "build.yml", cells=CELL)
    assert again.code == 0, again.said[-3000:]
    assert not [words for words in again.commands if words.startswith("make")]
    assert "Nothing to build" in again.summary
    assert fork.entries() == before
    recipe = fork.workflows.data / "recipes/apex/recipe.toml"
    text = recipe.read_text()
    recipe.write_text(text.replace('"packaging>20.6"', '"packaging>20.7"'))
    changed = fork.workflows.run("workflow_dispatch", "build.yml", cells=CELL)
    assert changed.code == 0, changed.said[-3000:]
    after = fork.entries()
    assert {file: after[file] for file in before} == before
    (new,) = set(after) - set(before)
    assert after[new].build_tag == 2
    assert "-2-" in new


def run(words: list[str], *, cwd: Path | None = None) -> None:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"


def version_in(python: Path) -> str:
    script = "import importlib.metadata as m; print(m.version('apex'))"
    words = [str(python), "-I", "-c", script]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
