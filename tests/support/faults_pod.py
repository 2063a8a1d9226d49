"""Faults of an index, and of what a pod is: its variables, its Python, its torch, its user."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from support.fault import BUILDING, CARRYING, NO_REPORT, Fault
from support.start_pod import DOCUMENT
from support.tiny_pod import CPU_PY, ROCM_PY, module_bytes
from support.wheels import MODULE, MadeWheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from support.start_pod import StartPod

INDEX, ENVIRONMENT = "index", "environment"
NOBODY = 65534


def _edited(change: Callable[[dict[str, Any]], object]) -> Callable[[StartPod], object]:
    """The document says something else."""

    def spoil(pod: StartPod) -> None:
        path = pod.tiny.index / DOCUMENT[1:]
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return spoil


def _entry(**fields: object) -> Callable[[StartPod], object]:
    """The only entry lies in these fields."""

    def change(document: dict[str, Any]) -> None:
        for entry in document["entries"]:
            entry.update(fields)

    return _edited(change)


def _lying_about_code(pod: StartPod) -> None:
    """It claims code for 9.0; the module is for 5.0, and its symbols are not torch's."""
    module = module_bytes("5.0", undefined="_Z11not_in_torchv")
    made = pod.tiny.wheel("lying", module_bytes={MODULE: module})
    pod.tiny.offer(made)


def _another_fits(pod: StartPod) -> None:
    """The best entry's bytes are bad, a second wheel is good."""
    better = pod.tiny.wheel("better", build_tag=2)
    bad = MadeWheel(better.path, replace(better.entry, sha256="0" * 64))
    pod.tiny.offer(bad, pod.wheel)


def _stale(pod: StartPod) -> None:
    pod.tiny.served(pod.wheel).unlink()


def _index_is(text: str) -> Callable[[StartPod], object]:
    return lambda pod: (pod.tiny.index / DOCUMENT[1:]).write_text(text)


def _setting(**environ: str) -> Callable[[StartPod], object]:
    return lambda pod: pod.set(**environ)


def _without(*names: str) -> Callable[[StartPod], object]:
    return lambda pod: [pod.environ.pop(name) for name in names]


def _junk(pod: StartPod) -> None:
    """Modules of the standard library's names where PYTHONPATH leads."""
    folder = pod.root / "junk"
    folder.mkdir()
    for name in ("argparse", "json", "typing", "zipfile"):
        (folder / f"{name}.py").write_text("raise RuntimeError('junk')\n")
    pod.set(PYTHONPATH=str(folder))


def _old_python(pod: StartPod) -> None:
    """A `python3` that cannot read our files."""
    first = pod.write_tool("python3", "echo 'SyntaxError: invalid syntax' >&2\nexit 1")
    pod.set(PATH=f"{first.parent}:{pod.tools}")


def _torch_init(text: str) -> Callable[[StartPod], object]:
    return lambda pod: (pod.target / "torch/__init__.py").write_text(text)


def _half_a_torch(pod: StartPod) -> None:
    shutil.rmtree(pod.target / "torch/lib")


def _sitecustomize(text: str) -> Callable[[StartPod], object]:
    return lambda pod: (pod.target / "sitecustomize.py").write_text(text)


def _hanging_app_python(pod: StartPod) -> None:
    path = pod.write_tool("python-of-the-app", "sleep 100 & wait")
    pod.set(APEX_INSTALL_PYTHON=str(path), APEX_INSTALL_DEADLINE="22")  # it is given up after 20 s


def _odd_names(pod: StartPod) -> None:
    """Paths that no ASCII locale can say."""
    cache = pod.root / "Zwischenablage für Räder ☂"
    cache.mkdir()
    pod.set(XDG_CACHE_HOME=str(cache), TMPDIR=pod.environ["TMPDIR"], LC_ALL="C", LANG="C")


def _odd_target(pod: StartPod) -> None:
    target = pod.root / "ziel ü"
    target.mkdir()
    pod.set(
        APEX_INSTALL_TARGET=str(target), LC_ALL="POSIX", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0"
    )


def _closed(numbers: str) -> Callable[[StartPod], object]:
    def spoil(pod: StartPod) -> None:
        pod.closed = numbers

    return spoil


def _no_rights(*, to_the_target: bool) -> Callable[[StartPod], object]:
    """Process rights of an ordinary user, whose are the temporary directory, cache and home alone.

    Root without capabilities is one; our own Python may lie where no other user can read it.
    """

    def spoil(pod: StartPod) -> None:
        own = {Path(pod.environ[name]) for name in ("TMPDIR", "XDG_CACHE_HOME", "HOME")}
        own |= {pod.target} if to_the_target else set()
        for path in (pod.root, *pod.root.rglob("*")):
            if path not in own and not path.is_symlink():
                os.chown(path, NOBODY, NOBODY)
        setpriv = shutil.which("setpriv")
        assert setpriv
        pod.wrapper = (setpriv, "--bounding-set=-all", "--inh-caps=-all")

    return spoil


