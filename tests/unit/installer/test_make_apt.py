"""A toolkit by apt: the right repository and packages, and only NVIDIA's own key."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from apex_installer import data
from apex_installer.deadline import Deadline
from apex_installer.errors import ToolkitError, TrustError
from apex_installer.get.cache import Cache, CacheLocation
from apex_installer.get.supply import Supply
from apex_installer.make import apt
from apex_installer.make.apt import AptPlan, fingerprint_of, install_by_apt, plan_apt
from apex_installer.make.pins import Apt, parse_pins

if TYPE_CHECKING:
    from pathlib import Path

CARRIED = parse_pins(data.read("toolkits.json") or "", where="toolkits.json").apt
JAMMY = 'PRETTY_NAME="Ubuntu 22.04.4 LTS"\nID=ubuntu\nVERSION_ID="22.04"\n'
BOOKWORM = "ID=debian\nVERSION_ID='12'\n"


def plan(os_release: str = JAMMY, cuda: str = "12.1", **changed: Any) -> AptPlan:
    facts = {"lacks_libraries": False, "is_root": True, **changed}
    return plan_apt(CARRIED, cuda=cuda, os_release=os_release, **facts)


def test_the_distributions_own_repository_and_few_packages() -> None:
    found = plan()
    assert found.repository.endswith("/repos/ubuntu2204/x86_64/")
    assert found.packages[:2] == ("cuda-nvcc-12-1", "cuda-cudart-dev-12-1")
    assert not any("libcublas" in name for name in found.packages)
    assert "libcublas-dev-12-1" in plan(lacks_libraries=True).packages


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"os_release": BOOKWORM}, "repository for debian12 has no CUDA 12.1 (but 12.4, "),
        ({"os_release": "ID=alpine\nVERSION_ID=3.20.1\n"}, "this is alpine3201"),
        ({"os_release": ""}, "this is ?"),
        ({"is_root": False}, "needs root"),
    ],
)
def test_what_apt_cannot_do_is_said_with_the_other_way(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(ToolkitError) as told:
        plan(**changed)
    assert says in str(told.value)
    assert str(told.value).endswith("leave --toolkit out, and the toolkit comes without apt")


def test_pins_without_a_repository_are_said() -> None:
    with pytest.raises(ToolkitError, match="names no repository"):
        plan_apt(None, cuda="12.1", os_release=JAMMY, lacks_libraries=False, is_root=True)


BODY = b"\x04" + bytes(range(256)) * 2
OLD = b"\x99" + len(BODY).to_bytes(2, "big") + BODY
PRINT = hashlib.sha1(OLD, usedforsecurity=False).hexdigest().upper()
NEW = b"\xc6" + bytes([((len(BODY) - 192) >> 8) + 192, (len(BODY) - 192) & 255]) + BODY


def armored(packet: bytes, *, head: str = "", end: str = "\n") -> bytes:
    lines = base64.encodebytes(packet + b"\x88\x00").decode()
    text = f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n{head}\n{lines}=abcd\n"
    return f"{text}-----END PGP PUBLIC KEY BLOCK-----\n".replace("\n", end).encode()


@pytest.mark.parametrize("packet", [OLD, NEW])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_fingerprint_is_that_of_rfc_4880(packet: bytes, end: str) -> None:
    assert fingerprint_of(armored(packet, head="Version: GnuPG v2\n", end=end)) == PRINT
    assert fingerprint_of(armored(packet, end=end)) == PRINT


@pytest.mark.parametrize("text", [b"", b"<html>", armored(b"\x88\x01x"), armored(b"")])
def test_what_is_no_key_is_refused(text: bytes) -> None:
    with pytest.raises(TrustError):
        fingerprint_of(text)


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, fingerprint: str) -> list[str]:
    """Calls of apt-get; the repository is a folder, apt's own folders are ours."""
    calls: list[str] = []
    monkeypatch.setattr(apt, "KEYRING", str(folder / "keyrings/key.asc"))
    monkeypatch.setattr(apt, "SOURCES", str(folder / "sources.list"))
    monkeypatch.setattr(apt, "_apt_get", lambda words, **_: calls.append(" ".join(words)))
    (folder / "repo").mkdir()
    (folder / "repo/key.pub").write_bytes(armored(OLD))
    location = CacheLocation(str(folder / "cache"), "", outlives_pod=False)
    install_by_apt(
        AptPlan(f"{(folder / 'repo').as_uri()}/", ("cuda-nvcc-12-1",)),
        Apt("https://x/", "key.pub", fingerprint, {}),
        supply=Supply(
            cache=Cache(location),
            deadline=Deadline(9),
            allow_http=False,
            offline=False,
            pypi_url="",
        ),
        folder=str(folder),
        log=str(folder / "log"),
        ends_at=0,
    )
    return calls


def test_it_updates_from_that_repository_alone_and_installs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, install_call = install(tmp_path, monkeypatch, PRINT)
    assert "Dir::Etc::SourceParts=-" in update
    assert install_call == "install -y --no-install-recommends cuda-nvcc-12-1"
    assert (
        f"signed-by={tmp_path}/keyrings/key.asc] file://" in (tmp_path / "sources.list").read_text()
    )


def test_another_key_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrustError, match=f"is key {PRINT}, pinned is {'0' * 40}"):
        install(tmp_path, monkeypatch, "0" * 40)
    assert not (tmp_path / "sources.list").exists()
    assert not (tmp_path / "keyrings").exists()
