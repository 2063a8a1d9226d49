"""ELF files, asked as the loader asks: names, versions, relocations; damage ends in one error."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apex_installer.errors import CheckError
from apex_installer.read.elf import ElfFile
from apex_installer.read.elf_hash import gnu_hash, sysv_hash
from apex_installer.read.elf_versions import VersionNeed
from support.tiny_elf import TinyElf

STYLES = pytest.mark.parametrize("style", ["gnu", "sysv"])


def test_hashes_of_the_specifications() -> None:
    assert gnu_hash(b"printf") == 0x156B2BB8
    assert gnu_hash(b"") == 5381
    assert sysv_hash(b"printf") == 0x077905A6
    assert sysv_hash(b"GLIBC_2.2.5") == 0x09691A75


def test_what_a_file_says_of_itself(tmp_path: Path) -> None:
    made = TinyElf(soname="liba.so.1", needed=("libb.so", "libc.so"), runpath="$ORIGIN", rpath="/x")
    with ElfFile(str(made.write(tmp_path / "a"))) as elf:
        assert (elf.soname, elf.needed) == ("liba.so.1", ("libb.so", "libc.so"))
        assert elf.runpath == "$ORIGIN"
        assert elf.rpath is None, "DT_RUNPATH puts DT_RPATH out of force"
        assert elf.machine == 62
        assert not elf.has_symbol_versions


@STYLES
def test_definitions_are_found_and_undefined_ones_are_none(tmp_path: Path, style: str) -> None:
    made = TinyElf(defines=("here", "there"), undefined=("elsewhere",), hash_style=style)
    with ElfFile(str(made.write(tmp_path / "a"))) as elf:
        assert elf.defines("here")
        assert elf.defines("there")
        assert not elf.defines("elsewhere")
        assert not elf.defines("her")
        assert not elf.defines("nowhere")


def test_a_file_without_a_hash_table_defines_nothing(tmp_path: Path) -> None:
    data = bytearray(TinyElf(defines=("here",)).data())
    at = data.index((0x6FFFFEF5).to_bytes(8, "little"))
    data[at : at + 8] = (0x6000000D).to_bytes(8, "little")
    (tmp_path / "a").write_bytes(data)
    with ElfFile(str(tmp_path / "a")) as elf:
        assert not elf.defines("here")


@STYLES
def test_a_versioned_lookup_takes_that_version_or_an_unversioned_one(
    tmp_path: Path, style: str
) -> None:
    made = TinyElf(defines=("f@V_1", "g@V_2", "h"), hash_style=style)
    with ElfFile(str(made.write(tmp_path / "a"))) as elf:
        assert elf.defines("f", "V_1")
        assert not elf.defines("f", "V_2")
        assert elf.defines("h", "V_1"), "the base version stands for all"
        assert elf.defines("g"), "without a version the only one is taken"


def test_a_versioned_lookup_in_a_file_without_versions_is_answered(tmp_path: Path) -> None:
    with ElfFile(str(TinyElf(defines=("f",)).write(tmp_path / "a"))) as elf:
        assert elf.defines("f", "V_1")


def test_a_stated_hash_that_is_not_the_text_s_finds_nothing(tmp_path: Path) -> None:
    with ElfFile(str(TinyElf(defines=("f@V_1",)).write(tmp_path / "a"))) as elf:
        assert elf.defines("f", "V_1", sysv_hash(b"V_1"))
        assert not elf.defines("f", "V_1", 12345)


def test_two_versions_of_one_name_are_ambiguous_without_one(tmp_path: Path) -> None:
    made = TinyElf(defines=("g@V_0", "f@V_1", "f@V_2"))
    with ElfFile(str(made.write(tmp_path / "a"))) as elf:
        assert elf.defines("g"), "the first version is older than all"
        assert not elf.defines("f")
        assert elf.defines("f", "V_2")


def test_version_needs(tmp_path: Path) -> None:
    user = TinyElf(undefined=("f@V_1:liba.so",), needs=("V_9:liba.so",)).write(tmp_path / "user")
    versioned = TinyElf(defines=("f@V_1",)).write(tmp_path / "liba")
    plain = TinyElf(defines=("f",)).write(tmp_path / "plain")
    with ElfFile(str(user)) as elf, ElfFile(str(versioned)) as a, ElfFile(str(plain)) as b:
        one, nine = elf.version_needs
        assert (one.library, one.version, one.weak) == ("liba.so", "V_1", False)
        assert a.satisfies(one)
        assert not a.satisfies(nine)
        assert a.satisfies(nine._replace(weak=True))
        assert not a.satisfies(VersionNeed("liba.so", "V_1", one.hash ^ 1, weak=False))
        assert b.satisfies(nine), "a file without versions satisfies every need"


def test_only_relocated_symbols_are_looked_up(tmp_path: Path) -> None:
    made = TinyElf(
        undefined=("f@V_1:liba.so", "g"), weak=("w",), never_looked_up=("n",), defines=("own",)
    )
    with ElfFile(str(made.write(tmp_path / "a"))) as elf:
        looked_up = {(one.name, one.version, one.library, one.weak) for one in elf.references()}
        assert looked_up == {
            ("f", "V_1", "liba.so", False),
            ("g", None, None, False),
            ("w", None, None, True),
        }
        assert {one.name for one in elf.undefined()} == {"f", "g", "w", "n"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"#!/bin/sh\n", "is not an ELF file"),
        (b"\x7fELF" + bytes(200), "is not a 64-bit little-endian ELF file"),
        (TinyElf(soname="a").data()[:120], "is cut short"),
    ],
    ids=["empty", "script", "other class", "cut"],
)
def test_what_is_no_sane_elf_file_is_refused_with_its_path(
    tmp_path: Path, data: bytes, words: str
) -> None:
    (tmp_path / "bad.so").write_bytes(data)
    with pytest.raises(CheckError, match=rf"bad\.so: {words}"):
        ElfFile(str(tmp_path / "bad.so"))


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.integers(0, 1500), value=st.binary(min_size=1, max_size=9), cut=st.integers(0, 900))
def test_damage_ends_in_an_answer_or_in_check_error(
    tmp_path: Path, at: int, value: bytes, cut: int
) -> None:
    made = TinyElf(soname="a", needed=("b",), defines=("f@V_1", "h"), undefined=("g@V_2:b",))
    data = bytearray(made.data())
    data[at % len(data) : at % len(data) + len(value)] = value
    path = tmp_path / "damaged.so"
    path.write_bytes(data[: len(data) - (cut if cut < 300 else 0)])
    try:
        with ElfFile(str(path)) as elf:
            elf.defines("f", "V_1")
            elf.defines("g")
            _ = elf.references(), elf.undefined(), elf.needed, elf.soname, elf.version_needs
    except CheckError as error:
        assert str(path) in str(error)  # noqa: PT017 - it may also be sound


def test_forgotten_pages_count_no_longer_and_are_read_again(tmp_path: Path) -> None:
    path = TinyElf(defines=("here",)).write(tmp_path / "a")
    path.write_bytes(path.read_bytes() + bytes(1 << 20))
    with ElfFile(str(path)) as elf:
        assert elf.data[:]
        assert resident_kib(path) >= 1024
        elf.forget_pages()
        assert resident_kib(path) == 0
        assert elf.defines("here")


def test_the_system_reads_no_more_of_a_file_than_is_asked_for(tmp_path: Path) -> None:
    """A lookup touches a page here and there; around each, megabytes would be read."""
    path = TinyElf(defines=("here",)).write(tmp_path / "a")
    with ElfFile(str(path)):
        (mapping,) = mappings(path)
        assert "rr" in mapping.split("VmFlags:")[1].splitlines()[0].split()  # MADV_RANDOM


def resident_kib(path: Path) -> int:
    """Of this process's mappings of a file."""
    return sum(int(one.split("Rss:")[1].split()[0]) for one in mappings(path))


def mappings(path: Path) -> list[str]:
    """What /proc/self/smaps says of each mapping of a file."""
    return Path("/proc/self/smaps").read_text(encoding="utf-8").split(f"{path}\n")[1:]
