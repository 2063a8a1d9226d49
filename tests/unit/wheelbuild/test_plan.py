from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from apex_installer.model.arch import Architectures
from apex_installer.model.entry import Entry
from support.farm_data import NEW, small_data
from wheelbuild.data import FarmData, load_data
from wheelbuild.errors import UsageError
from wheelbuild.plan import Job, make_plan, plan

FIRST, SECOND, THIRD = (
    "cp310-torch2.4-cu121-linux_x86_64",
    "cp311-torch2.11-cu130-linux_x86_64",
    "cp312-torch2.11-cu130-linux_x86_64",
)
TORCH_GIT = "c" * 40


@pytest.fixture
def data(tmp_path: Path) -> FarmData:
    return small_data(tmp_path)


def publish(job: Job, **changes: Any) -> Entry:
    """An entry as the index would hold it after this job."""
    entry = Entry(
        file=f"{job.distribution}-{job.version}-{job.cell.python}.whl",
        url="x",
        size=1,
        sha256="0" * 64,
        metadata_sha256="0" * 64,
        uploaded="2026-11-24T04:00:00Z",
        cell=job.cell.label,
        torch=job.torch,
        torch_git=TORCH_GIT,
        cxx11_abi=job.cxx11_abi,
        key=job.key(TORCH_GIT),
        distribution=job.distribution,
        version=job.version,
        build_tag=job.build_tag,
        suffix=job.suffix,
        ref=job.ref,
        modules=(),
        floors={},
        symbols_digest="",
        requires=job.requires,
    )
    return replace(entry, **changes)


def test_every_wanted_cell_in_the_order_of_the_matrix(data: FarmData) -> None:
    jobs = plan(data)
    assert [job.cell.label for job in jobs] == [FIRST, SECOND, THIRD]
    assert [job.version for job in jobs] == [
        "0.1+20240428.cu121.torch2.4",
        "0.1+20260707.cu130.torch2.11",
        "0.1+20260707.cu130.torch2.11",
    ]


def test_a_job_says_all_that_a_build_needs(data: FarmData) -> None:
    job = plan(data, cells=[FIRST])[0]
    assert (job.torch_release, job.torch) == ("2.4.0", "2.4.0+cu121")
    assert (job.policy, job.cxx11_abi) == ("manylinux_2_17", False)
    assert job.requires == ("torch==2.4.*", "numpy<2")
    assert job.modules == ("norm_cuda", "plain_c")
    assert job.architectures.text == "8.0;9.0+PTX"
    assert (job.argv, job.environment) == (("--cpp_ext", "--cuda_ext"), {})
    assert job.cpu_seconds == 150.5
    assert (job.build_tag, job.suffix) == (0, "")
    assert job.why == "the first"


def test_a_ref_that_takes_variables_gets_variables(data: FarmData) -> None:
    job = plan(data, cells=[SECOND], only=["norm"])[0]
    assert (job.argv, job.environment) == ((), {"APEX_CUDA_EXT": "1"})
    assert (job.ref, job.requires) == (NEW, ("torch==2.11.*",))


# --- versions


SUFFIXES = {
    "nothing asked": ([], None, ""),
    "default": (["default"], None, ""),
    "group": (["norm"], None, "norm"),
    "class": (["FusedRMSNorm"], None, "norm"),
    "module of no group": (["plain_c"], None, "only07ea8277"),
    "more than the default": (["core", "extra"], None, ""),
    "group beside the default": (["extra"], None, "extra"),
    "architecture": ([], "9.0", "sm90"),
    "both": (["norm"], "9.0", "norm.sm90"),
    "with PTX": ([], "8.0;9.0+PTX", "sm80.sm90.ptx90"),
    "the cell's own": ([], "12.0+PTX 9.0 8.0", ""),
}


