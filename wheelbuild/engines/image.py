"""What an image holds for one cell: read by one run of a few lines of shell in it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from wheelbuild.errors import CellError

PROBE = r"""
python=$1
echo "python $("$python" -c 'import platform; print(platform.python_version())' 2>&1 | tail -n 1)"
[ -x "${python%/*}/pip" ] && echo "pip yes"
echo "gcc $(c++ -dumpfullversion 2>/dev/null)"
programs=
for name in gcc g++ c++; do
  command -v $name >/dev/null || continue
  programs="$programs $name $($name -print-prog-name=cc1plus) $($name -print-prog-name=as)"
done
found=$(dirname "$(dirname "$(command -v nvcc)")")
for home in "$CUDA_HOME" "$CUDA_PATH" /usr/local/cuda "$found"; do
  [ -x "$home/bin/nvcc" ] && [ -x "$home/nvvm/bin/cicc" ] || continue
  echo "nvcc $("$home/bin/nvcc" --version | sed -n 's/.* V\([0-9.]*\)$/\1/p') $home"
  for name in nvcc cudafe++ ptxas fatbinary nvlink; do programs="$programs $home/bin/$name"; done
  programs="$programs $home/nvvm/bin/cicc"
  break
done
for name in $programs; do
  file=$(command -v "$name") && echo "program $(sha256sum "$(readlink -f "$file")")"
done
"""
"""`sh -c PROBE sh INTERPRETER`; prints one fact a line. A CUDA without its own cicc is a script."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFacts:
    """What a build in the image would be done with."""

    python: str
    """`3.11.7`."""
    gcc: str
    """`12.2.0`."""
    cuda_home: str
    """Its own toolkit; empty where it has none."""
    nvcc: str
    """`13.0.88`, or empty."""
    toolchain: str
    """16 hex digits: of the bytes of every compiler."""


def parse_facts(said: str, *, image: str, interpreter: str) -> ImageFacts:
    """Read what the probe said; CellError names all that the image lacks. Pure."""
    lines = [line.partition(" ")[::2] for line in said.splitlines()]
    facts = dict(reversed(lines))
    faults = []
    if not re.fullmatch(r"\d+\.\d+\.\d+\S*", facts.get("python", "")):
        faults.append(f"no {interpreter} that runs")
    elif "pip" not in facts:
        faults.append(f"no pip beside {interpreter}")
    if not facts.get("gcc"):
        faults.append("no c++ that is gcc")
    if faults:
        raise CellError(f"{image}: {'; '.join(faults)}")
    nvcc, _, home = facts.get("nvcc", "").partition(" ")
    programs = sorted({value for name, value in lines if name == "program"})
    return ImageFacts(
        python=facts["python"],
        gcc=facts["gcc"],
        cuda_home=home,
        nvcc=nvcc,
        toolchain=hashlib.sha256("\n".join(programs).encode()).hexdigest()[:16],
    )
