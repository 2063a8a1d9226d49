"""The index met by its readers: real pip and real uv, with PyPI's unrelated `apex` in reach.

What stands for PyPI holds newer torches, and as `apex` the real one's 0.9.10.dev0 and two traps
that it never had, a final 0.9.10 and a 99.0. The cell is that of the documentation's commands, so
that they run as they are printed, with nothing but the index's address put in.
"""

from __future__ import annotations

import functools
import http.server
import re
import shlex
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from support.clients import Clients, Ran, Target, make_target
from support.index_wheels import CellWheel, write_cell_wheel, write_simple_index, write_wheel
from wheelbuild.publish import publish, yank
from wheelbuild.serve import IndexServer
from wheelbuild.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]
PYTHON = f"cp{sys.version_info.major}{sys.version_info.minor}"
OTHER_PYTHON = "cp310" if PYTHON != "cp310" else "cp311"
VERSION = "0.1+20250411.cu121.torch2.4"
PIN = f"apex=={VERSION}"
PATH = "cu121/torch2.4/simple/"
PAGES = {f"/{PATH}", f"/{PATH}apex/"}


@dataclass(frozen=True)
class World:
    """Our index, what stands for PyPI, and the clients between them."""

    farm: IndexServer
    pypi: IndexServer
    clients: Clients
    folder: Path
    installed: tuple[Path, ...]
    """Wheels of torch and its dependencies."""

    @property
    def index(self) -> str:
        return f"{self.farm.url}{PATH}"

    @property
    def store(self) -> DirectoryStore:
        return DirectoryStore(self.farm.directory)

    def publish(self, *, python: str = PYTHON, **made: object) -> CellWheel:
        """Publish a wheel of the documentation's cell."""
        cell = f"{python}-torch2.4-cu121-linux_x86_64"
        wheel = write_cell_wheel(self.folder / "built", cell=cell, date="20250411", **made)
        publish(wheel.path, wheel.entry, store=self.store)
        return wheel

    def target(self) -> Target:
        """An environment of torch and its dependencies alone."""
        return make_target(self.folder / "venv", self.installed)

    def fetched(self) -> list[str]:
        """What was fetched of our index, in order; 304 counts."""
        return [r.path for r in self.farm.requests if r.status in {200, 206, 304}]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Path, ...]]:
    """The folder that stands for PyPI, and the wheels of torch 2.4.0 and its dependencies."""
    root = tmp_path_factory.mktemp("pypi")
    built = root / "built"
    torch = write_wheel(built, "torch", "2.4.0", requires=["filelock"])
    filelock = write_wheel(built, "filelock", "3.0")
    others = [
        write_wheel(built, "torch", "2.4.1", requires=["filelock"]),
        write_wheel(built, "torch", "2.12.0", requires=["filelock"]),
        write_wheel(built, "filelock", "4.0"),
        write_wheel(built, "packaging", "25.0"),
        *(write_wheel(built, "apex", version) for version in ("0.9.10.dev0", "0.9.10", "99.0")),
    ]
    write_simple_index(root / "index", [torch, filelock, *others])
    return root / "index", (torch, filelock)


@pytest.fixture
def world(
    shelf: tuple[Path, tuple[Path, ...]], tmp_path: Path, requires_tool: Callable[[str], str]
) -> Iterator[World]:
    root, installed = shelf
    farm, home = tmp_path / "farm", tmp_path / "home"
    farm.mkdir()
    home.mkdir()
    with IndexServer(root) as pypi, IndexServer(farm) as server:
        clients = Clients(home, f"{pypi.url}simple/", requires_tool("uv"))
        yield World(server, pypi, clients, tmp_path, installed)


def documented_lines() -> list[str]:
    """Every pip and uv line of README and docs."""
    files = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files if file.is_file())
    found = re.findall(r"^\s*((?:uv )?pip install .*apex.*)$", text, flags=re.MULTILINE)
    # A line that is cut by `…` is one that people have, to be deleted.
    return [line for line in found if "…" not in line]


