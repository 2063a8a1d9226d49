"""Which Python the app runs with: the first with a torch, and a line that helps where none has."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apex_installer.errors import NoTorchError, UsageError
from apex_installer.model.environment import Interpreter
from apex_installer.read import interpreter
from apex_installer.read.app_command import interpreter_of, parse_shebang
from apex_installer.read.interpreter import find_interpreter, list_candidates
from apex_installer.read.torch_places import Found, find_torches

if TYPE_CHECKING:
    from collections.abc import Sequence

PLAIN = Interpreter(
    executable="",
    tag="cp312",
    version="3.12.1",
    platform="linux_x86_64",
    extension_suffix=".so",
    path=(),
    purelib="",
)


class Machine:
    """Pythons in a folder each; asking one what it is starts no process."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.broken: set[str] = set()
        self.asked: list[str] = []
        self.elsewhere: list[Found] = []
        patch.setattr(interpreter, "read_interpreter", self._read)
        patch.setattr(interpreter, "find_torches", lambda _environ: self.elsewhere)
        patch.setattr(sys, "executable", str(self.add("ours")))

    def add(self, name: str, *, torch: bool = False, programs: Sequence[str] = ("python",)) -> Path:
        """`<root>/<name>/bin/python`, its packages beside it; the first program is no link."""
        first = write_program(self.root / name / "bin" / programs[0])
        for program in programs[1:]:
            (first.parent / program).symlink_to(first.name)
        if torch:
            write_torch(self.root / name / "site")
        return first

    def _read(self, executable: str) -> Interpreter:
        name = Path(executable).parents[1].name
        self.asked.append(name)
        if name in self.broken:
            raise UsageError(f"{executable} does not run as a Python 3")
        site = str(self.root / name / "site")
        return replace(PLAIN, executable=executable, path=(site,))

    def environ(self, **names: str) -> dict[str, str]:
        """Variables that name folders of the machine; PATH is empty unless it is among them."""
        folders = {variable: str(self.root / name) for variable, name in names.items()}
        path = f"{folders.pop('PATH')}/bin" if "PATH" in folders else ""
        return {"PATH": path, **folders}

    def find(self, *app: str, python: str | None = None, **environ: str) -> str:
        """Name of the folder whose Python it is."""
        found, torch = find_interpreter(python=python, app=app, environ=self.environ(**environ))
        name = Path(found.executable).parents[1].name
        assert torch == str(self.root / name / "site/torch")
        return name


def write_program(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def write_torch(folder: Path, version: str = "2.4.0+cu121") -> None:
    (folder / "torch").mkdir(parents=True)
    (folder / "torch/version.py").write_text(f"__version__ = '{version}'\n")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


ALL = {"VIRTUAL_ENV": "venv", "CONDA_PREFIX": "conda", "PATH": "usr"}


def add_all(machine: Machine, *with_torch: str) -> None:
    for name in ("app", "venv", "conda"):
        machine.add(name, torch=name in with_torch)
    machine.add("usr", torch="usr" in with_torch, programs=("python3", "python"))
    if "ours" in with_torch:
        write_torch(machine.root / "ours/site")


@pytest.mark.parametrize(
    ("with_torch", "taken"),
    [
        (("app", "venv", "conda", "usr", "ours"), "app"),
        (("venv", "conda", "usr", "ours"), "venv"),
        (("conda", "usr", "ours"), "conda"),
        (("usr", "ours"), "usr"),
        (("ours",), "ours"),
    ],
)
def test_the_first_with_a_torch_is_taken_and_no_later_one_asked(
    machine: Machine, with_torch: tuple[str, ...], taken: str
) -> None:
    add_all(machine, *with_torch)
    assert machine.find(str(machine.root / "app/bin/python"), "app.py", **ALL) == taken
    assert machine.asked[-1] == taken


def test_python3_stands_before_python(machine: Machine) -> None:
    add_all(machine)
    write_program(machine.root / "other/bin/python3")
    path = f"{machine.root}/other/bin:{machine.root}/usr/bin"
    found = list_candidates(python=None, app=(), environ={"PATH": path})
    assert [(Path(one.executable).parents[1].name, one.why) for one in found] == [
        ("other", "python3"),
        ("usr", "python"),
        ("ours", "the python that runs apex-install"),
    ]


def test_the_flag_stands_alone(machine: Machine) -> None:
    add_all(machine, "venv", "usr", "ours")
    with pytest.raises(NoTorchError, match=r"^no torch in .*/conda/bin/python \(3\.12\); "):
        machine.find(python=str(machine.root / "conda"), **ALL)
    assert machine.asked == ["conda"]


def test_one_that_does_not_run_is_passed_over_unless_it_was_asked_for(machine: Machine) -> None:
    add_all(machine, "venv", "usr")
    machine.broken = {"venv"}
    assert machine.find(**ALL) == "usr"
    with pytest.raises(UsageError, match="does not run as a Python 3"):
        machine.find(python=str(machine.root / "venv"), **ALL)


def test_links_to_one_python_are_environments_of_their_own_by_folder(machine: Machine) -> None:
    """`python3` beside `python` is the same; the python that a venv links to is another."""
    base = machine.add("usr", programs=("python3",))
    (base.parent / "python").symlink_to("python3")
    venv = machine.root / "venv/bin/python"
    venv.parent.mkdir(parents=True)
    venv.symlink_to(base)
    environ = machine.environ(VIRTUAL_ENV="venv", PATH="usr")
    found = list_candidates(python=None, app=(), environ=environ)
    assert [one.why for one in found[:-1]] == ["VIRTUAL_ENV", "python3"]


def test_none_names_every_one_that_was_tried(machine: Machine) -> None:
    add_all(machine)
    with pytest.raises(NoTorchError) as refused:
        machine.find(**ALL)
    tried = [machine.root / name for name in ("venv/bin/python", "conda/bin/python")]
    tried += [machine.root / "usr/bin/python3", machine.root / "ours/bin/python"]
    names = ", ".join(f"{python} (3.12)" for python in tried)
    assert str(refused.value) == (
        f"no torch in {names}; install torch there first, or name its python with --python"
    )


def test_a_torch_elsewhere_is_named_with_the_flag_to_give(machine: Machine) -> None:
    machine.elsewhere = [
        Found("2.4.0+cu121", "/workspace/x/venv", "/workspace/x/venv/bin/python"),
        Found("2.6.0+cu124", "/opt/y", "/opt/y/bin/python"),
    ]
    with pytest.raises(NoTorchError) as refused:
        machine.find()
    assert str(refused.value) == (
        f"no torch in {machine.root}/ours/bin/python (3.12); found 2.4.0+cu121 in "
        "/workspace/x/venv (and in /opt/y): use --python /workspace/x/venv/bin/python"
    )


def test_without_any_python_that_is_said(machine: Machine) -> None:
    machine.broken = {"ours"}
    with pytest.raises(NoTorchError, match=r"^no python3 was found; install torch there first"):
        machine.find()


# -- the app's own command -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "named"),
    [
        ("#!/opt/venv/bin/python\nimport x\n", "/opt/venv/bin/python"),
        ("#!/opt/venv/bin/python3.10 -u\n", "/opt/venv/bin/python3.10"),
        ("#!/usr/bin/env python3\n", "python3"),
        ("#!/usr/bin/env -S python3 -u\n", "python3"),
        ("#!/usr/bin/env -S A=1 python3\n", "python3"),
        ("#!/bin/sh\n'''exec' \"/a long/bin/python\" \"$0\" \"$@\"\n' '''\n", "/a long/bin/python"),
        ("#!/bin/sh\n'''exec' /long/bin/python3 \"$0\" \"$@\"\n' '''\n", "/long/bin/python3"),
        ("#!/bin/bash\npython app.py\n", None),
        ("#!/usr/bin/env\n", None),
        ("#!\n", None),
        ("import x\n", None),
        ("", None),
        ("\x7fELF\x02\x01", None),
    ],
)
def test_a_scripts_first_lines_name_its_python(head: str, named: str | None) -> None:
    assert parse_shebang(head) == named


