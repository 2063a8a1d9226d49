"""Run the stale nodes of a graph: as wide as allowed, long chains first, all ended on any exit."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from apex_installer.errors import CompileError, DeadlineError
from apex_installer.make.estimate import pace, rank, time_left
from apex_installer.make.first_error import find_first_error, was_killed_for_memory
from apex_installer.make.freshness import Keys, Work
from apex_installer.make.graph import CUDA, HEADER, HEADER_SOURCE, LINK, Graph, Node, place
from apex_installer.make.process import Child, Ended, end_tree, new_tree
from apex_installer.make.progress import Progress
from apex_installer.make.slots import Slots
from apex_installer.make.store import Store, parse_depfile
from apex_installer.make.threads import choose_threads, with_threads

_TICK = 0.02
"""Seconds between looks at the children."""


@dataclass(frozen=True)
class Settings:
    """How to run."""

    environ: Mapping[str, str]
    temporary: str
    """Private folder, removed by the caller."""
    log: str
    """The whole log; appended to."""
    width: int
    slots: Optional[str] = None
    """Folder of the slots that builds at the same time share."""
    prefixes: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)
    """By a node's kind: what its command is run by, a compiler cache."""
    ends_at: Optional[float] = None
    """Time of `time.monotonic`, or no limit."""
    nice: int = 0


@dataclass(frozen=True)
class Ran:
    """One node that was run: a line of the timeline. Times in seconds from the run's start."""

    label: str
    kind: str
    module: str
    start: float
    end: float
    cpu_seconds: float
    peak_bytes: int
    plain: bool
    """Whether the captured command had to be taken, since the rewritten one failed."""
    threads: int
    """Architectures compiled at once: places of the width that it took."""

    def to_json(self) -> Dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Made:
    """What a run made."""

    paths: Mapping[str, str]
    """By node name: fresh and found ones."""
    ran: Mapping[str, Ran]
    """By node name: those that were run."""


@dataclass(frozen=True)
class _Started:
    node: Node
    child: Child
    at: float
    since: float
    made: str
    words: str
    argv: Tuple[str, ...]
    slim: bool
    """Whether the rewritten command was run; False: the captured one."""
    slots: Sequence[int]
    """What it holds of the width: one per thread."""


def run_graph(
    graph: Graph,
    work: Work,
    *,
    store: Store,
    keys: Keys,
    seconds: Mapping[str, float],
    settings: Settings,
    on_progress: Callable[[Progress], None],
) -> Made:
    """Make all that is stale. `seconds` are estimates by node name.

    CompileError holds the first error with file and line, DeadlineError how far it came; on these
    as on every other exception no compiler is left. What was made before is kept.
    """
    run = _Run(graph, work, store=store, keys=keys, seconds=seconds, settings=settings)
    try:
        while run.step():
            on_progress(run.progress())
            run.check_time()
        if work.stale:
            on_progress(run.progress())
    finally:
        run.end_all()
    return Made(run.paths, run.ran)


