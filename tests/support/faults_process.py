"""Faults of compilers and of other processes: they hang, fork, flood, die, are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from support.fake_build import CXX, NVCC, make, write_nvcc
from support.fault import BUILDING, CARRYING, NO_REPORT, Fault
from support.fault_server import silent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.left_behind import Adopted
    from support.start_pod import StartPod

GROUP = "processes"
DEGRADED = "apex: python-only, DEGRADED"
DRIVER = """
#include <stdlib.h>
#include <unistd.h>
int nvmlInitWithFlags(unsigned flags) { %s }
"""


def _nvcc(script: str) -> Callable[[StartPod], object]:
    def spoil(pod: StartPod) -> None:
        for name in ("yes", "kill", "setsid"):
            if name not in {path.name for path in pod.tools.iterdir()}:
                pod.link_tool(name)
        write_nvcc(pod, script.replace("MAKE", make(pod)))

    return spoil


def _cxx(said: str) -> Callable[[StartPod], object]:
    return lambda pod: pod.write_tool("c++", CXX.replace("g++ (Debian 12.2.0-14) 12.2.0", said))


def _garbage(pod: StartPod) -> None:
    script = make(pod).replace("cp ", "echo garbage >")
    pod.write_tool("c++", CXX + script.replace(f'"{pod.root}/made.so" ', ""))


def _slow(spoil: Callable[[StartPod], object]) -> Callable[[StartPod], object]:
    """Each question is given 10 s, so there must be some."""

    def spoil_slowly(pod: StartPod) -> None:
        spoil(pod)
        pod.set(APEX_INSTALL_COMPILE_TIMEOUT="24", CXX="c++")

    return spoil_slowly


def _dead_lease(pod: StartPod) -> None:
    """Another host's, which nobody touches: it counts for 30 s, longer than this pod waits."""
    pod.start()
    (entry,) = pod.cache.rglob("compiled/*.json")
    lease = entry.parent.parent / "leases" / f"{entry.stem}.1.lease"
    lease.parent.mkdir(exist_ok=True)
    lease.write_text("{}")
    for path in (entry, *pod.cache.rglob("*.whl")):
        path.unlink()
    shutil.rmtree(pod.target / "apex")


def _no_cxx(pod: StartPod) -> None:
    (pod.root / "first/c++").unlink()


def _no_python_h(pod: StartPod) -> None:
    (pod.target / "sitecustomize.py").write_text(
        "import sysconfig\nsysconfig.get_path = lambda *_, **__: '/nonexistent'\n"
    )


def _no_toolkit(pod: StartPod) -> None:
    """None on any machine: there never was a CUDA 13.9."""
    pod.torch(
        (pod.target / "torch/version.py")
        .read_text()
        .replace("13.0", "13.9")
        .replace("cu130", "cu139")
    )


def _setup(text: str) -> Callable[[StartPod], object]:
    def spoil(pod: StartPod) -> None:
        path = pod.root / "source/setup.py"
        path.write_text(f"{text}\n{path.read_text()}")

    return spoil


