"""The symbol check against the real loader, on modules for two torches and on their mutants."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apex_installer.errors import CheckError
from apex_installer.read.interpreter import read_interpreter
from apex_installer.read.symbols import MissingSymbol, check_symbols
from apex_installer.read.torch_files import find_torch, read_torch
from support.elf_mutants import list_mutants, sample
from support.loader import ask_loader
from support.probe_modules import compile_cuda, compile_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apex_installer.model.environment import Interpreter, Torch
    from support.torch_environments import TorchEnvironment

pytestmark = [pytest.mark.integration, pytest.mark.compile]

SEED = 20261124


@dataclass(frozen=True)
class Target:
    """A torch to check against."""

    python: Path
    interpreter: Interpreter
    torch: Torch

    def check(self, module: Path) -> tuple[MissingSymbol, ...]:
        return check_symbols([str(module)], interpreter=self.interpreter, torch=self.torch)


@pytest.fixture(scope="session")
def targets(torch_211: TorchEnvironment, torch_26: TorchEnvironment) -> tuple[Target, Target]:
    return _target(torch_211), _target(torch_26)


@pytest.fixture(scope="session")
def modules(
    torch_211: TorchEnvironment,
    torch_26: TorchEnvironment,
    requires_tool: Callable[[str], str],
    cache: Path,
) -> tuple[Path, ...]:
    """Ours for torch 2.11.0, one for 2.6.0, and Apex's in WHEELBUILD_TEST_APEX_MODULES."""
    cxx = requires_tool("g++")
    given = os.environ.get("WHEELBUILD_TEST_APEX_MODULES")
    return (
        compile_plain(torch_211, cxx=cxx, cache=cache),
        compile_cuda(torch_211, cxx=cxx, cache=cache),
        compile_plain(torch_26, cxx=cxx, cache=cache),
        *(sorted(Path(given).rglob("*.so")) if given else ()),
    )


def test_every_module_in_every_torch_as_the_loader_says(
    modules: tuple[Path, ...], targets: tuple[Target, Target]
) -> None:
    for target in targets:
        assert disagreements(modules, target) == []


def test_a_module_fits_its_own_torch_and_not_the_other(
    modules: tuple[Path, ...], targets: tuple[Target, Target]
) -> None:
    new, old = targets
    plain_new, _, plain_old, *_ = modules
    assert new.check(plain_new) == ()
    assert old.check(plain_old) == ()
    assert new.check(plain_old) != ()
    assert old.check(plain_new) != ()


def test_a_refusal_names_the_symbol_and_who_should_have_had_it(
    modules: tuple[Path, ...], targets: tuple[Target, Target]
) -> None:
    lines = [missing.line for missing in targets[1].check(modules[0])]
    assert any(
        "c10::detail::torchCheckFail(char const*, char const*, unsigned int, std::__cxx11::" in line
        and "libc10.so of torch 2.6.0+cu124 does not define it" in line
        for line in lines
    ), lines


def test_a_library_that_is_not_there_is_named(
    modules: tuple[Path, ...], targets: tuple[Target, Target], tmp_path: Path
) -> None:
    (mutant, *_) = [one for one in list_mutants(modules[0]) if one.kind == "needed-renamed"]
    (missing, *_) = targets[0].check(mutant.write(modules[0], tmp_path, 0))
    assert missing.line.endswith(f"needs {mutant.what[1:]}, which is not found")


def test_a_sample_of_mutants_as_the_loader_says(
    modules: tuple[Path, ...], targets: tuple[Target, Target], tmp_path: Path
) -> None:
    mutants = write_mutants(modules[:3], 20, tmp_path)
    assert len(mutants) == 60
    for target in targets:
        assert disagreements(mutants, target) == []


@pytest.mark.soak
def test_every_mutant_as_the_loader_says(
    modules: tuple[Path, ...],
    targets: tuple[Target, Target],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mutants = write_mutants(modules, None, tmp_path)
    assert len(mutants) >= 200
    wrong: list[str] = []
    accepted: set[Path] = set()
    for target in targets:
        said = ask_loader(target.python, mutants)
        taken = Counter(kind_of(path) for path in mutants if said[path] is None)
        made = Counter(map(kind_of, mutants))
        of_kinds = {kind: f"{taken[kind]}/{count}" for kind, count in made.items()}
        accepted |= {path for path in mutants if said[path] is None}
        wrong += compare(said, target)
        summary = {"torch": target.torch.version, "mutants": len(mutants), "accepted": of_kinds}
        with capsys.disabled():
            print(f"\n{json.dumps({**summary, 'accepted_in_all': taken.total()})}")  # noqa: T201
    assert wrong == []
    assert len(accepted) >= len(mutants) / 4  # by the loader of one torch or the other


def kind_of(mutant: Path) -> str:
    """From the name that `Mutant.write` gives: `0012@needed-dropped@probe_plain….so`."""
    return mutant.name.split("@")[1]


def disagreements(files: Sequence[Path], target: Target) -> list[str]:
    """Where our verdict is not the loader's."""
    return compare(ask_loader(target.python, files), target)


def compare(said: dict[Path, str | None], target: Target) -> list[str]:
    wrong = []
    for path, word in said.items():
        ours = verdict(path, target)
        if (word is None) != (ours == []):
            wrong.append(f"{path.name} in {target.torch.version}: loader {word}; ours {ours}")
    return wrong


def verdict(path: Path, target: Target) -> list[str]:
    try:
        return [missing.line for missing in target.check(path)]
    except CheckError as error:
        return [str(error)]


def write_mutants(modules: Sequence[Path], each: int | None, folder: Path) -> list[Path]:
    """Files with `each` mutants of every module, or all."""
    paths = []
    for place, module in enumerate(modules):
        mutants = list_mutants(module)
        chosen = mutants if each is None else sample(mutants, each, seed=SEED)
        for number, mutant in enumerate(chosen):
            paths.append(mutant.write(module, folder, 1000 * place + number))
    return paths


def _target(environment: TorchEnvironment) -> Target:
    interpreter = read_interpreter(str(environment.python))
    directory = find_torch(interpreter.path)
    assert directory is not None
    return Target(environment.python, interpreter, read_torch(directory))
