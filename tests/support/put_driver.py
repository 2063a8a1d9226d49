# ruff: noqa: T201 - a script that prints its result
"""Drives apex_installer.put from outside, one command a process, so that it can be killed.

    python put_driver.py install JOB.json | heal TARGET | remove TARGET

JOB.json: {"wheel": path, "entry": entry as JSON, "target": path, "put_aside": bool}
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from apex_installer.errors import InstallError
from apex_installer.model.entry import Entry
from apex_installer.put.install import install_wheel
from apex_installer.put.installed import read_installed
from apex_installer.put.remove import remove
from apex_installer.put.swap import heal
from support.wheels import tiny_environment, tiny_recipe


def install(job: dict) -> str:
    target, recipe = job["target"], tiny_recipe()
    healed = heal(target)
    installed = install_wheel(
        job["wheel"],
        entry=Entry.from_json(job["entry"], where="job"),
        environment=tiny_environment(target),
        recipe=recipe,
        old=read_installed(target, recipe, (target,)),
        put_aside=job.get("put_aside", False),
    )
    return "; ".join(filter(None, [healed, installed.version, *installed.notes]))


def main() -> int:
    command, argument = sys.argv[1:]
    # What strace counts begins here: one harmless call with a name that only we use.
    os.access("/put-driver-starts-here", os.F_OK)
    try:
        if command == "install":
            print(install(json.loads(Path(argument).read_text())))
        elif command == "heal":
            print(heal(argument))
        else:
            print(heal(argument))
            print(remove(argument, recipe=tiny_recipe()))
    except InstallError as error:
        print(f"{error.cause}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
