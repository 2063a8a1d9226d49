"""What can go wrong while a wheel is downloaded: right bytes, or none, and in time."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from typing import TYPE_CHECKING

import pytest

from apex_installer.deadline import Deadline
from apex_installer.errors import DeadlineError, DownloadError, InstallError, TrustError
from apex_installer.get import part as part_module
from apex_installer.get.http import Fetcher
from support import fault_server as faults
from support.fault_server import FaultServer

if TYPE_CHECKING:
    from pathlib import Path

BODY = os.urandom(300_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
OTHER = b"x" * len(BODY)


def download(
    into: Path, handler: faults.Handler, *, seconds: float = 5, size: int = len(BODY)
) -> tuple[int, list[str]]:
    """Bytes fetched, and the Range headers that were sent."""
    with (
        FaultServer({"/w.whl": handler}) as server,
        Fetcher(allow_http=False, deadline=Deadline(seconds), pause=lambda _: None) as fetcher,
    ):
        count = fetcher.download(f"{server.url}/w.whl", str(into), sha256=SHA256, size=size)
        spans = [
            line.partition(": ")[2].strip()
            for head in server.heads
            for line in head.splitlines()
            if line.startswith("Range")
        ]
        return count, spans


GOOD = {
    "plain": (faults.answer(BODY), []),
    "chunked": (faults.chunked(BODY, size=65_000), []),
    "no-length": (faults.unannounced(BODY), []),
    "cut-off-then-continued": (faults.ranges(BODY, cut_after=100_000), ["bytes=100000-"]),
    "cut-off-ranges-ignored": (
        faults.then(faults.truncated(BODY[:1000], announced=len(BODY)), faults.answer(BODY)),
        ["bytes=1000-"],
    ),
    "range-not-satisfiable": (
        faults.then(
            faults.truncated(BODY[:1000], announced=len(BODY)),
            faults.status("416 Range Not Satisfiable"),
            faults.answer(BODY),
        ),
        ["bytes=1000-"],
    ),
    "reset-then-well": (
        faults.then(faults.reset_after(b"", announced=len(BODY)), faults.answer(BODY)),
        [],
    ),
}


@pytest.mark.parametrize(("handler", "spans"), GOOD.values(), ids=GOOD)
def test_is_downloaded(handler: faults.Handler, spans: list[str], tmp_path: Path) -> None:
    into = tmp_path / "w.part"
    assert download(into, handler) == (pytest.approx(len(BODY), abs=1000), spans)
    assert into.read_bytes() == BODY


def test_a_wrong_continuation_is_fetched_anew(tmp_path: Path) -> None:
    (tmp_path / "w.part").write_bytes(BODY[:5000])
    lying = faults.then(faults.ranges(BODY, offset=1), faults.answer(BODY))
    count, spans = download(tmp_path / "w.part", lying)
    assert (count, spans) == (len(BODY), ["bytes=5000-"])
    assert (tmp_path / "w.part").read_bytes() == BODY


@pytest.mark.parametrize(
    ("left", "fetched"),
    [
        (BODY[:123_456], len(BODY) - 123_456),
        (BODY, 0),
        (b"x" * 1000, len(BODY) + len(BODY) - 1000),
        (OTHER, len(BODY)),
        (OTHER + b"more", len(BODY)),
        (b"", len(BODY)),
    ],
    ids=["begun", "complete", "begun-wrong", "wrong", "too-long", "empty"],
)
def test_what_an_earlier_run_left(left: bytes, fetched: int, tmp_path: Path) -> None:
    (tmp_path / "w.part").write_bytes(left)
    assert download(tmp_path / "w.part", faults.ranges(BODY))[0] == fetched
    assert (tmp_path / "w.part").read_bytes() == BODY


BAD: dict[str, tuple[faults.Handler, type[InstallError], str]] = {
    "404": (faults.status("404 Not Found"), DownloadError, "not there"),
    "wrong-bytes": (faults.answer(OTHER), TrustError, f"sha256 is .*, the index says {SHA256}"),
    "wrong-size": (faults.answer(BODY[:-1]), TrustError, "is 299999 bytes, the index says 300000"),
    "too-long": (faults.answer(BODY + b"x"), TrustError, "is 300001 bytes, the index says"),
    "too-long-unannounced": (faults.unannounced(BODY + b"x"), TrustError, "longer than the 300000"),
    "too-short-unannounced": (faults.unannounced(BODY[:-1]), TrustError, "is 299999 bytes"),
    "endless": (faults.endless(), TrustError, "longer than the 300000 bytes"),
    "sign-in-page": (faults.answer(b"<html>Sign in</html>"), TrustError, "is 20 bytes"),
    "other-range-total": (
        faults.then(
            faults.truncated(BODY[:10], announced=len(BODY)),
            faults.raw(
                b"HTTP/1.1 206 P\r\nContent-Length: 5\r\nContent-Range: bytes 10-14/15\r\n\r\n12345"
            ),
        ),
        TrustError,
        "is 15 bytes, the index says",
    ),
}


@pytest.mark.parametrize(("handler", "error", "says"), BAD.values(), ids=BAD)
def test_is_refused_and_leaves_nothing(
    handler: faults.Handler, error: type[InstallError], says: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says) as caught:
        download(tmp_path / "w.part", handler)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_was_had_in_time_is_left_for_the_next_run(tmp_path: Path) -> None:
    slow = faults.drip(BODY, seconds=0.02)
    started = time.monotonic()
    with pytest.raises(DeadlineError):
        download(tmp_path / "w.part", slow, seconds=0.5)
    assert time.monotonic() - started < 10
    had = (tmp_path / "w.part").read_bytes()
    assert had
    assert BODY.startswith(had)


def test_many_cuts_with_progress_are_continued(tmp_path: Path) -> None:
    def a_little(request: faults.Request) -> None:
        start = int((request.header("Range") or "bytes=0-")[6:-1])
        span = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
        request.send_head("206 P", Content_Length=len(BODY) - start, Content_Range=span)
        request.send(BODY[start : start + 20_000])

    (tmp_path / "w.part").write_bytes(BODY[:1])
    count, spans = download(tmp_path / "w.part", a_little)
    assert count == len(BODY) - 1
    assert len(spans) == 15


def test_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(BODY)
    with Fetcher(allow_http=False, deadline=Deadline(5)) as fetcher:
        for sha256, size, says in [
            (SHA256, len(BODY), None),
            ("0" * 64, len(BODY), "sha256 is"),
            (SHA256, 7, "is 300000 bytes, the index says 7"),
        ]:
            into, url = tmp_path / "into", f"file://{tmp_path}/source"
            if says is None:
                assert fetcher.download(url, str(into), sha256=sha256, size=size) == len(BODY)
                assert into.read_bytes() == BODY
                into.unlink()
            else:
                with pytest.raises(TrustError, match=says):
                    fetcher.download(url, str(into), sha256=sha256, size=size)
                assert not into.exists()


def test_no_room_is_said_before_anything_is_fetched(tmp_path: Path) -> None:
    huge = 1 << 60
    with (
        FaultServer({"/w.whl": faults.answer(BODY)}) as server,
        Fetcher(allow_http=False, deadline=Deadline(5)) as fetcher,
        pytest.raises(DownloadError, match=r"no disk: .* MB for .*/w.whl; free some"),
    ):
        fetcher.download(f"{server.url}/w.whl", str(tmp_path / "p"), sha256=SHA256, size=huge)
    assert server.requests == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_that_fills_up(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if os.fstat(fd).st_size > 100_000:
            raise OSError(code, os.strerror(code))
        return write(fd, data)

    monkeypatch.setattr(part_module.os, "write", full)
    with pytest.raises(DownloadError, match=r"cannot write .*p: .*; free some space"):
        download(tmp_path / "p", faults.answer(BODY))
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "p").symlink_to(victim)
    with pytest.raises(DownloadError, match="cannot write"):
        download(tmp_path / "p", faults.answer(BODY))
    assert victim.read_text() == "precious"
