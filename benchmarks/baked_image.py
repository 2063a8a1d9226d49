"""Starts of an image that has its wheel baked in, after it was exported and imported again.

    python benchmarks/baked_image.py [--runs 9] [--out benchmarks/results/DATE-baked-image.json]

The wheel is as large as Apex's for three architectures (14 MB). Measured inside the container, from
the start of `run.sh true` to its end: the first start of a container, and the second; beside them a
start of Python that does nothing, which tells how busy the machine was. Two ways of carrying an
image: its layers (`push` to an archive and `pull`), and its files in one tar whose times are whole
seconds (`export`, `import`). Needs buildah.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import describe_run

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.images import Images

LIMITS = {"first": 200.0, "second": 100.0}
SIZE = 14_100_000
START = """
import json, resource, subprocess, time
def spent():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
def start(*command):
    began, used = time.perf_counter(), spent()
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    passed, used = time.perf_counter() - began, spent() - used
    return [passed * 1000, used * 1000, done.stderr.strip()]
run = ("/opt/run.sh", "true")
print(json.dumps([start(*run), start(*run), start("/usr/bin/env", "python3", "-c", "pass")]))
"""


def main() -> int:
    from support.images import make_images  # noqa: PLC0415 - beside the tests

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    buildah = shutil.which("buildah")
    if not buildah:
        raise SystemExit("no buildah")
    run = describe_run()
    folder = Path(tempfile.mkdtemp(prefix="baked-"))
    try:
        with make_images(folder, buildah, padding=os.urandom(SIZE)) as images:
            image = images.build("baked", INDEX_URL=images.index_url, GPU="9.0")
            ways = {"as built": image, "push, pull": by_layers(images, image)}
            ways["export, import"] = by_files(images, image)
            rows = {way: measure(images, name, arguments.runs) for way, name in ways.items()}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    said = subprocess.check_output([buildah, "--version"], text=True).split()[2]
    result = {
        **run,
        "versions": {"buildah": said, "python": platform.python_version()},
        "niceness": os.nice(0),
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "wheel_bytes": SIZE,
        "milliseconds": rows,
        "limits": LIMITS,
        "met": all(rows[way][which]["median"] <= LIMITS[which] for way in rows for which in LIMITS),
    }
    out = arguments.out or ROOT / f"benchmarks/results/{run['date']}-baked-image.json"
    out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(rows, indent=1))
    return 0 if result["met"] else 1


def by_layers(images: Images, image: str) -> str:
    archive = images.folder / "layers.tar"
    images.call("push", image, f"docker-archive:{archive}:localhost/pulled:tests")
    images.call("rmi", "--force", image)
    images.call("pull", f"docker-archive:{archive}")
    images.call("tag", "localhost/pulled:tests", image)  # `as built` is measured after it too
    return "localhost/pulled:tests"


def by_files(images: Images, image: str) -> str:
    """One tar of all files in the format that knows whole seconds only; settings as before."""
    container = images.call("from", "--pull-never", image).stdout.strip()
    mounted = images.call("mount", container).stdout.strip()
    with tarfile.open(images.folder / "files.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        archive.add(mounted, arcname=".")
    config = images.config(container)
    images.call("rm", container)
    fresh = images.call("from", "scratch").stdout.strip()
    images.call("add", fresh, images.folder / "files.tar", "/")
    images.call("config", "--entrypoint", json.dumps(config["Entrypoint"]), fresh)
    for word in config["Env"]:
        images.call("config", "--env", word, fresh)
    images.call("commit", "--rm", fresh, "localhost/imported:tests")
    return "localhost/imported:tests"


def measure(images: Images, image: str, runs: int) -> dict[str, Any]:
    """First and second start of `runs` new containers, in milliseconds of clock and of CPU."""
    found: dict[str, list[float]] = {}
    for _ in range(runs):
        container = images.call("from", "--pull-never", image).stdout.strip()
        _, out, err = images.run_in(container, "python3", "-c", START, APEX_INSTALL_GPU="9.0")
        images.call("rm", container)
        if not out:
            raise SystemExit(f"{image}: {err}")
        names = ("first", "second", "python3 -c pass")
        for which, (passed, used, said) in zip(names, json.loads(out), strict=True):
            if which in LIMITS and not said.startswith("apex: already, "):
                raise SystemExit(f"{image}: {which}: {said}")
            found.setdefault(which, []).append(passed)
            found.setdefault(f"{which}, CPU", []).append(used)
    return {which: summary(values) for which, values in found.items()}


def summary(values: Sequence[float]) -> dict[str, Any]:
    return {
        "median": round(statistics.median(values), 1),
        "min": round(min(values), 1),
        "max": round(max(values), 1),
        "runs": [round(value, 1) for value in values],
    }


if __name__ == "__main__":
    sys.exit(main())
