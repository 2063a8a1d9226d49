"""A small data folder, sound as it stands; tests change a line of it and see what is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wheelbuild.data import FarmData, load_data

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = "a" * 40, "b" * 40

RECIPE = f"""\
schema = 1
distribution = "apex"
package = "apex"
base_version = "0.1"
git_url = "https://example.invalid/apex"
default = "core"
required_by_default = "norm"

[[refs]]
name = "old"
commit = "{OLD}"
date = "20240428"
torch_min = "2.4"
torch_max = "2.6"
why = "a test"
flags = ["argv"]
cxx_standard = "c++17"
python_min = "3.8"

[[refs.requirements]]
name = "numpy"
specifier = "numpy<2"
module = "numpy"
needed_for_import = true
why = "a test"

[[refs]]
name = "new"
commit = "{NEW}"
date = "20260707"
torch_min = "2.7"
why = "a test"
flags = ["environment"]
cxx_standard = "c++17"
python_min = "3.10"

[groups.norm]
modules = ["norm_cuda"]
why = "a test"

[groups.core]
modules = ["norm_cuda", "plain_c"]
why = "a test"

[groups.extra]
modules = ["extra_cuda"]
why = "a test"

[modules.norm_cuda]
argv = ["--cuda_ext"]
environment = ["APEX_CUDA_EXT"]
cpu_seconds = 100
test = "tests/norm_cuda.py"

[modules.plain_c]
argv = ["--cpp_ext"]
environment = ["APEX_CPP_EXT"]
cpu_seconds = 50.5
test = "tests/plain_c.py"

[modules.extra_cuda]
argv = ["--extra"]
environment = ["APEX_EXTRA"]
refs = ["new"]
cuda_min = "12.4"
cpu_seconds = 10
test = "tests/norm_cuda.py"

[[provides]]
names = ["apex.optimizers.FusedAdam", "apex.normalization.FusedRMSNorm"]
modules = ["norm_cuda"]

[[provides]]
names = ["apex.contrib.FusedAdam"]
modules = ["extra_cuda"]
refs = ["new"]
"""

MATRIX = """\
schema = 1
platform = "linux_x86_64"

[[cells]]
torch = "2.4"
cudas = ["12.1"]
pythons = ["cp310"]
why = "the first"

[[cells]]
torch = "2.11"
cudas = ["13.0"]
pythons = ["cp311", "cp312"]
why = "the second"

[[exclusions]]
pythons = ["cp313t"]
why = "no modules without the GIL"

[[torch]]
minor = "2.4"
release = "2.4.0"
pythons = ["cp39", "cp310"]
architectures = ["8.0", "9.0"]
why = "a test"
source = "a test"

[[torch.builds]]
cuda = "12.1"
index = "https://pypi.org/simple"
policy = "manylinux_2_17"
cxx11_abi = false
architectures = "8.0;9.0+PTX"

[[torch]]
minor = "2.11"
release = "2.11.0"
pythons = ["cp311", "cp312", "cp313t"]
architectures = ["8.0", "9.0", "12.0"]
why = "a test"
source = "a test"

[[torch.builds]]
cuda = "13.0"
index = "https://pypi.org/simple"
policy = "manylinux_2_28"
cxx11_abi = true
architectures = "8.0;9.0;12.0+PTX"
"""


def _toolkit(cuda: str, how: str, architectures: str, digit: str) -> str:
    return f"""
[[toolkits]]
cuda = "{cuda}"
release = "{cuda}.1"
how = "{how}"
base_url = "https://example.invalid/"
gcc_max = 12
clang_max = 15
architectures = [{architectures}]
source = "a test"

[[toolkits.parts]]
name = "nvcc"
version = "{cuda}.105"
file = "nvcc.{"whl" if how == "wheels" else "tar.xz"}"
sha256 = "{digit * 64}"
size = 44
"""


TOOLKITS = (
    "schema = 1\n"
    + _toolkit("12.1", "archives", '"8.0", "9.0"', "1")
    + _toolkit("13.0", "wheels", '"8.0", "9.0", "12.0"', "2")
)

TEXTS = {
    "matrix.toml": MATRIX,
    "toolkits.toml": TOOLKITS,
    "recipes/apex/recipe.toml": RECIPE,
    "recipes/apex/tests/norm_cuda.py": "print('norm')\n",
    "recipes/apex/tests/plain_c.py": "print('plain')\n",
}


def write_data(folder: Path, *changes: tuple[str, str, str]) -> Path:
    """Write the folder; each change is (file, old, new), and the old text must be there."""
    texts = dict(TEXTS)
    for file, old, new in changes:
        name = next(name for name in texts if name.endswith(file))
        assert old in texts[name], f"{old!r} is not in {name}"
        texts[name] = texts[name].replace(old, new, 1)
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def small_data(folder: Path, *changes: tuple[str, str, str]) -> FarmData:
    return load_data(write_data(folder, *changes))
