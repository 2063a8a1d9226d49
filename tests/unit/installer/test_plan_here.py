"""What a pod compiles is what the farm would: the same version, flags, requirements and key."""

from __future__ import annotations

import json

import pytest

from apex_installer.errors import CompileError
from apex_installer.make.plan_here import plan_compile
from apex_installer.model.environment import Devices, Environment, Gpu, Interpreter, Torch
from apex_installer.values import replace
from wheelbuild.data import load_data
from wheelbuild.plan import plan
from wheelbuild.thin_json import thin_recipe, toolkits_json

DATA = load_data(None)
RECIPE = thin_recipe(DATA.recipe)
TOOLKITS = json.loads(toolkits_json(DATA.toolkits))
GIT = 40 * "a"


def environment(torch: str, *, cuda: str, python: str, gpus: str, abi: bool) -> Environment:
    capabilities = [tuple(map(int, gpu.split("."))) for gpu in gpus.split()]
    return Environment(
        interpreter=Interpreter(
            executable="/usr/bin/python3",
            tag=python,
            version="3.10.0",
            platform="linux_x86_64",
            extension_suffix=".so",
            path=(),
            purelib="/site",
            libpython=None,
        ),
        torch=Torch(directory="/site/torch", version=torch, git=GIT, cuda=cuda, cxx11_abi=abi),
        devices=Devices(
            source="nvml", gpus=tuple(Gpu((major, minor)) for major, minor in capabilities)
        ),
        target="/site",
        glibc=(2, 36),
    )


HOPPER = environment("2.11.0+cu130", cuda="13.0", python="cp311", gpus="9.0", abi=True)
FIRST = environment("2.4.0+cu121", cuda="12.1", python="cp310", gpus="8.6 8.9", abi=False)


@pytest.mark.parametrize(
    ("pod", "cell", "words", "arch"),
    [
        (HOPPER, "cp311-torch2.11-cu130-linux_x86_64", ("norm",), "9.0"),
        (HOPPER, "cp311-torch2.11-cu130-linux_x86_64", ("FusedAdam",), "9.0"),
        (HOPPER, "cp311-torch2.11-cu130-linux_x86_64", ("default",), "9.0"),
        (FIRST, "cp310-torch2.4-cu121-linux_x86_64", ("norm",), "8.6;8.9"),
        (FIRST, "cp310-torch2.4-cu121-linux_x86_64", ("norm", "mlp_cuda"), "8.6;8.9"),
    ],
)
def test_it_is_the_farm_s_own_build(
    pod: Environment, cell: str, words: tuple[str, ...], arch: str
) -> None:
    wanted = plan_compile(RECIPE, pod, RECIPE.modules_for(words), TOOLKITS)
    (job,) = plan(DATA, cells=[cell], only=words, arch=arch)
    assert wanted.version == job.version
    assert (wanted.argv, wanted.environment) == (job.argv, job.environment)
    assert wanted.requires == job.requires
    assert wanted.architectures == job.architectures
    assert wanted.ref["commit"] == job.ref
    assert wanted.recipe_digest == job.recipe_digest
    assert wanted.key == job.key(GIT)


def test_each_gpu_counts_once() -> None:
    pod = replace(
        FIRST, devices=Devices(source="nvml", gpus=(Gpu((8, 9)), Gpu((8, 6)), Gpu((8, 9))))
    )
    wanted = plan_compile(RECIPE, pod, RECIPE.modules_for(()), TOOLKITS)
    assert wanted.architectures.text == "8.6;8.9"
    assert wanted.version.endswith(".norm.sm86.sm89")


@pytest.mark.parametrize(
    ("pod", "modules", "says"),
    [
        (replace(HOPPER, devices=Devices(source="nvml", gpus=())), ("amp_C",), "no GPU is visible"),
        (
            environment("1.13.0+cu117", cuda="11.7", python="cp310", gpus="8.0", abi=False),
            ("amp_C",),
            "no apex is known to compile for torch 1.13.0+cu117",
        ),
        (FIRST, ("nccl_p2p_cuda",), "25.04 has no nccl_p2p_cuda for CUDA 12.1: ask for less"),
    ],
)
def test_what_cannot_be_compiled_says_why(
    pod: Environment, modules: tuple[str, ...], says: str
) -> None:
    with pytest.raises(CompileError, match=says.replace("+", r"\+")):
        plan_compile(RECIPE, pod, modules, TOOLKITS)
