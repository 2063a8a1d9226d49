"""The real loader's word: torch is imported once, and every file opened in a fork of its own."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SCRIPT = """
import ctypes, json, os, sys
import torch
answers = {}
for path in json.load(sys.stdin):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            ctypes.CDLL(path, mode=os.RTLD_NOW)
        except OSError as error:
            os.write(write, str(error).encode())
            os._exit(1)
        os._exit(0)
    os.close(write)
    said = open(read, "rb").read().decode()
    _, status = os.waitpid(child, 0)
    # 127: an assertion of the loader's own
    answers[path] = None if status == 0 else said or f"the process ended with status {status}"
print(json.dumps(answers))
"""


def ask_loader(python: Path, files: Sequence[Path]) -> dict[Path, str | None]:
    """File -> what `dlopen(RTLD_NOW)` says against it after `import torch`; None where it loads."""
    done = subprocess.run(
        [str(python), "-c", _SCRIPT],
        input=json.dumps([str(file) for file in files]),
        capture_output=True,
        text=True,
        cwd="/",
        check=True,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    return {file: said[str(file)] for file in files}
