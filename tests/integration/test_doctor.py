"""`doctor` by the packed installer: of a pod, and of whatever it is given. It changes nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import packaging
import pytest

from apex_installer.model.recipe import Recipe
from support import fault_server as server
from support.machine import SMALL
from support.probe_modules import compile_plain
from support.targets import add_foreign
from support.tiny_elf import TinyElf
from support.tiny_fatbin import fatbin
from support.tiny_pod import (
    CPU_PY,
    SUFFIX,
    TAG,
    Ended,
    Kit,
    TinyPod,
    make_kit,
    module_bytes,
    state_of,
)
from support.wheels import MODULE, VERSION
from wheelbuild.cli import main as farm
from wheelbuild.data import load_data
from wheelbuild.thin_json import thin_texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.torch_environments import TorchEnvironment

pytestmark = pytest.mark.integration

LATER = ": it will fail later as 'no kernel image', often reported in another line"
REPOSITORY = "https://host.example/a/farm"


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return make_kit(tmp_path_factory.mktemp("kit"))


@pytest.fixture
def pod(tmp_path: Path, kit: Kit) -> TinyPod:
    return TinyPod(tmp_path / "pod", kit)


def doctor(pod: TinyPod, *words: str, **environ: str) -> Ended:
    """Whose every run must leave all as it was."""
    before = state_of(pod.root)
    done = pod.process("doctor", *words, **environ)
    in_json = pod.process("doctor", *words, "--json", **environ)
    assert state_of(pod.root) == before
    ended = Ended(done.returncode, done.stdout, done.stderr, json.loads(in_json.stdout))
    assert all(line.startswith("apex: ") for line in ended.lines), ended.err
    return ended


# -- of a module, a wheel, a package, an address -------------------------------------------------


@dataclass(frozen=True)
class Case:
    """What is made and named, and what the last line must say."""

    make: Callable[[TinyPod], object]
    """Returns the subject."""
    code: int
    says: str
    gpu: str = "8.9"


def module(pod: TinyPod, data: bytes, name: str = f"m{SUFFIX}") -> str:
    path = pod.root / name
    path.write_bytes(data)
    return f"./{name}"


def wheel(pod: TinyPod, **how: object) -> Path:
    return pod.wheel("given", **how).path


def python_only_wheel(pod: TinyPod, standin: str = "") -> Path:
    files = {"apex/__init__.py": "", "apex/normalization.py": "class FusedRMSNorm: ..."}
    files |= {f"{MODULE}.py": standin} if standin else {}
    return wheel(pod, cell="python", version="0.1", module_bytes={}, python_files=files)


def installed(pod: TinyPod, **how: object) -> str:
    add_foreign(pod.target, **how)
    return "apex"


def flash(pod: TinyPod) -> str:
    """Its module lies beside its package, as RECORD says."""
    (pod.target / "flash_attn").mkdir()
    (pod.target / "flash_attn/__init__.py").touch()
    (pod.target / f"flash_attn_2_cuda{SUFFIX}").write_bytes(module_bytes("8.0"))
    info = pod.target / "flash_attn-2.5.9.dist-info"
    info.mkdir()
    (info / "RECORD").write_text(f"flash_attn/__init__.py,,\nflash_attn_2_cuda{SUFFIX},,\n")
    return "flash_attn"


NORMALIZATION = {"apex/__init__.py": "", "apex/normalization/__init__.py": "class FusedRMSNorm: 1"}
OLD_ABI = "_ZN3c106detail14torchCheckFailEPKcS2_jRKSs"
CASES: dict[str, Case] = {
    "a wheel that fits": Case(
        wheel, 0, "this apex would load beside torch 2.11.0+cu130 and run on sm_90", gpu="9.0"
    ),
    "a wheel for another GPU": Case(
        lambda pod: wheel(pod, architectures=("9.0",)),
        3,
        f"this apex holds sm_90 code only, your GPU is sm_89{LATER}",
    ),
    "a wheel for another Python": Case(
        lambda pod: wheel(pod, cell="cp39-torch2.11-cu130-linux_x86_64"),
        3,
        f"this apex is for cp39, this is {TAG}",
    ),
    "a wheel for another torch": Case(
        lambda pod: wheel(
            pod,
            version="0.1+20250411.cu130.torch2.4",
            module_bytes={MODULE: module_bytes("8.0", undefined="_ZN3c107new_oneEv")},
        ),
        3,
        "this apex needs torch 2.4's symbols: c10::new_one() is not defined by torch 2.11.0+cu130",
    ),
    "a wheel without modules": Case(
        python_only_wheel,
        3,
        "this apex holds no extension module at all: FusedRMSNorm would die at construction",
    ),
    "a wheel that was cut off": Case(
        lambda pod: shorten(wheel(pod)), 3, "trust: {subject}: cannot be read as a wheel: "
    ),
    "a wheel by its address": Case(
        lambda pod: wheel(pod).as_uri(), 0, "would load beside torch 2.11.0+cu130 and run on sm_89"
    ),
    "a Python-only wheel whose stand-in says so": Case(
        lambda pod: python_only_wheel(pod, "__apex_fallback__ = True"),
        0,
        "this apex holds no extension module",
    ),
    "a Python-only wheel that says what is absent": Case(
        lambda pod: python_only_wheel(pod, "raise ModuleNotFoundError(__name__)"),
        3,
        "this apex holds no extension module at all: FusedRMSNorm would die at construction",
    ),
    "upstream's Python-only install": Case(
        lambda pod: installed(pod, version="0.1", files=NORMALIZATION),
        3,
        "this apex holds no extension module at all: FusedRMSNorm would die at construction",
    ),
    "PyPI's unrelated apex": Case(
        installed, 3, "this apex is another package of that name: it has no apex.normalization"
    ),
    "a package and the module beside it": Case(
        flash, 0, "this flash_attn would load beside torch 2.11.0+cu130 and run on sm_89"
    ),
    "a package without modules": Case(
        lambda pod: (pod.target / "plain.py").write_text("") or "plain",
        0,
        "this plain holds no extension module: no torch, CUDA or GPU has a say in it",
    ),
    "a module of an older C++ ABI": Case(
        lambda pod: module(pod, module_bytes("8.0", undefined=OLD_ABI)),
        3,
        "this module m is built for the old C++ ABI, torch 2.11.0+cu130 has the new one; needs "
        "another torch's symbols: c10::detail::torchCheckFail(",
    ),
    "a module of another CUDA": Case(
        lambda pod: module(pod, TinyElf(needed=("libcudart.so.12",)).data()),
        3,
        "this module m is built for CUDA 12, torch 2.11.0+cu130 has CUDA 13.0",
    ),
    "a module with a library that is not there": Case(
        lambda pod: module(pod, TinyElf(needed=("libnowhere.so.3",)).data()),
        3,
        "this module m needs libnowhere.so.3, which is not found",
    ),
    "a module for another machine": Case(
        lambda pod: module(pod, TinyElf(machine=183).data()),
        3,
        "this module m is for aarch64 machines, this is x86_64",
    ),
    "a module for another Python": Case(
        lambda pod: module(pod, TinyElf().data(), "m.cpython-39-x86_64-linux-gnu.so"),
        3,
        f"this module m is for cp39, this is {TAG}",
    ),
    "a module that was cut off": Case(
        lambda pod: module(pod, module_bytes("8.0")[:200]), 3, "m{suffix}: is cut short"
    ),
    "names that no terminal should be given": Case(
        lambda pod: module(pod, TinyElf(needed=("lib\x1b[31m\nx.so",), undefined=("\r",)).data()),
        3,
        "needs lib\\x1b[31m\\nx.so, which is not found",
    ),
    "PTX alone": Case(
        lambda pod: module(pod, TinyElf(appended=fatbin(ptx=("8.0",))).data()),
        0,
        "this module m would load beside torch 2.11.0+cu130 and run on sm_89",
    ),
    "a module without GPU code": Case(
        lambda pod: module(pod, TinyElf().data()),
        0,
        "this module m would load beside torch 2.11.0+cu130; its modules hold no GPU code",
    ),
    "a name of nothing": Case(
        lambda _: "nothing_of_it", 2, "no nothing_of_it on the app's sys.path"
    ),
    "a file of nothing": Case(lambda _: "./nothing.whl", 2, "./nothing.whl: No such file"),
    "a file of another kind": Case(
        lambda pod: module(pod, b"text"), 2, "is neither a wheel nor an extension module"
    ),
    "an address over plain http": Case(
        lambda _: "http://example.invalid/x.whl", 2, "plain http is taken from this machine alone"
    ),
}


def shorten(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-50])
    return path


@pytest.mark.parametrize("name", CASES)
def test_the_answer_is_a_sentence_and_a_code(pod: TinyPod, name: str) -> None:
    case = CASES[name]
    subject = str(case.make(pod))
    ended = doctor(pod, subject, "--gpu", case.gpu)
    assert case.says.format(subject=subject, suffix=SUFFIX) in ended.line
    assert ended.code == case.code


def test_json_holds_the_facts_of_each_module(pod: TinyPod) -> None:
    ended = doctor(pod, str(wheel(pod)))
    report = ended.report
    (found,) = report["examined"]
    assert (found["name"], found["python"], found["machine"]) == (MODULE, TAG, "x86_64")
    assert (found["machine_code"], found["ptx"]) == (["8.0", "9.0"], [])
    assert (found["needed"], found["needs_torch"]) == (["libc10.so"], True)
    assert (found["cxx11_abi"], found["cuda"], found["undefined"]) == (True, None, 1)
    assert found["missing"] == []
    assert (report["exit_code"], report["line"]) == (0, ended.line.removeprefix("apex: "))


def test_bytes_that_are_no_text_are_told_all_the_same(pod: TinyPod) -> None:
    data = TinyElf(needed=("libXXXX.so",)).data().replace(b"libXXXX", b"lib\xff\xfe\x80\x81")
    ended = doctor(pod, module(pod, data))
    assert ended.code == 3
    assert r"needs lib\udcff\udcfe\udc80\udc81.so, which is not found" in ended.line


def test_stand_ins_are_named(pod: TinyPod) -> None:
    ended = doctor(pod, str(python_only_wheel(pod, "__apex_fallback__ = True")))
    assert ended.lines[0] == f"apex: stand-ins by torch's own operators: {MODULE}"
    add_foreign(pod.target, files={**NORMALIZATION, f"{MODULE}.py": ""})
    assert doctor(pod, "apex").code == 3
    (pod.target / f"{MODULE}.py").write_text("__apex_fallback__ = True")
    assert doctor(pod, "apex").code == 0


def test_what_each_module_misses_is_listed(pod: TinyPod) -> None:
    names = tuple(f"missing_{number}" for number in range(5))
    subject = module(pod, TinyElf(undefined=names).data())
    ended = doctor(pod, subject)
    assert ended.code == 3
    assert "\n  undefined symbol missing_0: no library defines it\n" in ended.out
    assert "missing_3" not in ended.out
    assert "\n  and 2 more\n" in ended.out
    (found,) = ended.report["examined"]
    assert len(found["missing"]) == 5


def test_without_a_gpu_that_is_said(pod: TinyPod) -> None:
    ended = doctor(pod, str(wheel(pod)))
    assert ended.code == 0
    assert "no GPU is visible to judge its code by: name it, --gpu 8.9" in ended.line


def test_without_a_torch_it_tells_what_the_file_holds(pod: TinyPod) -> None:
    shutil.rmtree(pod.target / "torch")
    ended = doctor(pod, str(wheel(pod)))
    assert f"{MODULE}{SUFFIX}: {TAG}, x86_64, sm_80 sm_90 code, new C++ ABI" in ended.out
    assert ended.code == 3
    assert f"this apex needs torch: no torch in {pod.python} (" in ended.line
    ended = doctor(pod, module(pod, TinyElf().data()))
    assert (ended.code, ended.line) == (
        0,
        "apex: this module m would load; its modules hold no GPU code",
    )


def test_another_torch_that_has_all_it_needs_is_named(pod: TinyPod) -> None:
    elsewhere = pod.root / "HOME/app/venv"
    shutil.copytree(pod.environment, elsewhere, symlinks=True)
    subject = module(pod, module_bytes("8.9", undefined="_ZN3c107new_oneEv"))
    (library,) = elsewhere.glob("lib/*/site-packages/torch/lib/libc10.so")
    TinyElf(soname="libc10.so", defines=("_ZN3c107new_oneEv",)).write(library)
    ended = doctor(pod, subject)
    assert ended.code == 3
    assert ended.lines[0] == (
        f"apex: torch 2.11.0+cu130 in {elsewhere} defines all that it needs: "
        f"--python {elsewhere}/bin/python"
    )
    assert doctor(pod, subject, "--python", f"{elsewhere}/bin/python").code == 0


def test_an_address_is_fetched_and_said_not_to_be_verified(pod: TinyPod) -> None:
    path = wheel(pod)
    with server.FaultServer({f"/{path.name}": server.answer(path.read_bytes())}) as served:
        ended = doctor(pod, f"{served.url}/{path.name}", "--gpu", "9.0")
    assert ended.code == 0
    assert "not verified: nothing says what their sha256 should be" in ended.lines[0]


def test_only_doctor_takes_a_subject(pod: TinyPod) -> None:
    ended = pod.run("check", "flash_attn")
    assert (ended.code, ended.line) == (
        2,
        "apex: none (usage: 'flash_attn': only doctor takes something to examine)",
    )


def test_flags_may_stand_on_either_side_of_the_subject(pod: TinyPod) -> None:
    path = str(wheel(pod))
    for words in (["--gpu", "9.0", "doctor", path], ["doctor", "--gpu", "9.0", path]):
        assert pod.run(*words).code == 0


def test_nothing_of_it_is_run(pod: TinyPod) -> None:
    """A package that would leave a trace at import, and a torch that cannot be imported."""
    (pod.target / "trap").mkdir()
    (pod.target / "trap/__init__.py").write_text(f"open({str(pod.root / 'sprung')!r}, 'w')")
    (pod.target / f"trap/m{SUFFIX}").write_bytes(module_bytes())
    assert doctor(pod, "trap").code == 0
    assert not (pod.root / "sprung").exists()


@pytest.mark.compile
def test_real_modules_and_real_torches(
    pod: TinyPod,
    torch_211: TorchEnvironment,
    torch_26: TorchEnvironment,
    requires_tool: Callable[[str], str],
    cache: Path,
) -> None:
    """Each in its own torch and in the other one."""
    cxx = requires_tool("g++")
    for own, other in ((torch_211, torch_26), (torch_26, torch_211)):
        subject = str(compile_plain(own, cxx=cxx, cache=cache))
        ended = doctor(pod, subject, "--python", str(own.python))
        assert (ended.code, "would load" in ended.line) == (0, True), ended.err
        ended = doctor(pod, subject, "--python", str(other.python))
        assert ended.code == 3
        assert f"is built for the {'new' if own is torch_211 else 'old'} C++ ABI" in ended.line
        assert f"is not defined by torch {other.version}" in ended.line


# -- of a pod ------------------------------------------------------------------------------------


def test_what_would_be_chosen_and_why_not_the_others(pod: TinyPod) -> None:
    fits = pod.wheel()
    pod.offer(fits, pod.wheel("hopper", architectures=("9.0",), suffix="sm90", build_tag=2))
    ended = doctor(pod, "--gpu", "8.0")
    assert ended.code == 0
    assert ended.report["outcome"] == "wheel"
    assert f"apex-{VERSION}-2-{TAG}-{TAG}-linux_x86_64.whl: has no code for 8.0" in ended.out
    assert ended.line.startswith(f"apex: would choose: {fits.entry.file} (")
    assert "python: " in ended.out
    assert "cache: " in ended.out


def test_offline_it_asks_the_cache_as_an_install_would(pod: TinyPod) -> None:
    pod.offer(pod.wheel())
    with server.FaultServer({}) as nobody:
        url = f"{nobody.url}/"
        ended = doctor(pod, "--gpu", "9.0", "--index-url", url, "--offline")
    assert (ended.code, ended.causes[0]) == (3, "download")
    assert "wheel: --offline, and the cache keeps no document of " in ended.out


def test_what_stands_is_said_to(pod: TinyPod) -> None:
    pod.offer(pod.wheel())
    assert pod.run("--gpu", "9.0").code == 0
    ended = doctor(pod, "--gpu", "9.0")
    assert (ended.code, ended.report["outcome"]) == (0, "already")
    assert f"installed: apex {VERSION} by ours: stands" in ended.out


def test_without_a_torch_it_says_where_one_is(pod: TinyPod) -> None:
    shutil.copytree(pod.environment, pod.root / "HOME/app/venv", symlinks=True)
    shutil.rmtree(pod.target / "torch")
    ended = doctor(pod)
    assert (ended.code, ended.causes) == (3, ["no-torch"])
    assert f"in the way: no torch in {pod.python} (" in ended.out
    assert f"use --python {pod.root}/HOME/app/venv/bin/python" in ended.out


def test_a_foreign_apex_that_is_not_ours_to_touch_is_in_the_way(pod: TinyPod) -> None:
    add_foreign(pod.target, record=False, installer=None)
    pod.offer(pod.wheel())
    ended = doctor(pod, "--gpu", "9.0")
    assert (ended.code, ended.causes[-1]) == (3, "target")
    assert "in the way: apex 0.9.10.dev0 in " in ended.out
    assert "remove it, or run again with --replace-foreign" in ended.line
    assert "wheel: apex-" in ended.out, "what would be chosen otherwise is said, too"


def test_what_is_missing_at_run_time_is_the_pip_line(tmp_path: Path, kit: Kit) -> None:
    need = {"name": "packaging", "specifier": "packaging>20.6", "module": "packaging"}
    requirements = {"*": [{**need, "needed_for_import": True}]}
    other = make_kit(tmp_path / "kit", requirements=requirements)
    pod = TinyPod(tmp_path / "pod", Kit(other.zipapp, kit.environment, kit.tag))
    pod.offer(pod.wheel())
    said = f"in the way: apex needs packaging, which is missing: {pod.python} -m pip install"
    assert said in doctor(pod, "--gpu", "9.0").out


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, kit: Kit) -> Kit:
    """With the recipe of the small package, which says how it is compiled, and a farm's address."""
    zipapp = tmp_path_factory.mktemp("small") / "apex-install.pyz"
    words = ["-q", "--data", str(SMALL), "zipapp", "--out", str(zipapp)]
    assert farm([*words, "--repository-url", REPOSITORY]) == 0
    return Kit(zipapp, kit.environment, kit.tag)


