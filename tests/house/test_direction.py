"""The direction of imports: down, without a cycle, and never from the thin part to the farm."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
THIN = ROOT / "installer" / "src" / "apex_installer"
FARM = ROOT / "wheelbuild"
THIN_MODULES = sorted(THIN.rglob("*.py"))
FARM_MODULES = sorted(path for path in FARM.rglob("*.py") if "recipes" not in path.parts)

LAYERS = (  # lowest first; a module imports from its own folder or from a layer below its own
    {"errors", "values", "threads", "closing", "data", ""},
    {"deadline", "model", "watchdog"},
    {"pick", "present", "account", "read", "get", "describe", "in_the_way", "want"},
    {"put", "make"},
    {"check", "requirements", "run_check", "situation", "examine"},
    {"offer", "placing", "means"},
    {"python_only"},
    {"inputs", "from_index"},
    {"compiling"},
    {"compile_once", "rest"},
    {"from_source", "doctor_compile"},
    {"outcomes"},
    {"flow"},
    {"doctor"},
    {"commands", "background", "prefetch"},
    {"cli"},
    {"__main__"},
)
MAY_ALSO = {("put", "read"), ("make", "read"), ("account", "pick"), ("read", "get")}
PURE = ("model", "pick", "present", "errors", "values", "want", "describe")
EFFECTS = {"subprocess", "socket", "shutil", "tempfile", "ctypes", "http", "urllib", "logging"}
TYPING_ONLY = {"typing_extensions"}


def level_of(name: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if name in layer)


def place_of(path: Path) -> str:
    """The layer's word of a module: its folder, or its own name at the top."""
    parts = path.relative_to(THIN).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def imports(path: Path) -> set[str]:
    """Full names of what a module imports, also lazily and for types."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import; write the absolute one"
            module = node.module or ""
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def named(paths: list[Path], root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in paths]


@pytest.mark.parametrize("path", THIN_MODULES, ids=named(THIN_MODULES, THIN))
def test_the_thin_part_needs_the_standard_library_alone(path: Path) -> None:
    tops = {name.partition(".")[0] for name in imports(path)}
    assert tops - sys.stdlib_module_names - TYPING_ONLY <= {"apex_installer", "torch", "setuptools"}
    if path.name != "capture_setup.py":  # runs in the target's interpreter, not in ours
        assert not tops & {"torch", "setuptools"}


@pytest.mark.parametrize("path", THIN_MODULES, ids=named(THIN_MODULES, THIN))
def test_imports_of_the_thin_part_point_down(path: Path) -> None:
    here = place_of(path)
    for name in imports(path):
        if not name.startswith("apex_installer"):
            continue
        there = [*name.split("."), ""][1]
        there = there if any(there in layer for layer in LAYERS) else ""
        same_folder = there == here and (THIN / here).is_dir()
        below = level_of(there) < level_of(here)
        assert same_folder or below or (here, there) in MAY_ALSO, f"{path} imports {name}"


@pytest.mark.parametrize(
    "path", [path for path in THIN_MODULES if place_of(path) in PURE], ids=lambda path: path.stem
)
def test_what_decides_touches_nothing(path: Path) -> None:
    tops = {name.partition(".")[0] for name in imports(path)}
    assert not tops & EFFECTS


@pytest.mark.parametrize("path", FARM_MODULES, ids=named(FARM_MODULES, FARM))
def test_the_farm_never_imports_torch(path: Path) -> None:
    assert "torch" not in {name.partition(".")[0] for name in imports(path)}


def test_the_farms_modules_form_no_cycle() -> None:
    names = {
        f"wheelbuild.{'.'.join(p.relative_to(FARM).with_suffix('').parts)}" for p in FARM_MODULES
    }
    names |= {name.removesuffix(".__init__") for name in names}
    graph = {}
    for path in FARM_MODULES:
        own = f"wheelbuild.{'.'.join(path.relative_to(FARM).with_suffix('').parts)}"
        found = imports_at_the_top(path)
        graph[own] = {n for n in found | {n.rpartition(".")[0] for n in found} if n in names} - {
            own
        }
    left = dict(graph)
    while True:
        free = [name for name, needs in left.items() if not needs & left.keys()]
        if not free:
            break
        for name in free:
            del left[name]
    assert not left, f"import each other: {sorted(left)}"


def farm_name(path: Path) -> str:
    return ".".join(("wheelbuild", *path.relative_to(FARM).with_suffix("").parts))


def imports_at_the_top(path: Path) -> set[str]:
    """Without what is imported inside functions or for types."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_installer_is_a_project_folder_not_a_package() -> None:
    """With an `__init__.py`, pypa's `installer` could not be imported from the root."""
    assert not (ROOT / "installer" / "__init__.py").exists()
