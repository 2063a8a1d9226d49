"""The real loader's word: torch is imported once, and every file opened in a fork of its own."""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_SCRIPT = """
import ctypes, json, os, sys
import torch
for line in sys.stdin:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            ctypes.CDLL(json.loads(line), mode=os.RTLD_NOW)
        except OSError as error:
            os.write(write, str(error).encode())
            os._exit(1)
        os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    # 127: an assertion of the loader's own
    answer = None if status == 0 else said or f"the process ended with status {status}"
    print(json.dumps(answer), flush=True)
"""


@contextmanager
def loader(python: Path) -> Iterator[Callable[[Path], str | None]]:
    """Yield `ask`: what `dlopen(file, RTLD_NOW)` says against a file after `import torch`.

    It answers None where the file loads.
    """
    process = subprocess.Popen(
        [str(python), "-c", _SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        questions, answers = process.stdin, process.stdout

        def ask(file: Path) -> str | None:
            print(json.dumps(str(file)), file=questions, flush=True)
            answer = answers.readline()
            if not answer:
                raise RuntimeError(f"{python}: the process that imported torch is gone")
            said: str | None = json.loads(answer)
            return said

        yield ask