def tool(folder: Path, name: str, said: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{said}'\n")
    (folder / name).chmod(0o755)


def test_what_is_in_the_way_of_a_compile_has_its_remedy(tmp_path: Path, small: Kit) -> None:
    pod = TinyPod(tmp_path / "pod", small)
    pod.offer()
    ended = doctor(pod, "--gpu", "9.0", "--toolkit", "/nowhere")
    assert (ended.code, ended.causes) == (3, ["no-wheel", "compile"])
    assert "--toolkit (/nowhere) is not there" in ended.line
    ended = doctor(pod, "--gpu", "9.0")
    assert ended.code == 3
    assert "compile: no g++ (c++ and g++ not found): apt-get install g++" in ended.line
    assert "\ncompile: no g++ (c++ and g++ not found): apt-get install g++\n" in ended.out
    tools = pod.root / "tools"
    tool(tools, "c++", "c++ (Debian 12.2.0-14) 12.2.0 Copyright Free Software Foundation")
    tool(tools / "cuda/bin", "nvcc", "Cuda compilation tools, release 13.0, V13.0.88")
    environ = {"PATH": f"{pod.environ['PATH']}:{tools}:/usr/bin:/bin"}
    ended = doctor(pod, "--gpu", "9.0", CUDA_HOME=str(tools / "cuda"), **environ)
    assert (ended.code, ended.report["outcome"]) == (0, "compiled"), ended.out
    assert f"compile: possible: {MODULE} for 9.0: 80 CPU-seconds on " in ended.out
    assert "nvcc 13.0 (CUDA_HOME)" in ended.line
    ended = doctor(pod, "--gpu", "9.0", "--compile-timeout", "0")
    assert "compile: left out, as --compile-timeout 0 asks" in ended.out
    ended = doctor(pod, "--gpu", "9.0", "--at-least", "wheel")
    assert "compile:" not in ended.out


def test_what_a_pod_compiled_before_is_what_would_be_taken(tmp_path: Path, small: Kit) -> None:
    pod = TinyPod(tmp_path / "pod", small)
    pod.offer()
    recipe = Recipe.from_json(thin_texts(load_data(SMALL))["recipe.json"])
    made = pod.wheel(ref=recipe.ref_for("2.11.0")["commit"], suffix="norm.sm90")
    cache = pod.root / "XDG_CACHE_HOME/apex-install"
    for folder in ("compiled", f"wheels/{made.entry.sha256}"):
        (cache / folder).mkdir(parents=True)
    (cache / f"compiled/{made.entry.key}.json").write_text(json.dumps(made.entry.to_json()))
    shutil.copy(made.path, cache / "wheels" / made.entry.sha256)
    ended = doctor(pod, "--gpu", "9.0")
    assert (ended.code, ended.report["outcome"]) == (0, "compiled"), ended.out
    assert ended.line == f"apex: would choose: {made.entry.file}, compiled before"
    shutil.rmtree(cache / "wheels")
    assert doctor(pod, "--gpu", "9.0").code == 3


def test_a_torch_without_cuda(tmp_path: Path, small: Kit) -> None:
    pod = TinyPod(tmp_path / "pod", small)
    (pod.target / "torch/version.py").write_text(CPU_PY)
    ended = doctor(pod)
    assert ended.code == 3
    assert "is built without CUDA: install a CUDA build of torch" in ended.line


# -- want this wheel? ----------------------------------------------------------------------------


def test_a_miss_links_to_the_form_of_the_farm_that_packed_it(tmp_path: Path, small: Kit) -> None:
    pod = TinyPod(tmp_path / "pod", small)
    pod.offer(pod.wheel(architectures=("9.0",)))
    asked = f"want this wheel? {REPOSITORY}/issues/new?template=want-this-wheel.yml&title="
    for words in ((), ("--dry-run",)):
        ended = pod.run("--gpu", "8.9", "--compile-timeout", "0", *words)
        assert ended.code == 3
        assert ended.lines[-2].startswith(f"apex: {asked}"), ended.err
        assert (
            f"&cell={TAG}-torch2.11-cu130-linux_x86_64&gpu=sm_89&torch=2.11.0%2Bcu130&"
            in (ended.lines[-2])
        )
        assert "want this wheel?" not in ended.line
    assert asked in doctor(pod, "--gpu", "8.9", "--compile-timeout", "0").out


def test_what_is_no_miss_has_no_link(tmp_path: Path, small: Kit, pod: TinyPod) -> None:
    unpacked_by_nobody = pod
    unpacked_by_nobody.offer()
    assert "want this wheel?" not in unpacked_by_nobody.run("--gpu", "9.0").err
    pod = TinyPod(tmp_path / "other", small)
    shutil.copytree(Path(packaging.__file__).parent, pod.target / "packaging")
    pod.offer(pod.wheel())
    assert "want this wheel?" not in pod.run("--gpu", "9.0").err
    with server.FaultServer({}) as served:
        url = f"{served.url}/"
    ended = pod.run("--gpu", "8.9", "--index-url", url, "--compile-timeout", "0")
    assert "want this wheel?" not in ended.err, "a network that fails says nothing of wheels"


def test_a_farm_s_address_is_https(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.pyz"
    assert farm(["zipapp", "--out", str(out), "--repository-url", "git@host:a/b"]) == 2
    assert "is not an https:// address" in capsys.readouterr().err
    assert not out.exists()
