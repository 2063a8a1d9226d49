from __future__ import annotations

import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from apex_installer.make.request import BuildRequest
from support.jobs import make_job, make_request
from wheelbuild.cli import main
from wheelbuild.engines.cibuildwheel import Mount, settings_text, write_project
from wheelbuild.engines.container import ContainerEngine, find_program, why_ended
from wheelbuild.engines.image import parse_facts
from wheelbuild.engines.local import LocalEngine
from wheelbuild.errors import CellError, UsageError

PYTHON = "/opt/python/cp311-cp311/bin/python"
SAID = """\
python 3.11.9
pip yes
gcc 13.3.1
nvcc 13.0.88 /usr/local/cuda
program aaaa /usr/bin/gcc
program bbbb /usr/local/cuda/bin/nvcc
program aaaa /usr/bin/gcc
"""


def facts(said: str) -> object:
    return parse_facts(said, image="image", interpreter=PYTHON)


def test_what_an_image_says_of_itself() -> None:
    found = parse_facts(SAID, image="image", interpreter=PYTHON)
    assert (found.python, found.gcc, found.nvcc) == ("3.11.9", "13.3.1", "13.0.88")
    assert found.cuda_home == "/usr/local/cuda"


def test_an_image_without_cuda_is_one() -> None:
    without = "".join(line for line in SAID.splitlines(keepends=True) if "cuda" not in line)
    found = parse_facts(without, image="image", interpreter=PYTHON)
    assert (found.nvcc, found.cuda_home) == ("", "")


def test_another_compiler_in_the_image_is_another_toolchain() -> None:
    assert facts(SAID) == facts(SAID)
    other = parse_facts(SAID.replace("aaaa", "cccc"), image="image", interpreter=PYTHON)
    assert other.toolchain != parse_facts(SAID, image="image", interpreter=PYTHON).toolchain


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("python 3.11.9", f"python sh: 3: {PYTHON}: not found", f"no {PYTHON} that runs"),
        ("pip yes", "", f"no pip beside {PYTHON}"),
        ("gcc 13.3.1", "gcc ", "no c\\+\\+ that is gcc"),
    ],
)
def test_what_an_image_lacks_is_named(old: str, new: str, says: str) -> None:
    with pytest.raises(CellError, match=f"image: {says}"):
        facts(SAID.replace(old, new))


def test_the_settings_are_toml_with_every_mount() -> None:
    text = settings_text(
        image='a"name',
        program="podman",
        mounts=[Mount(Path("/w o/work"), writable=True), Mount(Path("/torch"), writable=False)],
        create=["--label=a=b"],
    )
    settings = tomllib.loads(text)["tool"]["cibuildwheel"]
    assert settings["manylinux-x86_64-image"] == 'a"name'
    assert settings["container-engine"] == {
        "name": "podman",
        "create-args": [
            "--label=a=b",
            "--volume=/w o/work:/w o/work:rw",
            "--volume=/torch:/torch:ro",
        ],
        "disable-host-mount": True,
    }
    assert settings["build-frontend"]["args"] == ["--no-isolation", "--skip-dependency-check"]
    assert settings["repair-wheel-command"] == ""


def test_the_container_sees_the_job_folder_without_its_work(tmp_path: Path) -> None:
    for name in ("job/src/work/kept.py", "job/work/build.log", "job/job.json", "container/stale"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    request = replace(make_request(), interpreter=PYTHON)
    folder = write_project(
        tmp_path / "container",
        job=tmp_path / "job",
        request=request,
        image="image",
        program="docker",
        mounts=[],
        create=[],
    )
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"job.json", "src/work/kept.py", "cibuildwheel.toml"}
    read = BuildRequest.from_json((folder / "job.json").read_text(), folder="")
    assert read.interpreter == PYTHON


def test_a_container_is_held_to_the_matrix_and_this_machine_to_nothing() -> None:
    job = make_job(policy="manylinux_2_28")
    assert ContainerEngine(image="i", program="podman").policy(job) == "manylinux_2_28_x86_64"
    assert LocalEngine().policy(job) is None


def test_podman_comes_first_and_one_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert find_program("container") == "podman"
    assert find_program("docker") == "docker"
    monkeypatch.setattr(shutil, "which", lambda name: name if name == "docker" else None)
    assert find_program("container") == "docker"
    with pytest.raises(UsageError, match="--engine podman: no podman on PATH"):
        find_program("podman")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--engine", "container"], "name the manylinux image with --image"),
        (["--image", "x"], "--image is for --engine container"),
        (["--engine", "slurm"], "invalid choice"),
    ],
)
def test_an_engine_that_cannot_be_meant(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["--cache", str(tmp_path), "run", "cp311-torch2.11", "--index", str(tmp_path / "i")]
    assert main([*command, *words]) == 2
    assert says in capsys.readouterr().err


REFUSED = "Error: initializing source: connection refused"


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (f"+ podman create\n{REFUSED}\n\nfailed with 125\n", REFUSED),
        ("+ podman create\nerror: x\nfailed with 125\n", "failed with 125"),
        ("", "it said nothing"),
    ],
)
def test_of_an_end_the_network_is_blamed_first(said: str, line: str) -> None:
    assert why_ended(said) == line
