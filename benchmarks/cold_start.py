"""From process start to importable files, on loopback: apex-install, pip, uv, and curl + unzip.

Every timed run starts with empty caches of its own and a fresh environment; the page cache is warm
(one untimed run goes first), and the same with evicted pages stands beside it. `already` is a
second start on what the first installed, peak memory the largest of any process.

    python benchmarks/cold_start.py --torch SITE_PACKAGES --zipapp apex-install.pyz \\
        --index FOLDER --slim WHEEL --readme WHEEL --out benchmarks/results/cold_start
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import Cost, describe_run, evict, format_table, run_measured, summarize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LIMITS = {  # ours over uv's
    "apex-install, slim wheel / uv, README wheel": 0.35,
    "apex-install, slim wheel / uv, slim wheel": 1.5,
}
ALREADY_LIMIT_MS, PEAK_LIMIT_MIB = 100, 45
PIP_FLAGS = ("--no-deps", "--disable-pip-version-check", "--no-input", "-q")
UV_FLAGS = ("--no-deps", "--no-config", "-q")


@dataclass(frozen=True)
class Place:
    """One run's own folders."""

    venv: Path
    cache: Path
    log: Path

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        return next((self.venv / "lib").glob("python3.*")) / "site-packages"

    def environ(self) -> dict[str, str]:
        """No settings of the caller's, every cache in this run's folder."""
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        own = {"PIP_CACHE_DIR": "pip", "UV_CACHE_DIR": "uv", "XDG_CACHE_HOME": "xdg"}
        temporary = self.cache / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        return {
            **keep,
            **{name: str(self.cache / folder) for name, folder in own.items()},
            "PIP_CONFIG_FILE": os.devnull,
            "TMPDIR": str(temporary),
            "VIRTUAL_ENV": str(self.venv),
        }


