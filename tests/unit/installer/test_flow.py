"""The install from command line to last line, over a file:// index; only reading is faked."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from apex_installer import check, cli, commands, doctor, flow, from_index, prefetch
from apex_installer.errors import CheckError, NoTorchError
from apex_installer.get.cache import CacheLocation
from apex_installer.model.environment import Devices, Gpu
from apex_installer.read import sharing
from support.targets import add_foreign, tree
from support.wheels import (
    MODULE,
    VERSION,
    make_wheel,
    tiny_environment,
    tiny_recipe,
    write_document,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from apex_installer.model.environment import Environment
    from apex_installer.model.recipe import Recipe
    from support.wheels import MadeWheel

HOPPER = (Gpu((9, 0), "NVIDIA H200"),)
PACKAGING = {
    "name": "packaging",
    "specifier": "packaging>20.6",
    "module": "packaging",
    "needed_for_import": True,
}


class Pod:
    """A pod with a target, an index and a temporary directory of its own."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self.patch = root, patch
        self.target = root / "site-packages"
        self.target.mkdir()
        self.index = root / "index"
        self.environment = tiny_environment(self.target, gpus=HOPPER)
        self.recipe = tiny_recipe()
        self.symbol_fault = ""
        self.would_compile = ""
        for variable in ("TMPDIR", "XDG_CACHE_HOME", "HOME"):
            (root / variable).mkdir()
            patch.setenv(variable, str(root / variable))
        patch.setattr("tempfile.tempdir", str(root / "TMPDIR"))
        for module in (flow, commands, doctor):
            patch.setattr(module, "read_environment", self._read_environment)
            patch.setattr(module, "load_recipe", self._load_recipe)
        patch.setattr(doctor, "compile_lines", lambda _: (self.would_compile, ()))
        patch.setattr(from_index, "require_symbols", self._require_symbols)
        patch.setattr(from_index, "require_machine_code", lambda _staged, _entry: None)
        patch.setattr(check, "check_symbols", lambda *_paths, **_named: ())

    def _read_environment(self, *_request: Any, **_named: Any) -> Environment:
        return self.environment

    def _load_recipe(self) -> Recipe:
        return self.recipe

    def _require_symbols(self, *_staged: Any) -> None:
        if self.symbol_fault:
            fault, self.symbol_fault = self.symbol_fault, ""
            raise CheckError(fault)

    def offer(self, *wheels: MadeWheel) -> None:
        write_document(self.index, wheels)

    def damage(self, made: MadeWheel) -> None:
        """Flip the last byte of what the index serves."""
        served = next(self.index.rglob(made.entry.file))
        data = served.read_bytes()
        served.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    def wheel(self, name: str = "made", **how: Any) -> MadeWheel:
        return make_wheel(self.root / name, **how)

    def run(self, *words: str) -> int:
        return cli.main(["--index-url", self.index.as_uri(), *words])

    @property
    def report(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.root / "TMPDIR/apex-install.json").read_text())
        return loaded

    @property
    def files(self) -> dict[str, str]:
        return tree(self.target)


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pod:
    return Pod(tmp_path, monkeypatch)


def test_a_wheel_that_fits_is_installed_and_then_already_there(
    pod: Pod, capsys: pytest.CaptureFixture[str]
) -> None:
    pod.offer(pod.wheel())
    assert pod.run() == 0
    assert capsys.readouterr().err.splitlines()[-1] == f"apex: wheel, apex {VERSION} (sm_90)"
    assert pod.report["bytes"]["downloaded"] > 0
    before = pod.files
    assert pod.run() == 0
    assert pod.report["outcome"] == "already"
    assert pod.files == before


def test_a_dry_run_changes_nothing(pod: Pod, capsys: pytest.CaptureFixture[str]) -> None:
    pod.offer(pod.wheel())
    assert pod.run("--dry-run") == 0
    assert f"wheel, would install apex {VERSION}" in capsys.readouterr().err
    assert pod.files == {}
    assert tree(pod.root / "HOME") == {}


def test_without_a_gpu_torch_alone_decides_and_the_line_says_so(
    pod: Pod, capsys: pytest.CaptureFixture[str]
) -> None:
    pod.environment = tiny_environment(pod.target)
    pod.offer(pod.wheel())
    assert pod.run() == 0
    assert "(no GPU visible: chosen by torch alone)" in capsys.readouterr().err


