"""Variants on their way through the steps: where they lie, in which order, how one fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from apex_installer.model.environment import Devices, Gpu
from support.index_wheels import CellWheel, write_cell_wheel
from support.jobs import make_job, make_request
from wheelbuild import made, run, test
from wheelbuild.build import BuildOptions, list_variants, place_variants, read_request
from wheelbuild.errors import TestError
from wheelbuild.made import make_cell, publish_made, read_made, wheels_of
from wheelbuild.run import RunOptions, run_cells
from wheelbuild.stamp import write_evidence
from wheelbuild.stores.directory import DirectoryStore
from wheelbuild.test import can_run_here

if TYPE_CHECKING:
    from wheelbuild.made import Made

LABELS = ("sm80", "sm90")


def test_each_variant_gets_a_work_folder_that_says_what_it_is(tmp_path: Path) -> None:
    request = make_request(architectures="8.0;9.0+PTX", variants=("8.0", "9.0"))
    stale = tmp_path / "variants/sm75/built/old.whl"
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    for arch in request.variants:
        left = tmp_path / "job/work/variants" / arch
        left.mkdir(parents=True)
        (left / "apex.whl").write_text(arch)
    place_variants(tmp_path, request=request)
    found = list_variants(tmp_path / "built/apex.whl")
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "variants/sm80/built/apex.whl",
        "variants/sm90/built/apex.whl",
    ]
    assert found[1].read_text() == "9.0"
    own = read_request(found[1].parents[1] / "job/job.json")
    assert (own.architectures, own.variant, own.variants) == ("9.0", "sm90", ())
    assert (own.version, own.build_tag, own.record) == (request.version, 0, request.record)


@pytest.mark.parametrize(
    ("gpus", "variant", "runs"),
    [
        (["9.0"], "sm90", True),
        (["8.9"], "sm80", True),
        (["9.0"], "sm80", False),
        (["9.0", "8.0"], "sm90", False),
        ([], "sm90", False),
        ([], "", True),
    ],
)
def test_a_variant_is_run_on_the_gpus_that_it_is_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: list[str], variant: str, runs: bool
) -> None:
    here = tuple(Gpu((int(one[0]), int(one[2]))) for one in gpus)
    monkeypatch.setattr(test, "read_devices", lambda **_: Devices(here, "nvml", "580.1", (13, 0)))
    entry = write_cell_wheel(tmp_path, variant=variant).entry
    assert can_run_here(entry, environ={}) is runs


class Workplace:
    """Steps that are done already: each stamped wheel is made before, and `bad` fails its test."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        wheels = [write_cell_wheel(folder / "made", variant=label) for label in ("", *LABELS)]
        self.wheels: dict[Path, CellWheel] = {one.path: one for one in wheels}
        self.bad = ""
        self.folder = folder
        plain, *others = self.wheels
        patch.setattr(run, "build_cell", lambda *_, **__: plain)
        patch.setattr(run, "list_variants", lambda _: tuple(others))
        patch.setattr(run, "find_request", self._request)
        patch.setattr(run, "repair_wheel", lambda wheel, **_: wheel)
        patch.setattr(run, "stamp_wheel", lambda wheel, **_: wheel)
        patch.setattr(run, "run_test", self._test)
        for module in (run, made):
            patch.setattr(module, "entry_of", self._entry)

    @property
    def options(self) -> RunOptions:
        build = BuildOptions(cache=self.folder, work=self.folder)
        return RunOptions(build=build, store=self.store)

    @property
    def store(self) -> DirectoryStore:
        return DirectoryStore(self.folder / "index")

    @property
    def published(self) -> set[str]:
        return {entry.variant for entry in self.store.entries()}

    def _request(self, wheel: Path) -> Any:
        return make_request(variant=self.wheels[wheel].entry.variant)

    def _test(self, wheel: Path, **_: Any) -> None:
        if self.wheels[wheel].entry.variant == self.bad != "":
            raise TestError("import fails")
        write_evidence(wheel, {"gpu": "untested"})

    def _entry(self, wheel: Path) -> Any:
        entry = next(one.entry for one in self.wheels.values() if one.path.name == wheel.name)
        return replace(entry)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    return Workplace(tmp_path, monkeypatch)


def run_one(place: Workplace) -> tuple[str, str, str]:
    (result,) = run_cells([make_job()], data=None, options=place.options)  # type: ignore[arg-type]
    return result.state, result.step, result.said


def test_a_run_publishes_all_and_a_second_one_nothing(place: Workplace) -> None:
    plain = next(iter(place.wheels)).name
    assert run_one(place) == ("published", "publish sm90", f"{plain} and sm80, sm90")
    assert place.published == {"", *LABELS}
    assert run_one(place)[0] == "already"


def test_a_variant_that_fails_takes_nothing_from_the_plain_wheel(place: Workplace) -> None:
    place.bad = "sm80"
    assert run_one(place) == ("failed", "test sm80", "import fails")
    assert place.published == {""}
    place.bad = ""
    assert run_one(place)[0] == "published"
    assert place.published == {"", *LABELS}


def make_one(place: Workplace) -> Made:
    return make_cell(make_job(), data=None, options=place.options, out=place.folder / "out")  # type: ignore[arg-type]


def test_what_is_made_elsewhere_is_published_plain_wheel_first(place: Workplace) -> None:
    one = make_one(place)
    assert (one.state, one.gpu) == ("made", "untested")
    assert read_made(place.folder / "out") == (one,)
    wheels = wheels_of(one, out=place.folder / "out")
    assert [path.name for path in wheels] == [path.name for path in place.wheels]
    for state in ("published", "already"):
        (ended,) = publish_made([one], out=place.folder / "out", store=place.store, force=False)
        assert (ended.state, ended.said) == (state, one.said)
    assert place.published == {"", *LABELS}


def test_a_cell_whose_variant_fails_is_not_made(place: Workplace) -> None:
    place.bad = "sm90"
    one = make_one(place)
    assert (one.state, one.step, one.said) == ("failed", "test sm90", "import fails")
