"""What every test may ask for, and the three rules of the house about skipping.

A missing tool skips its tests, and the tools are listed at the end. With `CI=true` a skip that the
machine could have avoided fails the run. Long counts (`soak`) run only when asked for.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

TESTS = Path(__file__).parent
sys.path.insert(0, str(TESTS))  # for `from support.<noun> import …`: importlib mode adds nothing

from support import skips  # noqa: E402 - needs the line above
from support.machine import farm_cache, find_interpreter, has_gpu  # noqa: E402
from support.toolkits import find_or_compose_toolkit  # noqa: E402
from support.torch_environments import TorchEnvironment, torch_environment  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(skips.SkipCount(), "skip-count")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long counts, and only when asked")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--soak"):
        return
    long = [item for item in items if item.get_closest_marker("soak")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not has_gpu():
        pytest.skip(skips.NO_GPU)
    if item.get_closest_marker("apex") and not os.environ.get("WHEELBUILD_TEST_APEX_SOURCE"):
        pytest.skip(skips.NO_APEX_SOURCE)


@pytest.fixture(scope="session")
def requires_tool() -> Callable[[str], str]:
    """`strace = requires_tool("strace")`: the tool's path, or a skip that names it."""

    def find(name: str) -> str:
        scripts = Path(sys.executable).parent  # tools from PyPI stand beside our own Python
        found = shutil.which(name) or shutil.which(name, path=str(scripts))
        if not found:
            pytest.skip(f"no {name}")
        return found

    return find


@pytest.fixture(scope="session")
def requires_python() -> Callable[[str], str]:
    """`python = requires_python("3.9")`: an interpreter that really runs, or a skip."""

    def find(minor: str) -> str:
        found = find_interpreter(minor)
        if not found:
            pytest.skip(f"no python{minor}")
        return found

    return find


@pytest.fixture(scope="session")
def apex_source() -> Path:
    """A checkout of NVIDIA Apex; use it with the marker `apex`."""
    directory = os.environ.get("WHEELBUILD_TEST_APEX_SOURCE")
    if not directory:
        pytest.skip(skips.NO_APEX_SOURCE)
    return Path(directory)


@pytest.fixture(scope="session")
def cache() -> Path:
    """The farm's cache: what is downloaded once and shared by all tests."""
    return farm_cache()


@pytest.fixture(scope="session")
def torch_211(cache: Path) -> TorchEnvironment:
    """torch 2.11.0 (CUDA 13.0), downloaded once (4.7 GB on disk)."""
    return torch_environment("2.11.0", cache=cache)


@pytest.fixture(scope="session")
def torch_26(cache: Path) -> TorchEnvironment:
    """torch 2.6.0 (CUDA 12.4), downloaded once."""
    return torch_environment("2.6.0", cache=cache)


@pytest.fixture(scope="session")
def cuda_130(torch_211: TorchEnvironment, cache: Path) -> Path:
    """A CUDA 13.0 toolkit: an nvcc 13.0 that is there, else one composed from PyPI's wheels."""
    return find_or_compose_toolkit("13.0", torch=torch_211, cache=cache)