@pytest.mark.parametrize(("only", "arch", "suffix"), SUFFIXES.values(), ids=SUFFIXES)
def test_less_than_the_whole_is_in_the_version(
    data: FarmData, only: list[str], arch: str | None, suffix: str
) -> None:
    job = plan(data, cells=[SECOND], only=only, arch=arch)[0]
    assert job.suffix == suffix
    assert job.version == "0.1+20260707.cu130.torch2.11" + (f".{suffix}" if suffix else "")
    assert str(Version(job.version)) == job.version


def test_other_modules_have_another_version(data: FarmData) -> None:
    suffixes = {plan(data, cells=[SECOND], only=only)[0].suffix
                for only in (["plain_c"], ["plain_c", "extra_cuda"])}  # fmt: skip
    assert len(suffixes) == 2
    assert all(re.fullmatch("only[0-9a-f]{8}", suffix) for suffix in suffixes)


# --- refusals


def test_an_excluded_cell_is_refused_with_the_reason_of_the_matrix(data: FarmData) -> None:
    with pytest.raises(UsageError) as caught:
        plan(data, cells=["cp313t-torch2.11-cu130"])
    assert str(caught.value) == (
        "cp313t-torch2.11-cu130: excluded by matrix.toml: no modules without the GIL"
    )
    assert caught.value.exit_code == 2


def test_every_unknown_cell_is_named_with_the_nearest(data: FarmData) -> None:
    with pytest.raises(UsageError) as caught:
        plan(data, cells=["cp310-torch2.5-cu121", FIRST, "nonsense"])
    first, second = str(caught.value).splitlines()
    assert first.startswith("cp310-torch2.5-cu121: matrix.toml has no such cell; near: cp310-")
    assert second.startswith("nonsense: matrix.toml has no such cell; wheelbuild matrix")


def test_an_unknown_word_is_refused_with_the_nearest(data: FarmData) -> None:
    with pytest.raises(UsageError, match="--only FusedRMSNrom: unknown; near: FusedRMSNorm"):
        plan(data, only=["FusedRMSNrom"])


def test_a_module_that_the_ref_lacks_is_refused(data: FarmData) -> None:
    with pytest.raises(UsageError, match=r"--only: old has no extra_cuda for CUDA 12\.1"):
        plan(data, cells=[FIRST], only=["extra"])


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        ("12.0", "nvcc of CUDA 12.1 makes no code for 12.0"),
        ("sm_90", "'sm_90' is not an architecture"),
        ("8.0+PTX;9.0", "PTX of 8.0 is below the machine code of 9.0"),
    ],
    ids=["unknown to nvcc", "no architecture", "PTX below"],
)
def test_an_architecture_that_makes_no_sense_is_refused(
    data: FarmData, arch: str, said: str
) -> None:
    with pytest.raises(UsageError, match="--arch") as caught:
        plan(data, cells=[FIRST], arch=arch)
    assert said in str(caught.value)


# --- naming cells


@pytest.mark.parametrize(
    ("named", "found"),
    [
        (["cp310-torch2.4-cu121"], [FIRST]),
        ([THIRD, FIRST, FIRST], [FIRST, THIRD]),
        (["cp311"], [SECOND]),
        (["cp312-torch2.11"], [THIRD]),
    ],
    ids=["without platform", "order and once", "beginning", "two parts"],
)
def test_cells_are_named(data: FarmData, named: list[str], found: list[str]) -> None:
    assert [job.cell.label for job in plan(data, cells=named)] == found


def test_a_beginning_is_of_whole_parts(data: FarmData) -> None:
    """`torch2.1` would else be a beginning of `torch2.11`."""
    with pytest.raises(UsageError, match="no such cell"):
        plan(data, cells=["cp311-torch2.1"])


# --- what is published


def test_what_is_fresh_is_not_built(data: FarmData) -> None:
    first, *rest = plan(data)
    planned = make_plan(data, [publish(first)])
    assert [job.cell.label for job in planned.jobs] == [job.cell.label for job in rest]
    assert [job.cell.label for job in planned.fresh] == [FIRST]


def test_force_builds_what_is_fresh_with_the_next_tag(data: FarmData) -> None:
    first = plan(data, cells=[FIRST])[0]
    assert plan(data, [publish(first)], cells=[FIRST], force=True)[0].build_tag == 2


