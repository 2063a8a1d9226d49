"""The choice: one test per reason to refuse, and what is preferred among what fits."""

from dataclasses import replace
from typing import Any

import pytest

from apex_installer.model.entry import Entry, Module
from apex_installer.model.environment import Devices, Environment, Gpu, Interpreter, Torch
from apex_installer.pick import RULES, Wishes, entry_architectures, pick

NORM = Module("norm_cuda", "norm_cuda.so", ("8.0", "9.0"), ("9.0",), ("libc10.so",))
HOST = Module("flat_C", "flat_C.so", (), (), ())
ENTRY = Entry(
    file="apex-0.1+20250411.cu121.torch2.4-cp310-cp310-manylinux_2_28_x86_64.whl",
    url="../../files/x.whl",
    size=100,
    sha256="a" * 64,
    metadata_sha256="b" * 64,
    uploaded="2026-11-24T04:00:00Z",
    cell="cp310-torch2.4-cu121-linux_x86_64",
    torch="2.4.0+cu121",
    torch_git="e4ee3be4063b7c430974252fdf7db42273388d86",
    cxx11_abi=False,
    key="c" * 64,
    distribution="apex",
    version="0.1+20250411.cu121.torch2.4",
    build_tag=0,
    suffix="",
    ref="d" * 40,
    modules=(NORM, HOST),
    floors={"GLIBC": "2.28"},
    symbols_digest="e" * 64,
    requires=("packaging>20.6",),
)
ENVIRONMENT = Environment(
    interpreter=Interpreter(
        executable="/venv/bin/python",
        tag="cp310",
        version="3.10.13",
        platform="linux_x86_64",
        extension_suffix=".cpython-310-x86_64-linux-gnu.so",
        path=("/venv/lib",),
        purelib="/venv/lib",
    ),
    torch=Torch("/venv/lib/torch", "2.4.1+cu121", "f" * 40, "12.1", cxx11_abi=False),
    devices=Devices((Gpu((8, 9), "NVIDIA L4"),), "nvml", "550.54", (12, 4)),
    target="/venv/lib",
    glibc=(2, 36),
)
WISHES = Wishes(modules=("norm_cuda",))


def torch(**changes: Any) -> dict[str, Any]:
    return {"torch": replace(ENVIRONMENT.torch, **changes)}


def gpus(*capabilities: tuple[int, int], driver_cuda: tuple[int, int] = (12, 4)) -> dict[str, Any]:
    devices = Devices(tuple(map(Gpu, capabilities)), "nvml", "550.54", driver_cuda)
    return {"devices": devices}


def test_an_entry_of_the_same_minor_fits_another_patch_release() -> None:
    choice = pick([ENTRY], ENVIRONMENT, WISHES)
    assert choice.best == ENTRY
    assert choice.refusals == ()


@pytest.mark.parametrize(
    ("entry", "environment", "wishes", "reason"),
    [
        ({"cell": "cp311-torch2.4-cu121-linux_x86_64"}, {}, {}, "is for cp311, this is cp310"),
        ({"cell": "cp310-torch2.4-cu121-linux_aarch64"}, {}, {}, "is for linux_aarch64"),
        ({"cell": "cp310-torch2.5-cu121-linux_x86_64"}, {}, {}, "torch 2.5, this is 2.4.1"),
        ({}, torch(version="2.4.0a0+gitabc"), {}, "unreleased 2.4.0a0"),
        ({"cell": "cp310-torch2.4-cu124-linux_x86_64"}, {}, {}, "CUDA 12.4, this torch has 12.1"),
        ({"cxx11_abi": True}, {}, {}, "has the new C++ ABI, this torch the old one"),
        ({"floors": {"GLIBC": "2.38"}}, {}, {}, "needs glibc 2.38, this is 2.36"),
        ({"modules": (HOST,)}, {}, {}, "lacks norm_cuda"),
        ({}, gpus((8, 9), (7, 5)), {}, "no code for 7.5; it holds 8.0;9.0+PTX"),
        ({}, gpus((12, 0), driver_cuda=(12, 0)), {}, "no code for 12.0"),
        ({}, gpus((8, 0), driver_cuda=(11, 8)), {}, "runs up to 11.8: update the driver"),
        ({"variant": "sm80"}, gpus(), {}, "is for 8.0;9.0+PTX alone, and no GPU is visible"),
        ({"variant": "sm80"}, {}, {"plain_only": "others may share /x"}, "alone, and others may"),
        ({"yanked": "wrong results"}, {}, {}, "was yanked: wrong results"),
        ({}, {}, {"struck_out": ("a" * 64,)}, "was tried and failed"),
        ({}, {}, {"at_hand": frozenset("b" * 64)}, "is not in the cache, and no network"),
    ],
)
def test_each_refusal_has_its_reason(
    entry: dict[str, Any], environment: dict[str, Any], wishes: dict[str, Any], reason: str
) -> None:
    choice = pick(
        [replace(ENTRY, **entry)], replace(ENVIRONMENT, **environment), replace(WISHES, **wishes)
    )
    assert choice.best is None
    assert reason in choice.refusals[0].reason
    assert choice.nearest == choice.refusals[0]