def killed_after(seconds: float) -> Callable[[StartPod], object]:
    """SIGKILL to the installer, which run.sh started; its compiler hangs."""

    def kill(adopted: Adopted) -> None:
        time.sleep(seconds)
        for pid in _children(adopted.command_pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def spoil(pod: StartPod) -> None:
        _nvcc("sleep 100 & wait")(pod)
        pod.meanwhile = kill

    return spoil


def _children(pid: int) -> list[int]:
    with suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:  # noqa: PTH123
        return [int(word) for word in file.read().split()]
    return []


def _nvidia_smi(script: str) -> Callable[[StartPod], object]:
    def spoil(pod: StartPod) -> None:
        pod.set(APEX_INSTALL_DEADLINE="8")  # nvidia-smi is given up after 5 s
        del pod.environ["APEX_INSTALL_GPU"]
        pod.write_tool("nvidia-smi", script)

    return spoil


def _driver(body: str) -> Callable[[StartPod], object]:
    """An NVML whose first function does this."""

    def spoil(pod: StartPod) -> None:
        pod.set(APEX_INSTALL_DEADLINE="8")  # the driver is given up after 7 s
        del pod.environ["APEX_INSTALL_GPU"]
        folder = pod.root / "driver"
        folder.mkdir()
        library: Path = folder / "libnvidia-ml.so.1"
        source = DRIVER % body
        command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
        subprocess.run(command, input=source, text=True, check=True)
        pod.set(LD_LIBRARY_PATH=str(folder))

    return spoil


def _installer(text: str) -> Callable[[StartPod], object]:
    return lambda pod: pod.replace_installer(text)


def _hung_server_and_kill(pod: StartPod) -> None:
    pod.serve(silent())
    killed_after(0.7)(pod)


PROCESSES = (
    Fault("none, and no wheel: compiled", GROUP, lambda _: None, "compiled", BUILDING, sample=True),
    Fault("nvcc hangs", GROUP, _nvcc("sleep 100 & wait"), "python-only", BUILDING, sample=True,
          said=DEGRADED),
    Fault("nvcc forks a daemon and ignores SIGTERM", GROUP,
          _nvcc("trap '' TERM HUP INT; setsid sleep 100 & setsid sh -c 'sleep 99 & wait' & wait"),
          "python-only", BUILDING, sample=True, said=DEGRADED),
    Fault("nvcc leaves a daemon behind and ends well", GROUP,
          _nvcc("setsid sleep 100 >/dev/null 2>&1 &\nMAKE"), "compiled", BUILDING, sample=True),
    Fault("nvcc leaves one with its output open", GROUP, _nvcc("setsid sleep 100 &\nMAKE"),
          "compiled", BUILDING),
    Fault("nvcc stops itself", GROUP, _nvcc("kill -STOP $$"), "python-only", BUILDING,
          said=DEGRADED),
    Fault("nvcc prints without end", GROUP, _nvcc("exec yes error: nothing fits"), "python-only",
          BUILDING, said=DEGRADED),
    Fault("nvcc is killed for memory", GROUP, _nvcc("kill -KILL $$"), "python-only", BUILDING,
          said=DEGRADED),
    Fault("nvcc is killed for memory once", GROUP,
          _nvcc('[ -e "$0.once" ] || { : >"$0.once"; kill -KILL $$; }\nMAKE'), "compiled",
          BUILDING),
    Fault("nvcc finds an error", GROUP,
          _nvcc('echo "one.cu(7): error: no such kernel" >&2; exit 2'), "python-only", BUILDING,
          sample=True, said="one.cu:7: no such kernel"),
    Fault("nvcc makes nothing", GROUP, _nvcc("exit 0"), "python-only", BUILDING, said=DEGRADED),
    Fault("linker makes garbage", GROUP, _garbage, "python-only", BUILDING, said=DEGRADED),
    Fault("no toolkit of torch's CUDA", GROUP, _no_toolkit, "python-only", BUILDING, sample=True,
          said="no CUDA toolkit equals torch's 13.9"),
    Fault("no g++", GROUP, _no_cxx, "python-only", BUILDING, said="apt-get install g++"),
    Fault("g++ too new", GROUP, _cxx("g++ (Debian 99.1.0-1) 99.1.0"), "python-only", BUILDING,
          said="takes gcc 15 at most"),
    Fault("g++ hangs when asked", GROUP, _slow(lambda pod: pod.write_tool("c++", "sleep 100")),
          "python-only", BUILDING),
    Fault("nvcc hangs when asked", GROUP,
          _slow(lambda pod: write_nvcc(pod, "", says="sleep 100 & wait\n")), "python-only",
          BUILDING),
    Fault("nvcc leaves a daemon when asked", GROUP,
          lambda pod: write_nvcc(pod, make(pod), says=f"setsid sleep 100 &\n{NVCC}"), "compiled",
          BUILDING),
    Fault("CUDA_HOME lacks its headers", GROUP,
          lambda pod: shutil.rmtree(pod.root / "cuda/include"), "python-only", BUILDING),
    Fault("a lease whose holder never ends", GROUP, _dead_lease, "python-only", BUILDING),
    Fault("no Python.h", GROUP, _no_python_h, "python-only", BUILDING,
          said="apt-get install python"),
    Fault("setup.py hangs", GROUP, _setup("import time; time.sleep(100)"), "python-only",
          BUILDING),
    Fault("setup.py dies", GROUP, _setup("import os; os.kill(os.getpid(), 11)"), "python-only",
          BUILDING),
    Fault("setup.py leaves a daemon", GROUP,
          _setup("import subprocess as s; s.Popen(['sleep', '100'], start_new_session=True)"),
          "compiled", BUILDING),
    Fault("installer killed in a compile", GROUP, killed_after(1.5), NO_REPORT, BUILDING,
          sample=True),
    Fault("installer killed in the capture", GROUP, killed_after(0.5), NO_REPORT, BUILDING),
    Fault("installer killed in a download", GROUP, _hung_server_and_kill, NO_REPORT, BUILDING),
    Fault("nvidia-smi hangs", GROUP, _nvidia_smi("exec sleep 60"), "wheel"),
    Fault("nvidia-smi hangs and has a child", GROUP, _nvidia_smi("sleep 60 & wait"), "wheel"),
    Fault("nvidia-smi says garbage", GROUP, _nvidia_smi("echo ERR!, ERR!, ERR!"), "wheel"),
    Fault("NVML crashes", GROUP, _driver("abort(); return 0;"), NO_REPORT, needs=("cc",)),
    Fault("NVML hangs", GROUP, _driver("sleep(100); return 0;"), "wheel", needs=("cc",)),
    Fault("installer missing", GROUP, lambda pod: (pod.folder / "apex-install.pyz").unlink(),
          NO_REPORT, sample=True),
    Fault("installer crashes", GROUP, _installer("import os; os.kill(os.getpid(), 11)"),
          NO_REPORT),
    Fault("installer is garbage", GROUP, _installer("\0\1"), NO_REPORT),
    Fault("installer raises", GROUP, _installer("1/0"), NO_REPORT),
    Fault("installer cut in half", GROUP, lambda pod: pod.replace_installer("PK\3\4"), NO_REPORT,
          CARRYING),
)  # fmt: skip