def with_address(line: str, world: World) -> str:
    """Put our index's address for the documented one."""
    return re.sub(r"https?://\S*?(?=/cu121/)|<index>(?=/cu121/)", world.farm.url.rstrip("/"), line)


def by_pip(world: World, target: Target, *more: object) -> Ran:
    return world.clients.pip("install", PIN, "--extra-index-url", world.index, *more, target=target)


def by_uv(world: World, target: Target, *more: object) -> Ran:
    words = ("pip", "install", PIN, "--extra-index-url", world.index, "--python", target.python)
    return world.clients.uv(*words, *more)


CLIENTS = pytest.mark.parametrize("install", [by_pip, by_uv], ids=["pip", "uv"])


def check_ours(target: Target, *, inputs: str = "first") -> None:
    """Exactly our wheel, what it needs, and torch as it was."""
    assert target.versions() == {
        "apex": VERSION,
        "filelock": "3.0",
        "packaging": "25.0",
        "torch": "2.4.0",
    }
    assert (target.site_packages / "apex/inputs.py").read_text() == f"# {inputs}\n"


def test_the_documentation_has_lines_for_both() -> None:
    assert {line.split()[0] for line in documented_lines()} == {"pip", "uv"}


@pytest.mark.parametrize("line", documented_lines())
def test_what_is_documented_installs_our_wheel_and_leaves_torch_alone(
    world: World, line: str
) -> None:
    world.publish()
    target = world.target()
    before = target.state_of("torch", "filelock")
    client, *words = shlex.split(with_address(line, world))
    assert "--index-url" not in words
    if client == "pip":
        ran = world.clients.pip(*words, target=target)
    else:
        ran = world.clients.uv(*words, "--python", target.python)
    assert ran.code == 0, ran
    check_ours(target)
    assert target.state_of("torch", "filelock") == before


def test_the_first_pages_line_does_the_same(world: World) -> None:
    world.publish()
    page = (world.farm.directory / "index.html").read_text().replace("&#39;", "'")
    (line,) = re.findall(r"<pre>(pip install .*)</pre>", page)
    line = re.sub(r"<[^>]*>", "", line).replace("&lt;", "<").replace("&gt;", ">")
    target = world.target()
    ran = world.clients.pip(*shlex.split(with_address(line, world))[1:], target=target)
    assert ran.code == 0, ran
    check_ours(target)


@CLIENTS
def test_a_pin_takes_ours_and_never_moves_torch(world: World, install: Callable[..., Ran]) -> None:
    world.publish()
    target = world.target()
    before = target.state_of("torch", "filelock")
    ran = install(world, target)
    assert ran.code == 0, ran
    check_ours(target)
    assert target.state_of("torch", "filelock") == before


@CLIENTS
def test_the_python_only_wheel_is_taken_by_its_own_pin_at_its_own_path_alone(
    world: World, install: Callable[..., Ran]
) -> None:
    world.publish()
    made = write_cell_wheel(world.folder / "built", cell="python", date="20250411")
    publish(made.path, made.entry, store=world.store)
    pages = [path for path in world.farm.directory.rglob("*.html") if "simple" in path.parts]
    listing = {path for path in pages if made.path.name in unquote(path.read_text())}
    assert listing == {world.farm.directory / "python/simple/apex/index.html"}
    # Its pin at the other path finds nothing, and the other pin is not met by it.
    pin = "apex==0.1+20250411.python"
    ran = world.clients.pip("install", pin, "--extra-index-url", world.index, target=world.target())
    assert ran.code != 0
    assert install(world, world.target()).code == 0
    target = make_target(world.folder / "other", world.installed)
    words = ["install", pin, "--extra-index-url", f"{world.farm.url}python/simple/"]
    if install is by_pip:
        ran = world.clients.pip(*words, target=target)
    else:
        ran = world.clients.uv("pip", *words, "--python", target.python)
    assert ran.code == 0, ran
    assert target.versions()["apex"] == "0.1+20250411.python"


