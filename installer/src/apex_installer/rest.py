"""Start the compile of the rest of the default set, which goes on when the install has ended.

Only with APEX_INSTALL_BACKGROUND=1, on a cache that outlives the pod: its result is for the next
pod, and never goes into the environment of an app that runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

import apex_installer
from apex_installer.errors import CompileError
from apex_installer.get.failures import describe, failure_path, is_too_early, read_failure
from apex_installer.get.results import find_result
from apex_installer.make.plan_here import Wanted, modules_made
from apex_installer.means import plan_for
from apex_installer.model.entry import Entry
from apex_installer.situation import Situation
from apex_installer.values import asdict

LOG = "background.log"
SECONDS = 7200.0
"""For waiting and compiling; nobody waits for it."""
_BEGIN = (
    "import sys; sys.path[:0] = sys.argv[1:2]; from apex_installer.background import main; main()"
)


def start_rest(entry: Entry, situation: Situation) -> None:
    """Start it where there is a rest, and nobody has compiled it; says what it did in one line."""
    account, environment = situation.account, situation.environment
    if not situation.cache.location.outlives_pod:
        account.find(
            f"nothing compiles in the background: {situation.cache.location.directory} does not "
            "outlive the pod; put --cache-dir on a volume"
        )
        return
    every = modules_made(situation.recipe, environment, (*situation.modules, *_default(situation)))
    rest = sorted(set(every) - set(entry.module_names))
    if not rest:
        return
    try:
        wanted = plan_for(situation.request, situation.recipe, environment, every)
        if find_result(situation.cache, wanted.key) is not None:
            return
        _check_failures(wanted, situation)
        line = _start(situation)
    except (CompileError, OSError) as error:
        account.find(f"nothing compiles in the background: {error}")
        return
    account.find(f"compiling {', '.join(rest)} in the background, for the next pod: {line}")


def _check_failures(wanted: Wanted, situation: Situation) -> None:
    path = failure_path(situation.cache, wanted.key)
    failure = read_failure(path) if path else None
    if path and failure and is_too_early(failure, now=time.time(), budget=SECONDS):
        raise CompileError(describe(failure, path=path))


def _default(situation: Situation) -> tuple[str, ...]:
    return situation.recipe.groups.get("default", ())


def _start(situation: Situation) -> str:
    """`process 17, log: /tmp/…/background.log`."""
    folder = tempfile.mkdtemp(prefix="apex-background-")
    log = os.path.join(folder, LOG)
    request = json.dumps(asdict(situation.request))
    # The folder or the zip file that we ourselves run from.
    origin = os.path.dirname(os.path.dirname(os.path.abspath(apex_installer.__file__)))
    with open(log, "xb") as words:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _BEGIN, origin, "apex-install", "in the background"],
            stdin=subprocess.PIPE,
            stdout=words,
            stderr=subprocess.STDOUT,
            # Its compilers' log lies beside its own, not over that of the foreground.
            env={**os.environ, "TMPDIR": folder},
            cwd="/",
            start_new_session=True,
        )
    stdin = process.stdin
    if stdin is not None:
        with stdin:  # not by a word of its command line, where a token could be read
            stdin.write(request.encode())
    return f"process {process.pid}, log: {log}"