def _limited(what: str) -> Callable[[StartPod], object]:
    """The installer's Python alone, by the shell's `ulimit`."""

    def spoil(pod: StartPod) -> None:
        pod.write_tool("python3", f'ulimit {what}\nexec "{pod.tiny.python}" "$@"')
        pod.set(APEX_INSTALL_PYTHON=str(pod.tiny.python))

    return spoil


def _clock(when: str) -> Callable[[StartPod], object]:
    def spoil(pod: StartPod) -> None:
        faketime = shutil.which("faketime")
        assert faketime
        pod.wrap_python(faketime, "-f", f"@{when}")

    return spoil


def _same_wheel_already(pod: StartPod) -> None:
    pod.start()


def _foreign_editable(pod: StartPod) -> None:
    """An Apex that nobody owns: no RECORD, so it is never touched."""
    (pod.target / "apex").mkdir()
    (pod.target / "apex/__init__.py").write_text("")


def _hanging_volume(pod: StartPod) -> None:
    """A file system whose server is gone: whoever looks at it waits in the kernel (fuse(4))."""
    script = pod.root / "mount_fuse.py"
    script.write_text(
        "import ctypes, os, sys\n"
        "fd = os.open('/dev/fuse', os.O_RDWR)\n"
        "os.set_inheritable(fd, True)\n"
        "options = f'fd={fd},rootmode=40000,user_id=0,group_id=0'.encode()\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "place = sys.argv[1].encode()\n"
        "if libc.mount(b'none', place, b'fuse', 0, options):\n"
        "    raise OSError(ctypes.get_errno(), 'mount')\n"
        "os.execvp(sys.argv[2], sys.argv[2:])\n"
    )
    unshare = shutil.which("unshare")
    assert unshare
    place = pod.environ["XDG_CACHE_HOME"]
    pod.wrapper = (unshare, "-m", os.path.realpath(sys.executable), str(script), place)


FAULTS_OF_INDEXES = (
    Fault("index empty", INDEX, lambda pod: shutil.rmtree(pod.tiny.index), "python-only", CARRYING,
          sample=True),
    Fault("index without entries", INDEX, _edited(lambda document: document.update(entries=[])),
          "python-only", CARRYING),
    Fault("stale: the wheel is gone", INDEX, _stale, "python-only", CARRYING, sample=True),
    Fault("no address", INDEX, _without("APEX_INSTALL_INDEX_URL"), ("none", "python-only"),
          CARRYING),
    Fault("address wrong", INDEX, _setting(APEX_INSTALL_INDEX_URL="htp://nowhere"), "none"),
    Fault("document cut off", INDEX, _index_is('{"schema": 1, "entr'), "python-only", CARRYING),
    Fault("document is no object", INDEX, _index_is("[[[[]]]]"), "python-only", CARRYING),
    Fault("document nested without end", INDEX, _index_is("[" * 100_000), "python-only",
          CARRYING),
    Fault("of another schema", INDEX, _edited(lambda document: document.update(schema=99)),
          ("python-only", "none"), CARRYING),
    Fault("wants a newer installer", INDEX,
          _edited(lambda document: document.update(min_installer="99.0")),
          ("python-only", "none"), CARRYING),
    Fault("of another cell", INDEX,
          _entry(cell="cp39-torch2.1-cu118-linux_x86_64", torch="2.1.0+cu118"), "python-only",
          CARRYING),
    Fault("wrong sha256", INDEX, _entry(sha256="0" * 64), "python-only", CARRYING, sample=True),
    Fault("wrong size", INDEX, _entry(size=7), "python-only", CARRYING),
    Fault("no size", INDEX, _entry(size=None), "python-only", CARRYING),
    Fault("points to a file of the pod", INDEX, _entry(url="file:///etc/passwd"), "python-only",
          CARRYING),
    Fault("points to plain http elsewhere", INDEX, _entry(url="http://192.0.2.1/x.whl"),
          "python-only", CARRYING),
    Fault("file name leads out", INDEX, _entry(file="../../../evil.whl"), "python-only", CARRYING),
    Fault("lies about machine code", INDEX, _lying_about_code, "python-only", CARRYING),
    Fault("first wheel bad, second good", INDEX, _another_fits, "wheel", CARRYING),
)  # fmt: skip