@CLIENTS
@pytest.mark.parametrize("flag", ["--upgrade", "--pre"])
def test_nor_with_flags_that_reach_for_newer(
    world: World, install: Callable[..., Ran], flag: str
) -> None:
    if install is by_uv and flag == "--pre":
        flag = "--prerelease=allow"
    world.publish()
    target = world.target()
    ran = install(world, target, flag)
    assert ran.code == 0, ran
    assert target.versions()["apex"] == VERSION
    assert target.versions()["torch"].startswith("2.4.")


@CLIENTS
@pytest.mark.parametrize("ending", ["", ".metadata"])
def test_other_bytes_are_refused(world: World, install: Callable[..., Ran], ending: str) -> None:
    """A sound wheel, but not ours: the page's digests are enforced with no flag given."""
    made = world.publish()
    file = world.farm.directory / f"files/{made.entry.sha256}/{made.entry.file}{ending}"
    other = write_cell_wheel(world.folder, cell=made.entry.cell, date="20250411", inputs="other")
    assert other.path.name == made.path.name
    file.write_bytes(file.read_bytes() + b"\n" if ending else other.path.read_bytes())
    target = world.target()
    ran = install(world, target)
    assert ran.code != 0
    assert re.search(r"hash", ran.said, re.IGNORECASE), ran
    assert "apex" not in target.versions()


@CLIENTS
def test_no_wheel_for_this_python_is_an_error_and_never_pypis_apex(
    world: World, install: Callable[..., Ran]
) -> None:
    world.publish(python=OTHER_PYTHON)
    target = world.target()
    before = target.state_of("")
    ran = install(world, target)
    assert ran.code != 0
    assert VERSION in ran.said
    assert target.versions() == {"filelock": "3.0", "torch": "2.4.0"}
    assert target.state_of("") == before


@CLIENTS
def test_another_torch_is_an_error_and_torch_stays(
    world: World, install: Callable[..., Ran]
) -> None:
    """The wheel's own pin: asked for beside another torch, it is not installed over it."""
    world.publish()
    target = world.target()
    ran = install(world, target, "torch==2.12.0")
    assert ran.code != 0
    assert target.versions() == {"filelock": "3.0", "torch": "2.4.0"}


@CLIENTS
def test_build_tag_2_is_taken_over_none_at_once(world: World, install: Callable[..., Ran]) -> None:
    """Also by a client that has the older page in its cache."""
    world.publish()
    target = world.target()
    assert install(world, target).code == 0
    check_ours(target, inputs="first")
    world.publish(build_tag=2, inputs="second")
    again = make_target(world.folder / "again", world.installed)
    ran = install(world, again)
    assert ran.code == 0, ran
    check_ours(again, inputs="second")


@pytest.mark.parametrize(("install", "taken"), [(by_pip, "first"), (by_uv, "second")])
def test_a_yanked_build_gives_way_to_the_one_before(
    world: World, install: Callable[..., Ran], taken: str
) -> None:
    """With pip. PEP 592 lets a client meet a pin with a yanked file: uv does, and warns."""
    world.publish()
    bad = world.publish(build_tag=2, inputs="second")
    yank(bad.path.name, reason="wrong on sm_89", store=world.store)
    target = world.target()
    ran = install(world, target)
    assert ran.code == 0, ran
    check_ours(target, inputs=taken)
    assert ("wrong on sm_89" in ran.said) == (taken == "second")


def test_a_suffixed_wheel_is_met_at_its_own_index_path_alone(world: World) -> None:
    world.publish()
    world.publish(suffix="norm")
    target = world.target()
    assert by_pip(world, target).code == 0
    check_ours(target)
    own = world.index.replace("simple/", "norm/simple/")
    words = ("install", f"{PIN}.norm", "--extra-index-url")
    assert world.clients.pip(*words, world.index, target=target).code != 0
    assert world.clients.pip(*words, own, target=target).code == 0
    assert target.versions()["apex"] == f"{VERSION}.norm"


