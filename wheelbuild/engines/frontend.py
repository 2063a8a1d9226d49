"""`python -m build --no-isolation --wheel` on a job folder, by a Python that may lack `build`.

Stand-alone: `python -m wheelbuild.engines.frontend FOLDER OUT PYTHON` runs the hooks in PYTHON with
the `build` that lies beside us. It does what `python -m build` does there; nothing is installed.
"""

from __future__ import annotations

import sys

from build import BuildBackendException, ProjectBuilder


def main(folder: str, out: str, python: str) -> int:
    """Build one wheel; the backend has said on stderr why it failed."""
    try:
        ProjectBuilder(folder, python_executable=python).build("wheel", out)
    except BuildBackendException as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