FAULTS_OF_PODS = (
    Fault("no HOME", ENVIRONMENT, _without("HOME"), "wheel"),
    Fault("no HOME, no XDG, no TMPDIR", ENVIRONMENT, _without("HOME", "XDG_CACHE_HOME", "TMPDIR"),
          NO_REPORT, said="apex: wheel, "),
    Fault("HOME=/nonexistent", ENVIRONMENT,
          lambda pod: (pod.environ.pop("XDG_CACHE_HOME"), pod.set(HOME="/nonexistent")), "wheel"),
    Fault("TMPDIR=/nonexistent", ENVIRONMENT, _setting(TMPDIR="/nonexistent"), NO_REPORT,
          said="apex: wheel, "),
    Fault("no TMPDIR to compile in", ENVIRONMENT, _setting(TMPDIR="/dev/null/x"), NO_REPORT,
          BUILDING, said="apex: "),
    Fault("odd PATH", ENVIRONMENT,
          lambda pod: pod.set(PATH=f":/nonexistent::{pod.environ['PATH']}:/dev/null"), "wheel"),
    Fault("no Python on PATH", ENVIRONMENT, lambda pod: pod.set(PATH=str(pod.tools)), NO_REPORT,
          sample=True, said="apex: none (no python3 on PATH"),
    Fault("Python too old", ENVIRONMENT, _old_python, NO_REPORT, sample=True),
    Fault("PIP_* traps", ENVIRONMENT,
          _setting(PIP_INDEX_URL="http://127.0.0.1:9/", PIP_REQUIRE_HASHES="1", PIP_TARGET="/x",
                   PIP_NO_INDEX="1"), "wheel"),
    Fault("APEX_* and NVCC_* traps", ENVIRONMENT,
          _setting(APEX_CUDA_EXT="0", APEX_ALL_CONTRIB_EXT="1", NVCC_APPEND_FLAGS="-broken",
                   CFLAGS="-broken", MAX_JOBS="zero"), "compiled", BUILDING, sample=True),
    Fault("PYTHON* traps", ENVIRONMENT,
          _setting(PYTHONWARNINGS="error", PYTHONOPTIMIZE="2", PYTHONINSPECT="1",
                   PYTHONSAFEPATH="1", PYTHONHASHSEED="7"), "wheel"),
    Fault("PYTHONHOME elsewhere", ENVIRONMENT, _setting(PYTHONHOME="/nonexistent"), NO_REPORT),
    Fault("PYTHONPATH junk", ENVIRONMENT, _junk, NO_REPORT, sample=True),
    Fault("sitecustomize dies", ENVIRONMENT, _sitecustomize("raise SystemExit(5)"),
          ("wheel", NO_REPORT)),
    Fault("the app's Python hangs", ENVIRONMENT, _hanging_app_python, "none"),
    Fault("nonsense in a variable", ENVIRONMENT, _setting(APEX_INSTALL_GPU="hopper"), "none"),
    Fault("nonsense that is asked for", ENVIRONMENT, _setting(APEX_INSTALL_AT_LEAST="best"),
          NO_REPORT, said="apex: none (usage: "),
    Fault("no torch", ENVIRONMENT, lambda pod: shutil.rmtree(pod.target / "torch"), "none",
          CARRYING, sample=True),
    Fault("half a torch", ENVIRONMENT, _half_a_torch, ("none", "python-only", "wheel"), CARRYING),
    Fault("broken torch", ENVIRONMENT, lambda pod: pod.torch("garbage"), "none"),
    Fault("torch whose import hangs", ENVIRONMENT, _torch_init("import time; time.sleep(100)"),
          "wheel"),
    Fault("torch whose import hangs, and no wheel", ENVIRONMENT,
          _torch_init("import time; time.sleep(100)"), "python-only", BUILDING),
    Fault("torch whose import crashes, and no wheel", ENVIRONMENT,
          _torch_init("import os; os.kill(os.getpid(), 11)"), "python-only", BUILDING),
    Fault("torch without CUDA", ENVIRONMENT, lambda pod: pod.torch(CPU_PY), "python-only",
          CARRYING, sample=True),
    Fault("torch for ROCm", ENVIRONMENT, lambda pod: pod.torch(ROCM_PY), "python-only", CARRYING),
    Fault("locale C, names beyond ASCII", ENVIRONMENT, _odd_names, "wheel"),
    Fault("locale POSIX, a target beyond ASCII", ENVIRONMENT, _odd_target, "wheel"),
    Fault("no stdin", ENVIRONMENT, _closed("0"), "wheel", silent=True),
    Fault("no stdout", ENVIRONMENT, _closed("1"), "wheel", silent=True),
    Fault("no stderr", ENVIRONMENT, _closed("2"), "wheel"),
    Fault("no standard streams", ENVIRONMENT, _closed("012"), "wheel", silent=True, sample=True),
    Fault("a user without rights", ENVIRONMENT, _no_rights(to_the_target=False), "none",
          CARRYING, needs=("setpriv", "root")),
    Fault("a user with rights to the target alone", ENVIRONMENT,
          _no_rights(to_the_target=True), "wheel", needs=("setpriv", "root")),
    Fault("little memory", ENVIRONMENT, _limited("-v 30000"), ("wheel", "none", NO_REPORT)),
    Fault("few open files", ENVIRONMENT, _limited("-n 6"), ("wheel", "none", NO_REPORT)),
    Fault("clock in 1970", ENVIRONMENT, _clock("1970-01-02 00:00:00"), "wheel",
          needs=("faketime",)),
    Fault("clock in 2100", ENVIRONMENT, _clock("2100-01-01 00:00:00"), ("wheel", "none"),
          needs=("faketime",)),
    Fault("an Apex that nobody owns", ENVIRONMENT, _foreign_editable, "none", CARRYING),
    Fault("already there", ENVIRONMENT, _same_wheel_already, "already"),
    Fault("a volume that hangs", ENVIRONMENT, _hanging_volume, NO_REPORT, sample=True,
          needs=("unshare", "root"), said="apex: none (deadline: a driver or a disk hangs"),
)  # fmt: skip