class _Run:
    """The state of one run: what waits, what runs, what is made."""

    def __init__(
        self,
        graph: Graph,
        work: Work,
        *,
        store: Store,
        keys: Keys,
        seconds: Mapping[str, float],
        settings: Settings,
    ) -> None:
        self.paths: Dict[str, str] = dict(work.ready)
        self.ran: Dict[str, Ran] = {}
        self._store, self._keys, self._settings = store, keys, settings
        self._seconds = seconds
        self._ranks = rank(graph, seconds)
        self._waiting = sorted(work.stale, key=lambda node: -self._ranks[node.name])
        self._total = len(work.stale)
        self._running: List[_Started] = []
        self._headers: Dict[str, Tuple[str, ...]] = {}
        self._coming: Set[str] = {node.name for node in work.stale if node.kind == HEADER}
        self._plain: Set[str] = set()
        self._starved: Set[str] = set()
        self._width = settings.width
        self._slots = Slots(settings.slots, settings.width)
        self._began = time.monotonic()
        self._count = 0
        self._tree = new_tree()

    def step(self) -> bool:
        """Start what can be, take what has ended; False when all is made."""
        ended = [(one, how) for one in self._running for how in [one.child.poll()] if how]
        now = time.monotonic() - self._began
        for one, _ in ended:
            self._running.remove(one)
            self._slots.give_back(one.slots)
        # First fill the free places, then do the book-keeping.
        self._start_ready()
        for one, how in ended:
            self._take(one, how, at=now)
        if not ended:
            time.sleep(_TICK)
        return bool(self._running or self._waiting)

    def progress(self) -> Progress:
        now = time.monotonic() - self._began
        known = self._seconds
        running = [(known[one.node.name], now - one.at) for one in self._running]
        taken = [(known[name], one.end - one.start) for name, one in self.ran.items()]
        left = time_left(
            waiting=[known[node.name] for node in self._waiting],
            running=running,
            width=self._width,
            pace=pace([*taken, *((one, passed) for one, passed in running if passed > one)]),
        )
        return Progress(len(self.ran), self._total, now, left)

    def check_time(self) -> None:
        ends_at = self._settings.ends_at
        if ends_at is not None and time.monotonic() > ends_at:
            raise DeadlineError(
                f"the time limit ran out with {len(self.ran)} of {self._total} steps done; "
                f"what is done is kept for the next try; see {self._settings.log}"
            )

    def end_all(self) -> None:
        if self._count:
            end_tree(self._tree, children=[one.child for one in self._running])
        self._slots.close()
        self._running = []

    def _start_ready(self) -> None:
        for node in list(self._waiting):
            free = self._width - sum(len(one.slots) for one in self._running)
            if free <= 0:
                return
            if self._is_ready(node):
                slots = self._slots.take(self._choose_threads(node, free))
                if not slots:
                    return
                self._waiting.remove(node)
                self._start(node, slots=slots)

    def _is_ready(self, node: Node) -> bool:
        return node.header not in self._coming and all(name in self.paths for name in node.needs)

    def _choose_threads(self, node: Node, free: int) -> int:
        if node.kind != CUDA:
            return 1
        # Those that run count whole: what is left of them is as rough as the estimates are.
        left = [*self._waiting, *(one.node for one in self._running)]
        return choose_threads(
            node.argv,
            chain=self._ranks[node.name],
            left=sum(self._seconds[one.name] for one in left),
            width=self._width,
            free=free,
        )

    def _start(self, node: Node, *, slots: Sequence[int]) -> None:
        self._count += 1
        folder = os.path.join(self._settings.temporary, f"{self._count:04d}")
        os.makedirs(folder)
        made = os.path.join(folder, os.path.basename(node.name))
        places = {name: self.paths[name] for name in node.needs}
        places[node.name] = made
        if node.kind == HEADER:
            places[node.source] = made[: -len(".gch")]
            _write(places[node.source], HEADER_SOURCE)
        slim = node.name not in self._plain and (not node.header or node.header in self._headers)
        if slim and node.header:
            header = self.paths[node.header]
            places[header_source(node)] = header[: -len(".gch")]
        slim = slim or not node.plain
        argv = with_threads(place(node.argv if slim else node.plain, places), len(slots))
        argv = (*self._settings.prefixes.get(node.kind, ()), *argv)
        words = os.path.join(folder, "words")
        try:
            child = Child(
                argv,
                environ=self._settings.environ,
                folder=folder,
                words=words,
                nice=self._settings.nice,
                tree=self._tree,
            )
        except OSError as error:
            raise CompileError(f"{node.label}: {argv[0]}: {error.strerror}") from error
        at = time.monotonic() - self._began
        self._running.append(_Started(node, child, at, time.time(), made, words, argv, slim, slots))

    def _take(self, one: _Started, how: Ended, *, at: float) -> None:
        words = _read(one.words)
        self._log(one, how, words)
        if how.status == 0:
            self._keep(one, how, at=at)
        elif one.node.kind == HEADER:
            # No header, no harm: its users parse torch/extension.h themselves.
            self._coming.discard(one.node.name)
            self._total -= 1
        elif was_killed_for_memory(words, how.status) and one.node.name not in self._starved:
            self._starved.add(one.node.name)
            self._width = max(self._width // 2, 1)
            self._waiting.insert(0, one.node)
        elif one.node.plain and one.slim:
            self._plain.add(one.node.name)
            self._waiting.insert(0, one.node)
        else:
            error = find_first_error(words, status=how.status)
            raise CompileError(f"{one.node.label}: {error.text}; see {self._settings.log}")

    def _keep(self, one: _Started, how: Ended, *, at: float) -> None:
        node = one.node
        plain = node.name in self._plain
        if node.kind == LINK:
            path = self._keys.module_path(node, self.paths)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.replace(one.made, path)
        elif node.kind == HEADER:
            path = one.made
            self._headers[node.name] = self._inputs(one)
            self._coming.discard(node.name)
        else:
            path = self._store.keep(
                self._keys.command(node),
                made=one.made,
                inputs=(*self._inputs(one), *self._headers.get(node.header, ())),
                since=one.since,
                plain=plain,
            )
        self.paths[node.name] = path
        self.ran[node.name] = Ran(
            label=node.label,
            kind=node.kind,
            module=node.module,
            start=round(one.at, 3),
            end=round(at, 3),
            cpu_seconds=round(how.cpu_seconds, 3),
            peak_bytes=how.peak_bytes,
            plain=plain,
            threads=len(one.slots),
        )

    def _inputs(self, one: _Started) -> Tuple[str, ...]:
        """What the depfile names, but what this run itself wrote."""
        files = parse_depfile(_read(f"{one.made}.d"))
        mine = self._settings.temporary + os.sep
        return tuple(
            os.path.join(os.path.dirname(one.made), file)
            for file in files
            if not file.startswith(mine)
        )

    def _log(self, one: _Started, how: Ended, words: str) -> None:
        with open(self._settings.log, "a", encoding="utf-8") as file:
            file.write(f"+ {shlex.join(one.argv)}\n{words}")
            file.write(
                f"# {one.node.label}: status {how.status}, {how.cpu_seconds:.1f} CPU-s, "
                f"{how.peak_bytes / 1e9:.2f} GB\n"
            )


def header_source(node: Node) -> str:
    """The captured path of the header that a source would include."""
    return node.header[: -len(".gch")]


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