@CLIENTS
def test_a_dry_run_fetches_page_and_sidecar_and_no_wheel(
    world: World, install: Callable[..., Ran]
) -> None:
    entry = world.publish().entry
    ran = install(world, world.target(), "--dry-run")
    assert ran.code == 0, ran
    fetched = set(world.fetched()) - PAGES
    assert fetched == {f"/files/{entry.sha256}/{entry.file}.metadata"}
    assert f"/{PATH}apex/" in world.fetched()


@CLIENTS
def test_an_unchanged_page_is_not_sent_again(world: World, install: Callable[..., Ran]) -> None:
    world.publish()
    for _ in range(2):
        assert install(world, world.target(), "--dry-run").code == 0
    statuses = [r.status for r in world.farm.requests if r.path == f"/{PATH}apex/"]
    assert statuses == [200, 304]


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_from_any_static_server_below_any_prefix(world: World, client: str) -> None:
    """As on GitHub Pages: HTML by whatever name, a repository's name in front."""
    world.publish()
    target = world.target()
    with static_server(world.farm.directory.parent) as url:
        words = ("install", PIN, "--extra-index-url", f"{url}{world.farm.directory.name}/{PATH}")
        if client == "pip":
            ran = world.clients.pip(*words, target=target)
        else:
            ran = world.clients.uv("pip", *words, "--python", target.python)
    assert ran.code == 0, ran
    check_ours(target)


