"""Would it load and run here: one case per reason, and what must not count as one."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from apex_installer.examine.facts import Found, ModuleFacts, python_of
from apex_installer.examine.judge import Here, Lacking, code_text, gpu_notes, judge
from apex_installer.examine.subject import Subject
from apex_installer.model.arch import Architectures
from apex_installer.model.environment import Devices, Gpu
from apex_installer.read.symbols import MissingSymbol
from support.wheels import tiny_environment

L4, HOPPER = Gpu((8, 9), "NVIDIA L4"), Gpu((9, 0))
CODE_90 = Architectures(("9.0",))
NO_TORCH = "no torch in /usr/bin/python3 (3.11); install torch there first"


def here(*gpus: Gpu, driver: tuple[int, int] | None = None, **torch: object) -> Here:
    environment = tiny_environment("/t", **torch)
    devices = Devices(gpus, "nvml", driver_cuda=driver)
    return Here(environment.interpreter, environment.torch, devices, environment.glibc)


def without_torch() -> Here:
    return here()._replace(torch=None, no_torch=NO_TORCH)


def module(name: str = "m", **facts: object) -> ModuleFacts:
    values = {"machine": "x86_64", "python": "cp311", **facts}
    return ModuleFacts(name, f"{name}.so", f"/t/{name}.so", **values)


def subject(kind: str = "package", **fields: object) -> Subject:
    found = (Found("m", "m.so", "/t/m.so"),)
    return Subject(kind, "pkg", "1.0", "/t/pkg", "/t", found=found)._replace(**fields)


def missing(name: str, kind: str = "symbol", library: str | None = "libc10.so") -> MissingSymbol:
    return MissingSymbol("m.so", kind, name, None, library, "2.11.0+cu130")


def wheel(*tags: str) -> Subject:
    return subject("wheel", tags=tags)


@dataclass(frozen=True)
class Case:
    says: tuple[str, ...]
    modules: tuple[ModuleFacts, ...] = (module(),)
    subject: Subject = field(default_factory=subject)
    here: Here = field(default_factory=here)
    missing: tuple[MissingSymbol, ...] = ()
    lacking: Lacking | None = None


LATER = ": it will fail later as 'no kernel image', often reported in another line"
CASES = {
    "all is well": Case(()),
    "another Python, by the file": Case(
        ("is for cp310, this is cp311",), modules=(module(python="cp310"),)
    ),
    "any Python, by the file": Case((), modules=(module(python="abi3"), module(python=""))),
    "another Python, by the tag": Case(
        ("is for cp310, this is cp311",), subject=wheel("cp310-cp310-linux_x86_64")
    ),
    "an older stable ABI": Case((), subject=wheel("cp39-abi3-manylinux_2_28_x86_64")),
    "a newer stable ABI": Case(
        ("is for cp312, this is cp311",), subject=wheel("cp312-abi3-linux_x86_64")
    ),
    "any Python, by the tag": Case((), subject=wheel("py2-none-any", "py3-none-any")),
    "another system": Case(
        ("is for win_amd64, this is linux_x86_64",), subject=wheel("cp311-cp311-win_amd64")
    ),
    "another machine, by the tag": Case(
        ("is for manylinux_2_28_aarch64, this is linux_x86_64",),
        subject=wheel("cp311-cp311-manylinux_2_28_aarch64"),
    ),
    "a newer glibc": Case(
        ("asks for glibc 2.39, this is 2.36",), subject=wheel("cp311-cp311-manylinux_2_39_x86_64")
    ),
    "one of two tags fits": Case(
        (),
        subject=wheel("cp311-cp311-manylinux_2_39_x86_64", "cp311-cp311-manylinux2014_x86_64"),
    ),
    "another machine": Case(
        ("is for aarch64 machines, this is x86_64",), modules=(module(machine="aarch64"),)
    ),
    "damaged": Case(
        ("m.so: is cut short",), modules=(module(damaged="is cut short", machine="", python=""),)
    ),
    "no module at all": Case(
        ("holds no extension module at all: FusedRMSNorm would die at construction",),
        modules=(),
        lacking=Lacking(("norm_cuda",), "apex.normalization.FusedRMSNorm"),
    ),
    "a module too few": Case(
        ("has no module norm_cuda: FusedRMSNorm would die at construction",),
        lacking=Lacking(("norm_cuda",), "apex.normalization.FusedRMSNorm"),
    ),
    "an unrelated package": Case(
        ("is another package of that name: it has no apex.normalization",),
        modules=(),
        lacking=Lacking(("norm_cuda",), "apex.normalization", is_another=True),
    ),
    "torch is needed and not there": Case(
        (f"needs torch: {NO_TORCH}",),
        modules=(module(needs_torch=True),),
        here=without_torch(),
        missing=(missing("_ZN3c103newEv"), missing("libcudart.so.13", "library", "libcudart")),
    ),
    "no torch is needed": Case((), here=without_torch()),
    "another C++ ABI": Case(
        ("is built for the old C++ ABI, torch 2.11.0+cu130 has the new one",),
        modules=(module(cxx11_abi=False), module("n", cxx11_abi=None)),
    ),
    "another CUDA, with what it lacks of it": Case(
        ("is built for CUDA 12, torch 2.11.0+cu130 has CUDA 13.0",),
        modules=(module(cuda="12"),),
        missing=(missing("libcudart.so.12", "library", "libcudart.so.12"),),
    ),
    "CUDA, and a torch without": Case(
        ("is built for CUDA 12, torch 2.11.0+cpu is without CUDA",),
        modules=(module(cuda="12"),),
        here=here(cuda=None, version="2.11.0+cpu"),
    ),
    "symbols of a torch that is named": Case(
        (
            (
                "needs torch 2.4's symbols: c10::new_one() is not defined by torch 2.11.0+cu130 "
                "(and 1 more)"
            ),
        ),
        subject=subject(version="0.1+20250411.cu121.torch2.4"),
        missing=(missing("_ZN3c107new_oneEv"), missing("_ZN3c107new_twoEv")),
    ),
    "symbols of a torch that nothing names": Case(
        (
            "needs another torch's symbols: c10::new_one() is not defined by torch 2.11.0+cu130",
            "m.so: undefined symbol foo: libfoo.so does not define it",
        ),
        missing=(missing("_ZN3c107new_oneEv"), missing("foo", library="libfoo.so")),
    ),
    "a library that is lost comes before its symbols": Case(
        ("m.so needs libfoo.so.1, which is not found (and 1 more)",),
        missing=(missing("foo", library=None), missing("libfoo.so.1", "library", "libfoo.so.1")),
    ),
    "one file is not named again": Case(
        ("needs libfoo.so.1, which is not found",),
        subject=subject("module"),
        missing=(missing("libfoo.so.1", "library", "libfoo.so.1"),),
    ),
    "code for another GPU": Case(
        (f"holds sm_90 code only, your GPU is sm_89{LATER}",),
        modules=(module(parts=(CODE_90,)), module("n", parts=(CODE_90,)), module("o")),
        here=here(L4, L4),
    ),
    "code for one of two GPUs": Case(
        (f"holds sm_90 code only, your GPU is sm_89{LATER}",),
        modules=(module(parts=(CODE_90,)),),
        here=here(L4, HOPPER),
    ),
    "PTX that the driver compiles": Case(
        (), modules=(module(parts=(Architectures((), ("8.0",)),)),), here=here(L4)
    ),
    "PTX and a driver that is too old for it": Case(
        (f"holds PTX of sm_80 only, your GPU is sm_89 (update the driver){LATER}",),
        modules=(module(parts=(Architectures((), ("8.0",)),)),),
        here=here(L4, driver=(12, 8)),
    ),
    "another's module that chooses by GPU": Case(
        (), modules=(module(parts=(CODE_90, Architectures(("8.0",)))),), here=here(L4)
    ),
    "another's modules that are chosen by GPU": Case(
        (),
        modules=(module(parts=(CODE_90,)), module("n", parts=(Architectures(("8.0",)),))),
        here=here(L4),
    ),
    "half of the recipe's package": Case(
        (f"m holds no code for all kernels, your GPU is sm_89{LATER}",),
        subject=subject(is_ours=True),
        modules=(
            module(parts=(CODE_90, Architectures(("8.0",)))),
            module("n", parts=(Architectures(("8.0",)),)),
        ),
        here=here(L4),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_reason(name: str) -> None:
    case = CASES[name]
    found = judge(case.subject, case.modules, case.missing, case.here, case.lacking)
    assert found == case.says


def test_a_gpu_that_part_of_it_is_not_for_is_noted() -> None:
    unless = ": 'no kernel image' there, unless the package chooses by GPU itself"
    parts = (CODE_90, Architectures(("8.0",)))
    modules = (module(parts=parts), module("n", parts=(CODE_90,)), module("o"))
    assert gpu_notes(modules, here(L4)) == (
        f"m: some of its kernels are not for sm_89{unless}",
        f"n: it is not for sm_89{unless}",
    )
    assert gpu_notes(modules[1:], here(HOPPER)) == ()


@pytest.mark.parametrize(
    ("fields", "torch"),
    [
        ({"version": "0.1+20250411.cu121.torch2.4"}, "2.4"),
        ({"where": "/d/flash_attn-2.5.9+cu122torch2.3cxx11abiFALSE-cp310-cp310-linux.whl"}, "2.3"),
        ({"requires": ("numpy", "torch==2.6.0")}, "2.6"),
        ({"requires": ("torch (==2.10.*)",)}, "2.10"),
        ({"requires": ("torch>=2.0", "torchvision==0.21")}, ""),
        ({}, ""),
    ],
)
def test_which_torch_it_was_made_for(fields: dict, torch: str) -> None:
    assert subject(**fields).made_for == torch


@pytest.mark.parametrize(
    ("file", "python"),
    [
        ("_C.cpython-310-x86_64-linux-gnu.so", "cp310"),
        ("_C.cpython-313t-x86_64-linux-gnu.so", "cp313t"),
        ("_C.abi3.so", "abi3"),
        ("_C.so", ""),
    ],
)
def test_which_python_a_file_is_for(file: str, python: str) -> None:
    assert python_of(file) == python


def test_code_as_nvidias_tools_name_it() -> None:
    held = Architectures(("8.0", "9.0a", "12.0"), ("12.0",))
    assert code_text(held) == "sm_80 sm_90a sm_120 code, PTX of sm_120"
    assert code_text(Architectures()) == ""