def test_another_key_takes_the_next_tag_after_the_highest(data: FarmData) -> None:
    first = plan(data, cells=[FIRST])[0]
    older = publish(first, key="0" * 64, build_tag=4)
    again = plan(data, [older, publish(first)], cells=[FIRST])
    assert [job.build_tag for job in again] == [5]


def test_only_the_newest_of_a_cell_and_version_counts(data: FarmData) -> None:
    """An older build of the same key was replaced for a reason."""
    first = plan(data, cells=[FIRST])[0]
    newer = publish(first, build_tag=2)
    assert plan(data, [publish(first, key="0" * 64), newer], cells=[FIRST]) == ()


@pytest.mark.parametrize(
    "changes",
    [{"cell": SECOND}, {"version": "0.1+20240428.cu121.torch2.4.sm90"}, {"distribution": "apex2"}],
    ids=["cell", "version", "distribution"],
)
def test_entries_of_another_cell_version_or_package_do_not_count(
    data: FarmData, changes: dict[str, str]
) -> None:
    first = plan(data, cells=[FIRST])[0]
    assert plan(data, [publish(first, **changes)], cells=[FIRST])[0].build_tag == 0


def test_a_suffixed_job_is_fresh_by_itself(data: FarmData) -> None:
    job = plan(data, cells=[FIRST], only=["norm"])[0]
    assert plan(data, [publish(job)], cells=[FIRST], only=["norm"]) == ()
    assert plan(data, [publish(job)], cells=[FIRST]) != ()


def test_a_torch_of_another_release_is_another_build(data: FarmData, tmp_path: Path) -> None:
    first = plan(data, cells=[FIRST])[0]
    newer = small_data(tmp_path / "n", ("matrix.toml", 'release = "2.4.0"', 'release = "2.4.1"'))
    assert plan(newer, [publish(first)], cells=[FIRST])[0].build_tag == 2


def test_the_first_cell_of_our_own_matrix() -> None:
    job = plan(load_data())[0]
    assert job.version == "0.1+20250411.cu121.torch2.4"
    assert job.ref == "e13873debc4699d39c6861074b9a3b2a02327f92"
    assert job.architectures == Architectures.parse("8.0;8.6;8.9;9.0+PTX")
    assert len(job.modules) == 12
    assert job.requires == ("torch==2.4.*", "packaging>20.6", "numpy")
    assert job.argv == ("--cpp_ext", "--cuda_ext")


def test_every_cell_of_our_own_matrix_has_a_job() -> None:
    data = load_data()
    assert len(plan(data)) == len(data.matrix.rows)


VARIANTS = ("matrix.toml", 'pythons = ["cp310"]\nwhy', 'pythons = ["cp310"]\nvariants = true\nwhy')


def test_the_matrix_asks_for_variants(tmp_path: Path) -> None:
    first, second, _ = plan(small_data(tmp_path, VARIANTS))
    assert first.variants == first.architectures.machine_code != ()
    assert second.variants == ()


def test_a_variant_makes_no_cell_fresh_and_a_lacking_one_makes_a_job(tmp_path: Path) -> None:
    data = small_data(tmp_path, VARIANTS)
    (job,) = plan(data, cells=[FIRST])
    labels = [f"sm{arch.replace('.', '')}" for arch in job.variants]
    variants = [publish(job, variant=label, key="v" * 64) for label in labels]
    assert make_plan(data, variants, cells=[FIRST]).jobs == (job,)
    plain = publish(job)
    assert make_plan(data, [plain, *variants], cells=[FIRST]).fresh == (job,)
    (again,) = make_plan(data, [plain, *variants[1:]], cells=[FIRST]).jobs
    assert again == job
    tagged = [replace(one, build_tag=3) for one in (plain, *variants[1:])]
    (again,) = make_plan(data, tagged, cells=[FIRST]).jobs
    assert again.build_tag == 3