@dataclass(frozen=True)
class Contestant:
    """A tool and the wheel that it installs."""

    name: str
    command: Callable[[Place], Sequence[str | Path]]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback from a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    command += ["--protocol", "HTTP/1.1", "--directory", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _wait_for(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SystemExit("the loopback server did not start")


def build_contestants(arguments: argparse.Namespace, url: str) -> list[Contestant]:
    """Who takes part: what is missing on this machine (curl, unzip) is left out."""
    readme, slim = (
        f"{url}/{label}/{wheel.name}"
        for label, wheel in (("readme", arguments.readme), ("slim", arguments.slim))
    )
    found = [Contestant("apex-install, slim wheel", zipapp_command(arguments, url))]
    for label, wheel in (("README wheel", readme), ("slim wheel", slim)):
        found.append(Contestant(f"uv, {label}", uv_command(arguments, wheel)))
        found.append(Contestant(f"pip, {label}", pip_command(wheel)))
        if shutil.which("curl") and shutil.which("unzip"):
            found.append(Contestant(f"curl + unzip, {label}", floor_command(wheel)))
    return found


def zipapp_command(
    arguments: argparse.Namespace, url: str
) -> Callable[[Place], Sequence[str | Path]]:
    """As a pod starts it; the target is named because torch lies elsewhere here."""
    flags = arguments.zipapp_flag or []
    return lambda place: [
        place.python,
        arguments.zipapp,
        "--index-url",
        f"{url}/index",
        "--target",
        place.site_packages,
        "--cache-dir",
        place.cache / "apex",
        *flags,
    ]


def uv_command(
    arguments: argparse.Namespace, wheel: str
) -> Callable[[Place], Sequence[str | Path]]:
    requirement = f"apex @ {wheel}"
    return lambda place: [
        arguments.uv, "pip", "install", "--python", place.python, *UV_FLAGS, requirement
    ]  # fmt: skip


def pip_command(wheel: str) -> Callable[[Place], Sequence[str | Path]]:
    return lambda place: [place.python, "-m", "pip", "install", *PIP_FLAGS, wheel]


def floor_command(wheel: str) -> Callable[[Place], Sequence[str | Path]]:
    """What no installer can beat by much: fetch and unpack, nothing verified, nothing recorded."""
    script = 'curl -sf "$1" -o "$2/w.zip" && unzip -q "$2/w.zip" -d "$3"'
    return lambda place: [
        "/bin/sh", "-c", script, "floor", wheel, place.cache, place.site_packages
    ]  # fmt: skip


class Track:
    """Makes a fresh place for each run, and runs."""

    def __init__(self, folder: Path, *, torch: Path, served_files: Sequence[Path]) -> None:
        self.folder = folder
        self.torch = torch
        self.served_files = served_files
        self.template = folder / "template"
        self.pip = folder / "pip"
        make = [sys.executable, "-m", "venv", "--without-pip", str(self.template)]
        subprocess.run(make, check=True)
        site_packages = next((self.template / "lib").glob("python3.*")) / "site-packages"
        newest: list[str | Path] = [sys.executable, "-m", "pip", "install", "-q", "--retries=0"]
        newest += ["--disable-pip-version-check", "--target", self.pip, "pip"]
        subprocess.run(newest, check=False)  # without a network, torch's neighbour runs
        # One copy of pip for all runs, so that a fresh environment is a few files.
        (site_packages / "shared.pth").write_text(f"{self.pip}\n{torch}\n")

    def fresh(self) -> Place:
        """A copy of the template and empty caches; made outside the time that counts."""
        base = Path(tempfile.mkdtemp(dir=self.folder))
        shutil.copytree(self.template, base / "venv", symlinks=True)
        (base / "cache").mkdir()
        return Place(venv=base / "venv", cache=base / "cache", log=base / "log")

    def run(self, contestant: Contestant, *, cold: bool = False) -> Cost:
        """One run from nothing, checked to have made files that can be imported."""
        place = self.fresh()
        if cold:
            self.evict(place)
        cost = self._measure(contestant, place)
        check_installed(place)
        shutil.rmtree(place.venv.parent)
        return cost

    def run_again(self, contestant: Contestant) -> Cost:
        """A second start in the same place: `already`."""
        place = self.fresh()
        self._measure(contestant, place)
        cost = self._measure(contestant, place)
        said = place.log.read_text()
        shutil.rmtree(place.venv.parent)
        if "already" not in said:
            raise SystemExit(f"the second start did not find it there already: {said}")
        return cost

    def _measure(self, contestant: Contestant, place: Place) -> Cost:
        return run_measured(contestant.command(place), environ=place.environ(), log=place.log)

    def evict(self, place: Place) -> None:
        """What a run reads: interpreter, environment, pip, the served files, torch's libraries."""
        base = Path(sys.base_prefix)
        interpreter = [base / "bin", base / "lib" / f"python3.{sys.version_info.minor}"]
        libraries = [self.torch / "torch" / "lib", *self.torch.glob("nvidia/*/lib")]
        evict([place.venv, self.pip, *interpreter, *self.served_files, *libraries])


def check_installed(place: Place) -> None:
    """The package and a compiled module lie where Python looks."""
    found = (place.site_packages / "apex" / "__init__.py").is_file()
    modules = list(place.site_packages.glob("fused_layer_norm_cuda*.so"))
    if not (found and modules):
        raise SystemExit(f"nothing importable in {place.site_packages}:\n{place.log.read_text()}")


def race(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All runs, one contestant after the other in each round, so that drift hits all alike."""
    root = folder / "root"
    root.mkdir()
    (root / "index").symlink_to(arguments.index.resolve())
    for label in ("readme", "slim"):
        (root / label).symlink_to(getattr(arguments, label).resolve().parent)
    files = [arguments.readme, arguments.slim, arguments.zipapp, arguments.index]
    files += [Path(arguments.uv)] if Path(arguments.uv).is_file() else []
    track = Track(folder, torch=arguments.torch, served_files=files)
    with served(root) as url:
        contestants = build_contestants(arguments, url)
        warm: dict[str, list[Cost]] = {one.name: [] for one in contestants}
        cold: dict[str, list[Cost]] = {one.name: [] for one in contestants}
        for number in range(arguments.runs + 1):
            for one in contestants:
                cost = track.run(one)
                if number:  # the first warms the page cache
                    warm[one.name].append(cost)
        # Before the evictions: walking what they evict makes this process larger, and no peak of a
        # child is told below its parent's size.
        again = [track.run_again(contestants[0]) for _ in range(arguments.runs)]
        for _ in range(arguments.cold_runs):
            for one in contestants:
                cold[one.name].append(track.run(one, cold=True))
    return {
        "warm": {name: summarize(costs) for name, costs in warm.items()},
        "cold": {name: summarize(costs) for name, costs in cold.items() if costs},
        "already": summarize(again),
    }


def read_versions(arguments: argparse.Namespace, folder: Path) -> dict[str, str]:
    """What took part, exactly."""
    python = folder / "template" / "bin" / "python"
    commands = {
        "pip": [python, "-m", "pip", "--version"],
        "uv": [arguments.uv, "--version"],
        "apex-install": [sys.executable, arguments.zipapp, "--version"],
    }
    versions = {"python": sys.version.split()[0]}
    for name, command in commands.items():
        words = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        versions[name] = words[1]
    return versions


def judge(result: dict[str, Any]) -> dict[str, Any]:
    """The ratios that are promised, each beside its limit."""
    warm = result["warm"]
    verdict: dict[str, Any] = {}
    for name, limit in LIMITS.items():
        ours, theirs = name.split(" / ")
        ratio = warm[ours]["median"] / warm[theirs]["median"]
        verdict[name] = {"ratio": round(ratio, 3), "limit": limit, "met": ratio <= limit}
    milliseconds = result["already"]["median"] * 1000
    peak = warm["apex-install, slim wheel"]["peak_mib"]
    verdict["already, ms"] = {
        "value": round(milliseconds, 1),
        "limit": ALREADY_LIMIT_MS,
        "met": milliseconds <= ALREADY_LIMIT_MS,
    }
    verdict["peak memory, MiB"] = {
        "value": peak,
        "limit": PEAK_LIMIT_MIB,
        "met": peak <= PEAK_LIMIT_MIB,
    }
    return verdict


def write(result: dict[str, Any], out: Path) -> str:
    """`out`.json with everything, `out`.md for people."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    rows: list[list[object]] = [["", "warm, s", "least", "most", "evicted pages, s", "peak, MiB"]]
    for name, row in result["warm"].items():
        cold = result["cold"].get(name, {}).get("median", "")
        rows.append([name, row["median"], row["min"], row["max"], cold, row["peak_mib"]])
    again = result["already"]
    rows.append(["already", again["median"], again["min"], again["max"], "", again["peak_mib"]])
    promises: list[list[object]] = [["", "found", "at most", ""]]
    for name, verdict in result["verdict"].items():
        found = verdict.get("ratio", verdict.get("value"))
        promises.append([name, found, verdict["limit"], "met" if verdict["met"] else "NOT MET"])
    head = {name: result[name] for name in ("date", "command", "machine", "versions", "flags")}
    facts = "".join(f"- {name}: {value}\n" for name, value in {**head, **result["wheels"]}.items())
    text = f"# From process start to importable files\n\n{facts}\n{format_table(rows)}\n"
    text += format_table(promises)
    out.with_suffix(".md").write_text(text)
    return text


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--torch", type=Path, required=True, help="site-packages folder that holds torch")
    add("--zipapp", type=Path, required=True)
    add("--index", type=Path, required=True, help="published folder that holds the slim wheel")
    add("--slim", type=Path, required=True, help="the wheel in that index")
    add("--readme", type=Path, required=True, help="the wheel of Apex's README command")
    add("--uv", default=shutil.which("uv"), help="uv's executable itself, no launcher")
    add("--runs", type=int, default=7, help="timed runs of each (default: 7)")
    add("--cold-runs", type=int, default=3, help="runs with evicted pages (default: 3)")
    add("--zipapp-flag", action="append", help="handed to apex-install, e.g. --gpu=9.0")
    add("--out", type=Path, required=True, help="result without suffix: .json and .md are written")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="cold-start-") as name:
        folder = Path(name)
        result = {**describe_run(), **race(arguments, folder)}
        result["versions"] = read_versions(arguments, folder)
    result["flags"] = {"pip": " ".join(PIP_FLAGS), "uv": " ".join(UV_FLAGS)}
    wheels = {"README wheel": arguments.readme, "slim wheel": arguments.slim}
    result["wheels"] = {
        label: f"{wheel.name}, {wheel.stat().st_size} bytes" for label, wheel in wheels.items()
    }
    result["verdict"] = judge(result)
    print(write(result, arguments.out))
    return 0 if all(verdict["met"] for verdict in result["verdict"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
