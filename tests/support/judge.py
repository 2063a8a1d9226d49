# ruff: noqa: T201 - a script that prints its result
"""Judges what a target holds, by Python's own means alone: it knows of no journal and no receipt.

    python -I -B -S judge.py TARGET PACKAGE

prints {"importable": bool, "versions": [...], "faults": [...]} as JSON. A state is as promised when
the package cannot be imported, or when every file is of the one RECORD that is there.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path


def judge(target: Path, package: str = "apex", *, python: str = sys.executable) -> dict:
    """Run this file in a fresh interpreter; its verdict."""
    done = subprocess.run(
        [python, "-I", "-B", "-S", __file__, str(target), package],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def look(target: str, package: str) -> dict:
    """In the fresh interpreter."""
    sys.path.insert(0, target)
    try:
        importlib.import_module(package)
    except ImportError:
        importable = False
    else:
        importable = True
    everything = importlib.metadata.distributions(path=[target])
    found = [one for one in everything if one.metadata["Name"] == package]
    faults = []
    if importable and len(found) != 1:
        faults.append(f"{len(found)} dist-infos beside an importable {package}")
    if importable:
        for distribution in found:
            faults += compare(Path(target), package, distribution)
    return {
        "importable": importable,
        "versions": [distribution.version for distribution in found],
        "faults": faults,
    }


def compare(target: Path, package: str, distribution: importlib.metadata.Distribution) -> list[str]:
    faults, known = [], set()
    for file in distribution.files or []:
        if file.suffix == ".pyc" or ".." in file.parts:
            continue  # bytecode and scripts may go and come
        known.add(str(file))
        path = target / file
        if not path.is_file():
            faults.append(f"{file} is missing")
        elif file.hash:
            digest = hashlib.sha256(path.read_bytes()).digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
                faults.append(f"{file} is of another RECORD")
    if not known:
        faults.append("no RECORD")
    present = [
        str(path.relative_to(target))
        for path in [*target.glob(f"{package}/**/*"), *target.glob("*.so")]
        if path.is_file()
    ]
    faults += [f"{path} is in no RECORD" for path in present if path not in known]
    return faults


if __name__ == "__main__":
    print(json.dumps(look(*sys.argv[1:])))