def test_there_is_a_case_for_every_rule() -> None:
    cases = test_each_refusal_has_its_reason.pytestmark[0].args[1]
    assert len(cases) > len(RULES)


def test_an_unreleased_torch_fits_by_its_git_hash() -> None:
    environment = replace(
        ENVIRONMENT, **torch(version="2.4.0a0+nv24.05", git=ENTRY.torch_git, cxx11_abi=None)
    )
    assert pick([ENTRY], environment, WISHES).best == ENTRY


def test_every_refused_entry_is_named_and_the_nearest_is_the_one_with_fewest_reasons() -> None:
    far = replace(ENTRY, file="far.whl", cell="cp39-torch2.1-cu118-linux_x86_64")
    near = replace(ENTRY, file="near.whl", cell="cp311-torch2.4-cu121-linux_x86_64")
    choice = pick([far, near], ENVIRONMENT, WISHES)
    assert [refusal.file for refusal in choice.refusals] == ["near.whl", "far.whl"]
    assert choice.nearest is not None
    assert choice.nearest.file == "near.whl"


def test_no_visible_gpu_means_torch_alone_decides() -> None:
    assert pick([ENTRY], replace(ENVIRONMENT, **gpus()), WISHES).best == ENTRY


def test_machine_code_is_preferred_to_ptx() -> None:
    ptx = Module("norm_cuda", "norm_cuda.so", (), ("8.0",), ())
    jitted = replace(ENTRY, file="ptx.whl", size=1, modules=(ptx, HOST))
    assert pick([jitted, ENTRY], ENVIRONMENT, WISHES).best == ENTRY


def test_the_newer_build_is_preferred_then_the_smaller_file() -> None:
    rebuilt = replace(ENTRY, file="2.whl", build_tag=2, size=900)
    newer = replace(ENTRY, file="new.whl", version="0.1+20260101.cu121.torch2.4", size=900)
    smaller = replace(newer, file="small.whl", size=800)
    assert pick([ENTRY, rebuilt], ENVIRONMENT, WISHES).best == rebuilt
    assert pick([rebuilt, newer, smaller], ENVIRONMENT, WISHES).best == smaller


def variant(arch: str, **changes: Any) -> Entry:
    module = Module("norm_cuda", "norm_cuda.so", (arch,), (), ("libc10.so",))
    label = f"sm{arch.replace('.', '')}"
    file = ENTRY.file.replace(".whl", f"-{label}.whl")
    values = {"modules": (module, HOST), "size": 40, "variant": label, "file": file, **changes}
    return replace(ENTRY, sha256=label * 16, **values)


VARIANTS = (variant("8.0", size=39), variant("9.0"))


@pytest.mark.parametrize(
    ("capabilities", "taken"),
    [
        ([(8, 0)], "sm80"),
        ([(9, 0), (9, 0)], "sm90"),
        ([(8, 9)], "sm80"),
        ([(8, 0), (9, 0)], ""),
        ([(12, 0)], ""),
    ],
)
def test_the_smallest_wheel_that_covers_every_gpu_is_taken(
    capabilities: list[tuple[int, int]], taken: str
) -> None:
    environment = replace(ENVIRONMENT, **gpus(*capabilities))
    best = pick([ENTRY, *VARIANTS], environment, WISHES).best
    assert best is not None
    assert best.variant == taken


def test_nearer_machine_code_is_preferred_to_a_smaller_file() -> None:
    plain = replace(ENTRY, modules=(replace(NORM, machine_code=("8.0", "8.6", "9.0")), HOST))
    environment = replace(ENVIRONMENT, **gpus((8, 6)))
    assert pick([plain, *VARIANTS], environment, WISHES).best == plain
    nearest = variant("8.6", size=50)
    assert pick([plain, *VARIANTS, nearest], environment, WISHES).best == nearest


def test_an_older_builds_variant_is_not_preferred_to_a_newer_plain_wheel() -> None:
    rebuilt = replace(ENTRY, file="2.whl", build_tag=2, size=900)
    environment = replace(ENVIRONMENT, **gpus((9, 0)))
    assert pick([ENTRY, *VARIANTS, rebuilt], environment, WISHES).best == rebuilt


def test_more_modules_are_preferred() -> None:
    slim = replace(ENTRY, file="slim.whl", modules=(NORM,), build_tag=9)
    assert pick([slim, ENTRY], ENVIRONMENT, WISHES).best == ENTRY


def test_the_architectures_of_an_entry_are_those_of_all_its_device_modules() -> None:
    assert entry_architectures(ENTRY) == "8.0;9.0+PTX"
    assert entry_architectures(replace(ENTRY, modules=(HOST,))) == ""
