"""A torch that appears becomes a planned cell, without a hand on the code."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from support.farm_data import write_data
from support.replay import replay_torch
from wheelbuild.cli import main
from wheelbuild.data import load_data
from wheelbuild.discover import propose
from wheelbuild.matrix_text import TomlText
from wheelbuild.upstream import TorchBuild

if TYPE_CHECKING:
    from pathlib import Path

    from wheelbuild.discover import Proposal

PYPI = "https://pypi.org/simple"
DAY = "2026-11-26"


def build(
    release: str,
    cuda: tuple[int, int],
    *pythons: str,
    policy: str = "manylinux_2_28",
    index: str = PYPI,
) -> TorchBuild:
    numbers = tuple(map(int, release.split(".")))
    return TorchBuild(release=numbers, cuda=cuda, pythons=pythons, index=index, policy=policy)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def proposed(folder: Path, *builds: TorchBuild) -> Proposal:
    text = (folder / "matrix.toml").read_text("utf-8")
    return propose(text, load_data(folder), builds, today=DAY)


def test_what_is_known_changes_nothing(folder: Path) -> None:
    known = [build("2.4.0", (12, 1), "cp39", "cp310"), build("2.11.0", (13, 0), "cp311", "cp312")]
    found = proposed(folder, *known, build("2.4.1", (12, 1), "cp310", "cp313"))
    assert (found.diff, found.cells, found.notes) == ("", (), ())


def test_a_new_torch_is_a_table_and_a_row(folder: Path) -> None:
    found = proposed(folder, build("2.12.1", (13, 0), "cp312"), build("2.12.0", (13, 0), "cp311"))
    assert found.cells == ("cp311-torch2.12-cu130-linux_x86_64",)
    matrix = tomllib.loads(found.after)
    assert matrix["torch"][-1] == {
        "minor": "2.12",
        "release": "2.12.0",
        "pythons": ["cp311"],
        "architectures": ["8.0", "9.0", "12.0"],
        "why": "new; its architectures are those of torch 2.11: look them over",
        "source": f"{PYPI}, {DAY}",
        "builds": [
            {
                "cuda": "13.0",
                "index": PYPI,
                "policy": "manylinux_2_28",
                "cxx11_abi": True,
                "architectures": "8.0;9.0;12.0+PTX",
                "why": "new; architectures and C++ ABI are those of the nearest build: "
                "look them over",
            }
        ],
    }
    assert matrix["cells"][-1] == {
        "torch": "2.12",
        "cudas": ["13.0"],
        "pythons": ["cp311"],
        "why": f"new: {PYPI}, {DAY}",
    }
    added = [line for line in found.diff.splitlines() if line.startswith("-")]
    assert added == ["--- a/matrix.toml"]


def test_a_new_cuda_of_a_known_torch(folder: Path) -> None:
    found = proposed(folder, build("2.4.0", (13, 0), "cp310", policy=""))
    assert found.cells == ("cp310-torch2.4-cu130-linux_x86_64",)
    torch = tomllib.loads(found.after)["torch"][0]
    assert [one["cuda"] for one in torch["builds"]] == ["12.1", "13.0"]
    assert torch["builds"][1]["architectures"] == "8.0;9.0+PTX"
    assert "C++ ABI, policy are those of the nearest" in torch["builds"][1]["why"]


def test_a_new_python_of_a_known_torch(folder: Path) -> None:
    path = folder / "matrix.toml"
    text = path.read_text("utf-8").replace(
        'pythons = ["cp39", "cp310"]', 'pythons = [\n  "cp39",\n  "cp310",\n] # read by hand'
    )
    path.write_text(text, encoding="utf-8")
    found = proposed(folder, build("2.4.0", (12, 1), "cp38", "cp310", "cp311"))
    assert found.cells == ("cp311-torch2.4-cu121-linux_x86_64",)
    assert 'pythons = ["cp39", "cp310", "cp311"] # read by hand\n' in found.after


def test_new_minors_stand_in_their_order_after_what_is_known(folder: Path) -> None:
    builds = [build(f"2.{minor}.0", (13, 0), "cp311") for minor in (13, 9, 12)]
    found = proposed(folder, *builds, build("2.11.0", (12, 1), "cp311"))
    matrix = tomllib.loads(found.after)
    assert [one["minor"] for one in matrix["torch"]] == ["2.4", "2.11", "2.9", "2.12", "2.13"]
    assert [one["cuda"] for one in matrix["torch"][1]["builds"]] == ["13.0", "12.1"]
    assert [(one["torch"], one["cudas"]) for one in matrix["cells"][2:]] == [
        ("2.11", ["12.1"]),
        ("2.9", ["13.0"]),
        ("2.12", ["13.0"]),
        ("2.13", ["13.0"]),
    ]


@pytest.mark.parametrize(
    ("one", "note"),
    [
        (
            build("2.12.0", (13, 2), "cp311"),
            "torch 2.12.0+cu132: no compiler of CUDA 13.2 is pinned in toolkits.toml",
        ),
        (
            build("2.12.0", (13, 0), "cp313t"),
            "cp313t-torch2.12-cu130-linux_x86_64: no modules without the GIL",
        ),
        (
            build("2.12.0", (13, 0), "cp39"),
            "cp39-torch2.12-cu130-linux_x86_64: new needs Python 3.10, not cp39",
        ),
        (
            build("2.3.0", (12, 1), "cp310", "cp39"),
            "cp39-torch2.3-cu121-linux_x86_64 and 1 more: no ref of the recipe serves torch 2.3",
        ),
    ],
)
def test_what_cannot_be_built_is_not_proposed_and_said(
    folder: Path, one: TorchBuild, note: str
) -> None:
    found = proposed(folder, one)
    assert (found.diff, found.notes) == ("", (note,))


def test_pypi_s_build_comes_before_pytorch_s_of_the_same_cuda(folder: Path) -> None:
    ours = build("2.12.0", (13, 0), "cp311")
    other = build("2.12.0", (13, 0), "cp311", index="https://host/whl/cu130")
    after = proposed(folder, ours, other).after
    assert "https://host/whl/cu130" not in after


def test_comments_stay(folder: Path) -> None:
    path = folder / "matrix.toml"
    text = path.read_text("utf-8")
    remarked = text.replace("[[exclusions]]", "# --- not these\n\n[[exclusions]]  # none\n# why")
    path.write_text(f"# ours\n{remarked}# the end\n", encoding="utf-8")
    found = proposed(folder, build("2.12.0", (13, 0), "cp311"))
    kept = found.after.splitlines()
    assert [line for line in kept if "#" in line] == [
        "# ours", "# --- not these", "[[exclusions]]  # none", "# why", "# the end"
    ]  # fmt: skip
    assert kept.index("# --- not these") > kept.index('torch = "2.12"')


def test_changes_are_applied_from_the_end() -> None:
    text = TomlText('a = ["1"]\n\n[[x]]\nb = 1\n\n# next\n[[y]]\n')
    text.append(["[[x]]", "b = 2"], after=("x",))
    text.append(["[[x]]", "b = 3"], after=("x",))
    text.replace_list(("a",), ["1", "2"])
    assert text.apply() == (
        'a = ["1", "2"]\n\n[[x]]\nb = 1\n\n[[x]]\nb = 2\n\n[[x]]\nb = 3\n\n# next\n[[y]]\n'
    )


# --- from an index to the plan


def discover(folder: Path, *words: str) -> int:
    with replay_torch("2.16.0") as server:
        urls = ["--pypi-url", f"{server.url}/simple", "--pytorch-url", f"{server.url}/whl"]
        return main(["discover", "--data", str(folder), *urls, *words])


def test_a_torch_that_appears_becomes_a_planned_cell(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / "matrix.toml").read_text("utf-8")
    assert discover(folder) == 0
    diff = capsys.readouterr().out
    assert '+minor = "2.16"' in diff
    assert (folder / "matrix.toml").read_text("utf-8") == before
    assert discover(folder, "--write") == 0
    capsys.readouterr()
    words = ["plan", "--data", str(folder), "--index", str(tmp_path / "index"), "--json"]
    assert main(words) == 0
    first: Any = json.loads(capsys.readouterr().out)["include"][0]
    assert first["cells"] == "cp312-torch2.16-cu130-linux_x86_64"
    assert discover(folder) == 0
    assert capsys.readouterr().out == ""


def test_what_was_found_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert discover(folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cells"] == ["cp312-torch2.16-cu130-linux_x86_64"]
    assert found["found"][0]["torch"] == "2.16.0+cu130"
    assert found["found"][0]["pythons"] == ["cp312"]
