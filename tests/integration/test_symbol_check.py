"""The symbol check against the real loader, on modules for two torches and on their mutants."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apex_installer.errors import CheckError
from apex_installer.read.elf import ElfFile
from apex_installer.read.interpreter import read_interpreter
from apex_installer.read.symbols import MissingSymbol, check_symbols
from apex_installer.read.torch_files import find_torch, read_torch
from support.apex_wheel import find_apex_wheel
from support.elf_mutants import list_mutants, sample
from support.loader import loader
from support.probe_modules import compile_cuda, compile_plain
from wheelbuild.wheelfile import find_modules, unpack_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

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
    """Two of ours for torch 2.11.0 and one for 2.6.0."""
    cxx = requires_tool("g++")
    return (
        compile_plain(torch_211, cxx=cxx, cache=cache),
        compile_cuda(torch_211, cxx=cxx, cache=cache),
        compile_plain(torch_26, cxx=cxx, cache=cache),
    )


@pytest.fixture(scope="session")
def apex_modules(
    torch_211: TorchEnvironment, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ...]:
    """Apex's own, for torch 2.11.0."""
    folder = tmp_path_factory.mktemp("apex")
    unpack_wheel(find_apex_wheel(torch_211, cache=cache), into=folder)
    return tuple(find_modules(folder).values())


def test_every_module_in_every_torch_as_the_loader_says(
    modules: tuple[Path, ...], targets: tuple[Target, Target]
) -> None:
    assert compare(modules, targets).wrong == []


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


def test_who_is_named_has_the_symbol_in_the_torch_that_the_module_was_built_for(
    modules: tuple[Path, ...], targets: tuple[Target, Target]
) -> None:
    new, old = targets
    plain_new, cuda_new, plain_old = modules
    for module, own, other in ((plain_new, new, old), (cuda_new, new, old), (plain_old, old, new)):
        assert wrongly_named([module], own=own, other=other) == []


def test_a_library_that_is_not_there_is_named(
    modules: tuple[Path, ...], targets: tuple[Target, Target], tmp_path: Path
) -> None:
    (mutant, *_) = [one for one in list_mutants(modules[0]) if one.kind == "needed-renamed"]
    (missing, *_) = targets[0].check(mutant.write(modules[0], tmp_path, 0))
    assert missing.line.endswith(f"needs {mutant.what[1:]}, which is not found")


def test_a_sample_of_mutants_as_the_loader_says(
    modules: tuple[Path, ...], targets: tuple[Target, Target], tmp_path: Path
) -> None:
    found = compare(written_mutants(modules, tmp_path, each=20), targets)
    assert found.wrong == []
    assert found.files == 60


@pytest.mark.soak
def test_every_mutant_as_the_loader_says(
    modules: tuple[Path, ...],
    targets: tuple[Target, Target],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = compare(written_mutants(modules, tmp_path), targets)
    show(found, capsys)
    assert found.wrong == []
    assert found.files >= 200
    assert found.accepted_by_one >= found.files / 4


@pytest.mark.soak
def test_every_module_of_apex_as_the_loader_says(
    apex_modules: tuple[Path, ...], targets: tuple[Target, Target]
) -> None:
    assert len(apex_modules) == 12
    found = compare(apex_modules, targets)
    assert found.wrong == []
    assert found.accepted == {("2.11.0+cu130", "as built"): 12}
    assert wrongly_named(apex_modules, own=targets[0], other=targets[1]) == []


@pytest.mark.soak
def test_every_mutant_of_apex_as_the_loader_says(
    apex_modules: tuple[Path, ...],
    targets: tuple[Target, Target],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = compare(written_mutants(apex_modules, tmp_path), targets)
    show(found, capsys)
    assert found.wrong == []
    assert found.files >= 200
    assert found.accepted_by_one >= found.files / 4


def wrongly_named(modules: Sequence[Path], *, own: Target, other: Target) -> list[str]:
    """Lines against modules in the other torch that name who lacks the symbol in their own too."""
    lines, symbols = [], 0
    for module in modules:
        for missing in other.check(module):
            if missing.kind == "symbol":
                symbols += 1
                library = Path(own.torch.directory) / "lib" / (missing.library or "unnamed")
                with ElfFile(str(library)) if library.is_file() else nullcontext() as elf:
                    if elf is None or not elf.defines(missing.name, missing.version):
                        lines.append(missing.line)
    assert symbols or not modules, "no symbol is missing: nothing was tried"
    return lines


@dataclass
class Comparison:
    """Our verdicts beside the loaders' own."""

    made: Counter[str]
    """Files of each kind."""
    accepted: Counter[tuple[str, str]]
    """(torch, kind) -> files that its loader takes."""
    wrong: list[str]
    """Where the two differ."""
    accepted_by_one: int = 0
    """Files that the loader of at least one torch takes."""

    @property
    def files(self) -> int:
        return self.made.total()


def compare(files: Iterable[Path], targets: Sequence[Target]) -> Comparison:
    """Ask each target's loader and us of every file, one after the other."""
    found = Comparison(Counter(), Counter(), [])
    with ExitStack() as stack:
        asked = [(target, stack.enter_context(loader(target.python))) for target in targets]
        for path in files:
            found.made[kind_of(path)] += 1
            said = {
                target.torch.version: (ask(path), verdict(path, target)) for target, ask in asked
            }
            for torch, (word, ours) in said.items():
                found.accepted[torch, kind_of(path)] += word is None
                if (word is None) != (ours == []):
                    found.wrong.append(f"{path.name} in {torch}: loader {word}; ours {ours}")
            found.accepted_by_one += any(word is None for word, _ in said.values())
    found.accepted = +found.accepted
    return found


def kind_of(path: Path) -> str:
    """From the name that `Mutant.write` gives: `0012@needed-dropped@probe_plain….so`."""
    _, kind, *_ = path.name.split("@") if "@" in path.name else ("", "as built")
    return kind


def written_mutants(
    modules: Sequence[Path], folder: Path, *, each: int | None = None
) -> Iterator[Path]:
    """Files with `each` mutants of every module, or all; gone when the next one is asked for."""
    for place, module in enumerate(modules):
        mutants = list_mutants(module)
        chosen = mutants if each is None else sample(mutants, each, seed=SEED)
        for number, mutant in enumerate(chosen):
            path = mutant.write(module, folder, 1000 * place + number)
            yield path
            path.unlink()


def show(found: Comparison, capsys: pytest.CaptureFixture[str]) -> None:
    """For the committed results."""
    for torch in sorted({torch for torch, _ in found.accepted}):
        kinds = {
            kind: f"{found.accepted[torch, kind]}/{count}" for kind, count in found.made.items()
        }
        with capsys.disabled():
            print(f"\n{torch}: of {found.files} mutants it accepts {json.dumps(kinds)}")  # noqa: T201


def verdict(path: Path, target: Target) -> list[str]:
    try:
        return [missing.line for missing in target.check(path)]
    except CheckError as error:
        return [str(error)]


def _target(environment: TorchEnvironment) -> Target:
    interpreter = read_interpreter(str(environment.python))
    directory = find_torch(interpreter.path)
    assert directory is not None
    return Target(environment.python, interpreter, read_torch(directory))
