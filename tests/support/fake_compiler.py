"""A compiler of a few lines of shell: reads its source's wishes, writes object and depfile."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_SCRIPT = r"""#!/bin/sh
# cc [-DSLIM] [-MF depfile] -c source -o out   |   cc object... -o out
slim= source= out= depfile= objects=
while [ $# -gt 0 ]; do
  case $1 in
    -DSLIM) slim=yes ;;
    -MF) depfile=$2; shift ;;
    -c) source=$2; shift ;;
    -o) out=$2; shift ;;
    *.o) objects="$objects $1" ;;
  esac
  shift
done
echo "${slim:+slim }${source##*/}${objects:+link}" >> "$STARTED"
if [ -n "$objects" ]; then cat $objects > "$out"; exit; fi
if grep -q NEEDS_PYTHON "$source" && [ -n "$slim" ]; then
  echo "$source:1:10: fatal error: Python.h: No such file or directory" >&2; exit 1
fi
if grep -q BROKEN "$source"; then
  echo "$source:7:1: error: 'broken' was not declared"; echo "1 error"; exit 1
fi
if grep -q HANGS "$source"; then sleep 1000 & echo $! >> "$STARTED.pids"; wait; fi
if grep -q STARVES "$source" && [ ! -e "$STARTED.starved" ]; then
  touch "$STARTED.starved"; echo "cc: fatal error: Killed signal terminated program cc1plus"; exit 1
fi
cat "$source" > "$out"
[ -z "$depfile" ] || echo "$out: $source" > "$depfile"
"""


def write_fake_compiler(folder: Path) -> Path:
    """The folder's `cc`; it notes each start in the file that `STARTED` names."""
    compiler = folder / "cc"
    compiler.write_text(_SCRIPT, encoding="utf-8")
    compiler.chmod(0o755)
    return compiler
