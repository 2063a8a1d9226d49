"""Run a command and say what it cost: wall clock, CPU of the tree, memory; and on what machine."""

from __future__ import annotations

import ctypes
import datetime as dt
import os
import platform
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

NVML_SUCCESS = 0


@dataclass(frozen=True)
class Cost:
    """What one run cost."""

    seconds: float
    cpu_seconds: float
    """User and system time of the command and of every descendant that was waited for."""
    peak_mib: float
    """Largest resident set of any one process of the tree; Linux tells none below our own, which
    the child shares until it runs its program."""
    status: int

    def to_json(self) -> dict[str, Any]:
        return {name: round(value, 4) for name, value in asdict(self).items()}


def run_measured(
    command: Sequence[str | Path],
    *,
    environ: Mapping[str, str],
    cwd: Path | None = None,
    log: Path,
    timeout: float | None = None,
) -> Cost:
    """Run `command` to its end, output to `log`; a timeout ends its whole process group.

    Raises subprocess.CalledProcessError with the end of the log where the command fails.
    """
    argv = [str(word) for word in command]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        started = time.perf_counter()
        process = subprocess.Popen(
            argv,
            env=dict(environ),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        status, usage = _wait(process, timeout=timeout)
        seconds = time.perf_counter() - started
    if status:
        tail = log.read_text(errors="replace")[-2000:]
        raise subprocess.CalledProcessError(status, shlex.join(argv), output=tail)
    return Cost(
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mib=usage.ru_maxrss / 1024,
        status=status,
    )


@contextmanager
def watch_cores(*, every: float = 1.0) -> Iterator[list[float]]:
    """Cores of the whole machine that were busy, one figure per `every` seconds, while inside."""
    busy: list[float] = []
    over = threading.Event()

    def watch() -> None:
        before, at = _busy_seconds(), time.monotonic()
        while not over.wait(every):
            now, then = _busy_seconds(), time.monotonic()
            busy.append(round((now - before) / (then - at), 2))
            before, at = now, then

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield busy
    finally:
        over.set()
        watcher.join()


def _busy_seconds() -> float:
    """Seconds of all cores since boot that were not idle (proc(5), /proc/stat)."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]
    ticks = [int(word) for word in words]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK")


def _wait(process: subprocess.Popen[bytes], *, timeout: float | None) -> tuple[int, Any]:
    """wait4, which hands over the tree's usage; subprocess would keep it to itself."""
    end = threading.Timer(timeout or 0, os.killpg, (process.pid, signal.SIGKILL))
    if timeout is not None:
        end.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        end.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage


def summarize(costs: Sequence[Cost]) -> dict[str, Any]:
    """Median and spread of the seconds, the largest peak, and every run."""
    seconds = [cost.seconds for cost in costs]
    return {
        "median": round(statistics.median(seconds), 4),
        "min": round(min(seconds), 4),
        "max": round(max(seconds), 4),
        "peak_mib": round(max(cost.peak_mib for cost in costs), 1),
        "runs": [round(value, 4) for value in seconds],
    }


def describe_machine() -> dict[str, Any]:
    """Cores, processor, memory, system, GPU and driver; never a host's name."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": _system(),
        "linux": ".".join(platform.release().split("-")[0].split(".")[:2]),
        **read_gpu(),
    }


def describe_run() -> dict[str, Any]:
    """Date and command line, for the head of a result; paths are cut to their last part."""
    words = [Path(word).name if "/" in word and "://" not in word else word for word in sys.argv]
    return {
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "command": shlex.join(["python", f"benchmarks/{words[0]}", *words[1:]]),
        "machine": describe_machine(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _system() -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return platform.system()


def read_gpu() -> dict[str, str]:
    """Name and driver of the first GPU by NVML; empty where there is none."""
    text = ctypes.create_string_buffer(96)
    device = ctypes.c_void_p()
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        if nvml.nvmlInit_v2() != NVML_SUCCESS:
            return {}
    except OSError:
        return {}
    nvml.nvmlSystemGetDriverVersion(text, len(text))
    driver = text.value.decode()
    nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device))
    nvml.nvmlDeviceGetName(device, text, len(text))
    return {"gpu": text.value.decode(), "driver": driver}


def evict(paths: Iterable[Path]) -> None:
    """Drop the clean pages of these files, and of the files in these folders, from the page cache.

    Nothing else on the machine is disturbed; what another process has mapped stays.
    """
    for path in paths:
        files = [path] if path.is_file() else path.rglob("*")
        for file in files:
            if file.is_file() and not file.is_symlink():
                with file.open("rb") as stream:
                    os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def format_table(rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = [[str(cell) for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
