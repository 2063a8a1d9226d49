# ruff: noqa: T201 - a script that prints its result
"""Drives apex_installer.put from outside, one command a process, so that it can be killed.

    python put_driver.py install JOB.json | heal TARGET | remove TARGET

With PUT_DRIVER_LOWER=1 every folder that is in the target at the start behaves like one of an
image's lower layer under overlayfs: renaming it fails with EXDEV.

JOB.json: {"wheel": path, "entry": entry as JSON, "target": path, "put_aside": bool}, or in place of
wheel and entry {"index": URL of an index with one wheel, "cache": path}.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "installer" / "src"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from apex_installer.deadline import Deadline
from apex_installer.errors import InstallError
from apex_installer.get.cache import Cache, CacheLocation
from apex_installer.get.documents import fetch_document
from apex_installer.get.http import Fetcher
from apex_installer.model.entry import Entry
from apex_installer.model.environment import Environment
from apex_installer.put.heal import heal
from apex_installer.put.install import install_wheel
from apex_installer.put.installed import read_installed
from apex_installer.put.remove import remove
from support.wheels import tiny_environment, tiny_recipe


def fetch(job: dict, environment: Environment) -> tuple[str, Entry]:
    """The wheel's path and its entry, through index and cache where the job names them."""
    if "index" not in job:
        return job["wheel"], Entry.from_json(job["entry"], where="job")
    location = CacheLocation(job["cache"], "test", outlives_pod=False)
    with Fetcher(allow_http=False, deadline=Deadline(30)) as fetcher, Cache(location) as cache:
        document = fetch_document(
            job["index"], environment.cell, fetcher=fetcher, installer="0.1.0"
        )
        (entry,) = document.entries
        path = cache.wheel(entry.sha256)
        if path is None:
            part = cache.part_for(entry.sha256, size=entry.size)
            fetcher.download(entry.url, part, sha256=entry.sha256, size=entry.size)
            path = cache.publish(part, sha256=entry.sha256, file=entry.file)
        return path, entry


def install(job: dict) -> str:
    target, recipe = job["target"], tiny_recipe()
    healed = heal(target)
    environment = tiny_environment(target)
    path, entry = fetch(job, environment)
    old = read_installed(target, recipe, (target,))
    installed = install_wheel(
        path,
        entry=entry,
        environment=environment,
        recipe=recipe,
        old=old,
        put_aside=job.get("put_aside", False) and old is not None and old.owner != "ours",
    )
    return "; ".join(filter(None, [healed, installed.version, *installed.notes]))


def pretend_lower_layer(target: str) -> None:
    """Renames of the folders that are there now fail as overlayfs has them fail."""
    folders = [path for path in Path(target).rglob("*") if path.is_dir()]
    lower = {(str(path), path.lstat().st_ino) for path in folders}  # numbers are given out again
    rename = os.rename

    def renamed(source: str, destination: str) -> None:
        if (source, Path(source).lstat().st_ino) in lower:
            raise OSError(errno.EXDEV, "Invalid cross-device link", source)
        rename(source, destination)

    os.rename = renamed


def main() -> int:
    command, argument = sys.argv[1:]
    target = json.loads(Path(argument).read_text())["target"] if command == "install" else argument
    if os.environ.get("PUT_DRIVER_LOWER"):
        pretend_lower_layer(target)
    # What strace counts begins here: one harmless call with a name that only we use.
    os.access("/put-driver-starts-here", os.F_OK)
    try:
        if command == "install":
            print(install(json.loads(Path(argument).read_text())))
        elif command == "heal":
            print(heal(argument))
        else:
            print(remove(argument, recipe=tiny_recipe()))
    except InstallError as error:
        print(f"{error.cause}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