def test_json_is_the_report_and_nothing_else_on_stdout(
    pod: Pod, capsys: pytest.CaptureFixture[str]
) -> None:
    pod.offer(pod.wheel())
    assert pod.run("--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["chosen"]["version"] == VERSION
    assert report["signed"] is False
    assert list(report["seconds"])[-1] == "total"


REFUSED: dict[str, tuple[Callable[[Pod], None], str]] = {
    "nothing for this torch": (lambda _pod: None, "no-wheel: the index has nothing for cp311"),
    "no code for this GPU": (
        lambda pod: setattr(pod, "environment", tiny_environment(pod.target, gpus=(Gpu((12, 0)),))),
        "has no code for 12.0; it holds 8.0;9.0",
    ),
    "an old driver": (
        lambda pod: setattr(
            pod,
            "environment",
            replace(pod.environment, devices=Devices(HOPPER, "nvml", "535.1", (12, 2))),
        ),
        "needs a driver for CUDA 13, driver 535.1 runs up to 12.2: update the driver",
    ),
    "a CPU torch": (
        lambda pod: setattr(pod, "environment", tiny_environment(pod.target, cuda=None)),
        "is built without CUDA",
    ),
    "a torch for ROCm": (
        lambda pod: setattr(pod, "environment", tiny_environment(pod.target, cuda=None, hip="6.2")),
        "is built for ROCm 6.2",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_nothing_good_enough_is_code_3_one_line_and_no_change(
    pod: Pod, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    arrange, words = REFUSED[case]
    if case != "nothing for this torch":
        pod.offer(pod.wheel())
    arrange(pod)
    assert pod.run() == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("apex: none (no-wheel: ")
    assert words in last
    assert pod.files == {}


def test_no_torch_is_its_own_cause(
    pod: Pod, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_request: Any, **_named: Any) -> None:
        raise NoTorchError("no torch in /usr/bin/python3 (3.12)")

    monkeypatch.setattr(flow, "read_environment", refuse)
    assert pod.run() == 3
    assert capsys.readouterr().err == "apex: none (no-torch: no torch in /usr/bin/python3 (3.12))\n"


@pytest.mark.usefixtures("pod")
def test_no_index_says_which_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 3
    assert "give --index-url or set APEX_INSTALL_INDEX_URL" in capsys.readouterr().err


@pytest.mark.usefixtures("pod")
def test_offline_asks_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--offline", "--index-url", "https://wheels.example/"]) == 3
    assert "download: --offline" in capsys.readouterr().err


def test_a_variant_is_taken_for_this_pods_own_disk(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "why_shared", lambda _: "")
    variant = pod.wheel("variant", variant="sm90", architectures=("9.0",), modules=(MODULE,))
    pod.offer(pod.wheel(module_bytes={MODULE: b"\x7fELF" + os.urandom(9000)}), variant)
    assert pod.run() == 0
    assert pod.report["chosen"]["file"] == variant.entry.file
    assert pod.run() == 0
    assert pod.report["outcome"] == "already"
    pod.environment = replace(
        pod.environment, devices=Devices((Gpu((8, 0), "NVIDIA A100"),), "nvml")
    )
    assert pod.run() == 0
    assert pod.report["outcome"] == "wheel"
    assert pod.report["chosen"]["variant"] == ""


def test_a_variant_is_refused_where_others_may_share_the_target(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "why_shared", lambda target: f"others may share {target}")
    variant = pod.wheel("variant", variant="sm90", architectures=("9.0",), modules=(MODULE,))
    plain = pod.wheel()
    pod.offer(plain, variant)
    assert pod.run() == 0
    assert pod.report["chosen"]["file"] == plain.entry.file
    (refused,) = pod.report["refusals"]
    assert refused["file"] == variant.entry.file
    assert refused["reason"] == f"is for 9.0 alone, and others may share {pod.target}"


def test_a_variant_is_refused_where_other_pods_read_the_cache(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "why_shared", lambda _: "")
    volume = CacheLocation(str(pod.root / "volume"), "--cache-dir", outlives_pod=True)
    monkeypatch.setattr("apex_installer.get.cache.find_cache", lambda **_: volume)
    variant = pod.wheel("variant", variant="sm90", architectures=("9.0",), modules=(MODULE,))
    pod.offer(pod.wheel(module_bytes={MODULE: b"\x7fELF" + os.urandom(9000)}), variant)
    assert pod.run() == 0
    assert pod.report["chosen"]["variant"] == ""
    (refused,) = pod.report["refusals"]
    assert refused["reason"] == f"is for 9.0 alone, and other pods read {volume.directory}"


def test_what_is_fetched_for_other_pods_is_the_plain_wheel(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "why_shared", lambda _: "")
    monkeypatch.setattr(prefetch, "read_environment", lambda *_, **__: pod.environment)
    monkeypatch.setattr(prefetch, "load_recipe", lambda: pod.recipe)
    variant = pod.wheel("variant", variant="sm90", architectures=("9.0",), modules=(MODULE,))
    plain = pod.wheel(module_bytes={MODULE: b"\x7fELF" + os.urandom(9000)})
    pod.offer(plain, variant)
    cache = pod.root / "cache"
    assert pod.run("prefetch", "--compile-timeout", "0", "--cache-dir", str(cache)) == 0
    assert [path.name for path in cache.glob("wheels/*/*.whl")] == [plain.entry.file]


def test_bad_bytes_are_struck_out_and_the_next_entry_is_taken(pod: Pod) -> None:
    bad, good = pod.wheel("bad", build_tag=2), pod.wheel("good")
    pod.offer(bad, good)
    pod.damage(bad)
    assert pod.run() == 0
    assert pod.report["chosen"]["file"] == good.entry.file
    assert [attempt["cause"] for attempt in pod.report["attempts"]] == ["trust"]


def test_a_file_that_the_index_lists_in_vain_is_struck_out(pod: Pod) -> None:
    gone, good = pod.wheel("gone", build_tag=2), pod.wheel("good")
    pod.offer(gone, good)
    next(pod.index.rglob(gone.entry.file)).unlink()
    assert pod.run() == 0
    assert pod.report["chosen"]["file"] == good.entry.file
    assert [attempt["cause"] for attempt in pod.report["attempts"]] == ["download"]


def test_bad_bytes_alone_change_nothing(pod: Pod, capsys: pytest.CaptureFixture[str]) -> None:
    bad = pod.wheel()
    pod.offer(bad)
    pod.damage(bad)
    assert pod.run() == 3
    assert "trust: " in capsys.readouterr().err
    assert pod.files == {}


def test_a_failed_symbol_check_tries_the_next_entry(pod: Pod) -> None:
    newer, older = pod.wheel("newer", build_tag=2), pod.wheel("older")
    pod.offer(newer, older)
    pod.symbol_fault = "symbol check: c10::missing() should be in libc10.so"
    assert pod.run() == 0
    assert pod.report["chosen"]["file"] == older.entry.file
    assert [attempt["cause"] for attempt in pod.report["attempts"]] == ["check"]


@pytest.mark.parametrize(("breaks_import", "code"), [(True, 3), (False, 0)])
def test_a_missing_requirement_is_the_pip_line(
    pod: Pod, capsys: pytest.CaptureFixture[str], *, breaks_import: bool, code: int
) -> None:
    requirement = {**PACKAGING, "needed_for_import": breaks_import}
    pod.recipe = tiny_recipe(requirements={"*": [requirement]})
    pod.offer(pod.wheel())
    for outcome in ("wheel", "already"):
        assert pod.run() == code
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.endswith("/usr/bin/python3 -m pip install 'packaging>20.6'")
        assert pod.report["outcome"] == outcome
        assert pod.report["attempts"][-1]["cause"] == "requirement"
    (pod.target / "packaging").mkdir()
    assert pod.run() == 0


def test_an_unknown_require_names_what_is_near(
    pod: Pod, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pod.run("--require", "FusedRMSNrom,amp_X") == 2
    line = capsys.readouterr().err
    assert "--require FusedRMSNrom: unknown; near: FusedRMSNorm" in line
    assert "--require amp_X: unknown" in line


def test_foreign_apex_that_lacks_the_module_is_put_aside_and_comes_back(pod: Pod) -> None:
    add_foreign(pod.target)
    before = pod.files
    pod.offer(pod.wheel())
    assert pod.run() == 0
    assert "put aside" in "".join(pod.report["findings"])
    assert cli.main(["remove"]) == 0
    assert {path: pod.files.get(path) for path in before} == before


def test_foreign_apex_without_a_record_is_never_touched(
    pod: Pod, capsys: pytest.CaptureFixture[str]
) -> None:
    add_foreign(pod.target, record=False, installer=None)
    before = pod.files
    pod.offer(pod.wheel())
    assert pod.run() == 3
    assert "target: " in capsys.readouterr().err
    assert pod.files == before
    assert pod.run("--replace-foreign") == 0


def test_foreign_apex_that_fits_is_left_alone(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    add_foreign(pod.target)
    (pod.target / f"{MODULE}.cpython-311-x86_64-linux-gnu.so").write_bytes(b"")
    monkeypatch.setattr(check, "module_faults", lambda _files, _environment: ())
    before = pod.files
    assert pod.run() == 0
    assert pod.report["foreign"] is True
    assert pod.report["outcome"] == "already"
    assert pod.files == before


def test_another_torch_under_the_same_path_is_installed_for_anew(pod: Pod) -> None:
    pod.offer(pod.wheel())
    assert pod.run() == 0
    torch = replace(pod.environment.torch, version="2.11.1+cu130", git="f" * 40)
    pod.environment = replace(pod.environment, torch=torch)
    assert pod.run() == 0
    assert pod.report["outcome"] == "wheel"
    assert "was installed for another environment" in "".join(pod.report["findings"])


def test_doctor_says_what_is_there_and_what_would_be_chosen(
    pod: Pod, capsys: pytest.CaptureFixture[str]
) -> None:
    pod.offer(pod.wheel("a"), pod.wheel("b", cell="cp310-torch2.11-cu130-linux_x86_64"))
    assert pod.run("doctor") == 0
    out = capsys.readouterr().out
    for words in ("torch: 2.11.0+cu130", "NVIDIA H200 (9.0)", "is for cp310", "would choose: "):
        assert words in out
    assert pod.files == {}


def test_check_finds_a_changed_file(pod: Pod, capsys: pytest.CaptureFixture[str]) -> None:
    pod.offer(pod.wheel())
    assert pod.run() == 0
    pod.patch.setattr(commands, "module_faults", lambda _files, _environment: ())
    assert cli.main(["check"]) == 0
    (pod.target / "apex/__init__.py").write_text("changed")
    assert cli.main(["check"]) == 3
    assert "files were changed: apex/__init__.py" in capsys.readouterr().err


def test_check_says_which_wheel_it_checked_and_not_where_it_came_from(pod: Pod) -> None:
    made = pod.wheel()
    pod.offer(made)
    assert pod.run() == 0
    pod.patch.setattr(commands, "module_faults", lambda _files, _environment: ())
    assert pod.run("check") == 0
    chosen = pod.report["chosen"]
    assert (chosen["sha256"], chosen["url"]) == (made.entry.sha256, "")


def test_check_of_a_foreign_one_names_no_wheel(pod: Pod) -> None:
    made = pod.wheel()
    pod.offer(made)
    assert pod.run() == 0
    (receipt,) = pod.target.glob("*.dist-info/apex_install.json")
    receipt.unlink()
    pod.patch.setattr(commands, "module_faults", lambda _files, _environment: ())
    pod.run("check")
    assert pod.report["chosen"] is None


@pytest.mark.parametrize(("breaks_import", "code"), [(True, 3), (False, 0)])
def test_check_and_doctor_name_what_the_installed_commit_needs(
    pod: Pod, capsys: pytest.CaptureFixture[str], *, breaks_import: bool, code: int
) -> None:
    made = pod.wheel()
    requirement = {**PACKAGING, "needed_for_import": breaks_import}
    pod.recipe = tiny_recipe(requirements={made.entry.ref: [requirement], "*": []})
    pod.offer(made)
    pod.run()
    pod.patch.setattr(commands, "module_faults", lambda _files, _environment: ())
    capsys.readouterr()
    line = "apex needs packaging, which is missing: /usr/bin/python3 -m pip install"
    assert cli.main(["check"]) == code
    assert line in capsys.readouterr().err
    assert pod.run("doctor") == 0
    assert line in capsys.readouterr().out


def test_a_bug_is_code_1_with_a_log(
    pod: Pod, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stumble(*_request: Any, **_named: Any) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr(flow, "read_environment", stumble)
    assert pod.run() == 1
    line = capsys.readouterr().err
    assert "none (bug: KeyError('unforeseen'); log: " in line
    assert "Traceback" in next((pod.root / "TMPDIR").glob("*.log")).read_text()


@pytest.mark.usefixtures("pod")
def test_faults_of_require_and_gpu_are_told_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--require", "nonsense", "--gpu", "hopper"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "--require nonsense: unknown" in last
    assert "--gpu hopper: " in last