@contextmanager
def static_server(directory: Path) -> Iterator[str]:
    """The standard library's, which knows nothing of an index."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    handler = functools.partial(Handler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_from_a_folder_without_a_server(world: World, client: str) -> None:
    world.publish()
    target = world.target()
    words = ("install", PIN, "--extra-index-url", f"{world.farm.directory.as_uri()}/{PATH}")
    if client == "pip":
        ran = world.clients.pip(*words, target=target)
    else:
        ran = world.clients.uv("pip", *words, "--python", target.python)
    assert ran.code == 0, ran
    check_ours(target)
    assert world.farm.requests == []


@pytest.mark.parametrize("good", [True, False], ids=["right", "wrong"])
def test_pip_download_with_a_required_hash(world: World, *, good: bool) -> None:
    made = world.publish()
    digest = made.entry.sha256 if good else 64 * "0"
    requirements = world.folder / "requirements.txt"
    requirements.write_text(f"--extra-index-url {world.index}\n{PIN} --hash=sha256:{digest}\n")
    got = world.folder / "got"
    words = ("download", "--no-deps", "--require-hashes", "-r", requirements, "-d", got)
    ran = world.clients.pip(*words, target=world.target())
    assert (ran.code == 0) == good, ran
    files = list(got.iterdir()) if got.is_dir() else []
    if good:
        assert [file.name for file in files] == [made.path.name]
        assert sha256(files[0].read_bytes()).hexdigest() == digest
    else:
        assert not files


def test_the_documented_requirements_with_a_hash(world: World) -> None:
    made = world.publish()
    text = (REPOSITORY / "docs/how-to/pip-and-uv.md").read_text(encoding="utf-8")
    found = re.search(r"```\n(--extra-index-url.*?)```.*?```sh\n(.*?)```", text, re.DOTALL)
    assert found
    requirements = with_address(found[1], world).replace("<hash>", made.entry.sha256)
    (world.folder / "requirements.txt").write_text(requirements)
    target = world.target()
    for line in found[2].splitlines():
        ran = world.clients.pip(*shlex.split(line)[1:], target=target, cwd=world.folder)
        assert ran.code == 0, ran
    check_ours(target)


def test_uv_pip_compile_writes_our_hash_and_both_clients_install_from_it(world: World) -> None:
    made = world.publish()
    source, locked = world.folder / "requirements.in", world.folder / "requirements.txt"
    source.write_text(f"{PIN}\ntorch==2.4.0\nfilelock==3.0\n")
    ran = world.clients.uv(
        *("pip", "compile", "--generate-hashes", source, "-o", locked),
        *("--extra-index-url", world.index, "--python-version", PYTHON.replace("cp3", "3.")),
    )
    assert ran.code == 0, ran
    text = locked.read_text()
    assert f"{PIN} \\\n    --hash=sha256:{made.entry.sha256}" in text
    assert re.findall(r"^apex.*$", text, re.MULTILINE) == [f"{PIN} \\"]
    common = ("--require-hashes", "-r", locked, "--extra-index-url", world.index)
    target = world.target()
    ran = world.clients.pip("install", *common, target=target)
    assert ran.code == 0, ran
    check_ours(target)
    other = make_target(world.folder / "other", world.installed)
    ran = world.clients.uv("pip", "install", *common, "--python", other.python)
    assert ran.code == 0, ran
    check_ours(other)


def write_project(world: World, *, text: str) -> Path:
    """A project with the documented uv tables, and torch as its environment has it."""
    tables = with_address(text, world).replace(
        "[project]",
        '[project]\nname = "app"\nversion = "1"\n'
        f'requires-python = "=={PYTHON.replace("cp3", "3.")}.*"',
    )
    tables = tables.replace(f'"{PIN}"', f'"{PIN}", "filelock==3.0"')
    project = world.folder / "app"
    project.mkdir(exist_ok=True)
    (project / "pyproject.toml").write_text(tables)
    return project


def documented_tables() -> str:
    text = (REPOSITORY / "docs/how-to/pip-and-uv.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    return found


def first_pages_tables(world: World) -> str:
    page = (world.farm.directory / "index.html").read_text()
    (found,) = re.findall(r"<pre>(\[tool\.uv.*?)</pre>", page, flags=re.DOTALL)
    found = re.sub(r"<[^>]*>", "", found)
    for entity, sign in (("&lt;", "<"), ("&gt;", ">"), ("&#34;", '"')):
        found = found.replace(entity, sign)
    return f'[project]\ndependencies = ["{PIN}", "torch==2.4.0"]\n{found}'


@pytest.mark.parametrize("source", ["docs", "first page"])
def test_uv_lock_and_sync_with_an_explicit_index(world: World, source: str) -> None:
    made = world.publish()
    text = documented_tables() if source == "docs" else first_pages_tables(world)
    assert "explicit = true" in text
    project = write_project(world, text=text)
    ran = world.clients.uv("lock", cwd=project)
    assert ran.code == 0, ran
    lock = (project / "uv.lock").read_text()
    assert made.entry.sha256 in lock
    assert re.findall(r'name = "apex"\nversion = "([^"]+)"', lock) == [VERSION]
    target = world.target()
    before = target.state_of("torch", "filelock")
    environ = {"UV_PROJECT_ENVIRONMENT": str(target.python.parents[1])}
    ran = world.clients.uv("sync", "--locked", cwd=project, **environ)
    assert ran.code == 0, ran
    check_ours(target)
    assert target.state_of("torch", "filelock") == before
    # explicit: PyPI is not even asked for `apex`, nor are we for anything else.
    assert not [r for r in world.pypi.requests if "apex" in r.path]
    assert {r.path for r in world.farm.requests if r.path not in PAGES} == {
        f"/files/{made.entry.sha256}/{made.entry.file}{ending}" for ending in ("", ".metadata")
    }


def test_uv_lock_without_a_wheel_for_this_python_never_takes_pypis(world: World) -> None:
    world.publish(python=OTHER_PYTHON)
    project = write_project(world, text=documented_tables())
    environ = {"UV_PROJECT_ENVIRONMENT": str(world.target().python.parents[1])}
    locked = world.clients.uv("lock", cwd=project)
    synced = world.clients.uv("sync", cwd=project, **environ)
    assert synced.code != 0, synced
    assert locked.code != 0 or VERSION in (project / "uv.lock").read_text()
    assert not [r for r in world.pypi.requests if "apex" in r.path]