def test_a_command_is_found_as_a_shell_finds_it(tmp_path: Path) -> None:
    python = write_program(tmp_path / "venv/bin/python3")
    write_program(tmp_path / "tools/torchrun", f"#!{python}\n")
    write_program(tmp_path / "tools/start", "#!/bin/bash\n")
    environ = {"PATH": f"{tmp_path}/tools:{tmp_path}/venv/bin"}
    for app in (["torchrun", "x.py"], ["python3", "x.py"], [str(python)]):
        assert interpreter_of(app, environ) == str(python)
    for app in ([], ["start"], ["nothing"], ["/nowhere/python"]):
        assert interpreter_of(app, environ) is None


# -- torches in likely places --------------------------------------------------------------------


def add_environment(folder: Path, *, version: str = "2.4.0+cu121", python: bool = True) -> None:
    write_torch(folder / "lib/python3.10/site-packages", version)
    (folder / "pyvenv.cfg").touch()
    if python:
        write_program(folder / "bin/python")


def test_apps_and_their_environments_are_looked_at(tmp_path: Path) -> None:
    add_environment(tmp_path / "workspace/x/venv")
    add_environment(tmp_path / "workspace/w/.venv", version="2.6.0+cu124")
    add_environment(tmp_path / "workspace/y", version="2.7.0+cu128")
    add_environment(tmp_path / "workspace/z/venv", python=False)  # nothing to give to --python
    found = find_torches({}, roots=(str(tmp_path / "workspace"), "/nowhere/at/all"))
    assert {(one.version, one.root, one.python) for one in found} == {
        (version, f"{tmp_path}/workspace/{name}", f"{tmp_path}/workspace/{name}/bin/python")
        for version, name in (
            ("2.4.0+cu121", "x/venv"),
            ("2.6.0+cu124", "w/.venv"),
            ("2.7.0+cu128", "y"),
        )
    }


def test_the_current_folder_comes_first_and_home_last(tmp_path: Path) -> None:
    for name in ("here/venv", "root/app/venv", "home/app/venv"):
        add_environment(tmp_path / name)
    environ = {"PWD": str(tmp_path / "here"), "HOME": str(tmp_path / "home")}
    found = find_torches(environ, roots=(str(tmp_path / "root"),))
    names = [str(Path(one.root).relative_to(tmp_path)) for one in found]
    assert names == ["here/venv", "root/app/venv", "home/app/venv"]


def test_a_torch_that_says_no_version_is_passed_over(tmp_path: Path) -> None:
    add_environment(tmp_path / "x/venv")
    (tmp_path / "x/venv/lib/python3.10/site-packages/torch/version.py").write_text("")
    assert find_torches({}, roots=(str(tmp_path),)) == []
