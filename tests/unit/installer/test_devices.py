"""GPUs and driver: NVML is asked first, then libcuda, then nvidia-smi; each may fail."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from apex_installer.errors import UsageError
from apex_installer.model.environment import Gpu
from apex_installer.read import devices
from apex_installer.read.devices import read_devices
from apex_installer.read.nvidia_smi import parse_smi, read_by_smi
from apex_installer.read.visible import Listing

if TYPE_CHECKING:
    from pathlib import Path

H200 = Gpu((9, 0), "NVIDIA H200", "GPU-11111111-0000")
L4 = Gpu((8, 9), "NVIDIA L4", "GPU-22222222-0000")
MIG = "MIG-33333333-0000"
FAILS = 999


def write(pointer: Any, value: object) -> int:
    """Through what `ctypes.byref` made, as a C function would; 0 is success."""
    pointer._obj.value = value
    return 0


@dataclass
class Nvml:
    """NVML's functions; `broken` names those that fail, `missing` those that are not there."""

    gpus: tuple[Gpu, ...] = (H200, L4)
    broken: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()
    asked: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml") or name in self.missing:
            raise AttributeError(name)
        self.asked.append(name)
        if name in self.broken:
            return lambda *_: FAILS
        return {
            "nvmlInitWithFlags": lambda _: 0,
            "nvmlDeviceGetCount_v2": lambda out: write(out, len(self.gpus)),
            "nvmlDeviceGetHandleByIndex_v2": lambda index, out: write(out, index + 1),
            "nvmlDeviceGetCudaComputeCapability": self._capability,
            "nvmlDeviceGetName": lambda handle, text, _: self._text(handle, text, "name"),
            "nvmlDeviceGetUUID": lambda handle, text, _: self._text(handle, text, "uuid"),
            "nvmlDeviceGetHandleByUUID": lambda uuid, out: (
                write(out, 100) if uuid == MIG.encode() else FAILS
            ),
            "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": lambda _, out: write(out, 2),
            "nvmlSystemGetDriverVersion": lambda text, _: write_text(text, "580.159.04"),
            "nvmlSystemGetCudaDriverVersion_v2": lambda out: write(out, 13000),
        }[name]

    def _capability(self, handle: Any, major: Any, minor: Any) -> int:
        one = self.gpus[handle.value - 1].capability
        return write(major, one[0]) or write(minor, one[1])

    def _text(self, handle: Any, text: Any, name: str) -> int:
        return write_text(text, getattr(self.gpus[handle.value - 1], name))


def write_text(buffer: Any, text: str) -> int:
    buffer.value = text.encode()
    return 0


class Cuda:
    """libcuda, which obeys CUDA_VISIBLE_DEVICES itself: what it shows is what is seen."""

    def __init__(self, gpus: tuple[Gpu, ...] = (L4,), *, init: int = 0, runs: int = 12040) -> None:
        self.gpus, self.init, self.runs = gpus, init, runs

    def cuInit(self, _flags: int) -> int:  # noqa: N802 - NVIDIA's name, as those below
        return self.init

    def cuDriverGetVersion(self, out: Any) -> int:  # noqa: N802
        return write(out, self.runs)

    def cuDeviceGetCount(self, out: Any) -> int:  # noqa: N802
        return write(out, len(self.gpus))

    def cuDeviceGet(self, out: Any, index: int) -> int:  # noqa: N802
        return write(out, index)

    def cuDeviceGetAttribute(self, out: Any, attribute: int, device: int) -> int:  # noqa: N802
        return write(out, self.gpus[device].capability[attribute - 75])

    def cuDeviceGetName(self, text: Any, _size: int, device: int) -> int:  # noqa: N802
        return write_text(text, self.gpus[device].name)


class Machine:
    """What can be loaded and started; every reader that is asked is noted."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.nvml: Nvml | None = None
        self.cuda: Cuda | None = None
        self.smi: Listing | None = None
        self.smi_was_asked = False
        patch.setattr(devices, "read_by_smi", self._read_by_smi)
        patch.setattr(devices, "read_kernel_driver", lambda: "570.1")

    def _read_by_smi(self, _environ: object) -> Listing | None:
        self.smi_was_asked = True
        return self.smi

    def read(self, gpu: str | None = None, **environ: str) -> devices.Devices:
        found = {"libnvidia-ml.so.1": self.nvml, "libcuda.so.1": self.cuda}
        return read_devices(environ=environ, gpu=gpu, load=found.__getitem__)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_a_driver_that_never_answers_is_given_up(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()

    def hang(*_: object) -> Listing:
        gate.wait(20)
        return Listing(gpus=())  # the thread that is left behind asks nobody else

    monkeypatch.setattr(devices, "read_by_nvml", hang)
    monkeypatch.setattr(devices, "LIMIT", 0.02)
    found = machine.read()
    gate.set()
    assert (found.gpus, found.source) == ((), "none")
    assert found.note == "the driver did not answer within 0.02 s: its GPUs are not known"


def test_nvml_is_enough(machine: Machine) -> None:
    machine.nvml = Nvml()
    found = machine.read()
    assert (found.gpus, found.source, found.note) == ((H200, L4), "nvml", "")
    assert (found.driver, found.driver_cuda) == ("580.159.04", (13, 0))
    assert not machine.smi_was_asked


def test_what_cuda_the_driver_runs_is_libcudas_own_word(machine: Machine) -> None:
    """With NVIDIA's compatibility package the library is newer than the kernel's driver."""
    machine.nvml, machine.cuda = Nvml(), Cuda(runs=13010)
    assert machine.read().driver_cuda == (13, 1)


@pytest.mark.parametrize(
    "function",
    [
        "nvmlInitWithFlags",
        "nvmlDeviceGetCount_v2",
        "nvmlDeviceGetHandleByIndex_v2",
        "nvmlDeviceGetCudaComputeCapability",
    ],
)
@pytest.mark.parametrize("how", ["broken", "missing"])
def test_where_nvml_does_not_answer_libcuda_is_asked(
    machine: Machine, function: str, how: str
) -> None:
    machine.nvml, machine.cuda = Nvml(**{how: frozenset({function})}), Cuda((L4,))
    found = machine.read()
    assert (found.gpus, found.source) == ((Gpu((8, 9), "NVIDIA L4"),), "libcuda")
    assert (found.driver, found.driver_cuda) == ("570.1", (12, 4))
    assert not machine.smi_was_asked


@pytest.mark.parametrize(
    "function", ["nvmlDeviceGetName", "nvmlDeviceGetUUID", "nvmlSystemGetDriverVersion"]
)
def test_a_text_that_nvml_lacks_is_no_reason_to_ask_elsewhere(
    machine: Machine, function: str
) -> None:
    machine.nvml = Nvml(missing=frozenset({function}))
    found = machine.read()
    assert found.source == "nvml"
    assert [gpu.capability for gpu in found.gpus] == [(9, 0), (8, 9)]


def test_libcuda_has_obeyed_the_variable_itself(machine: Machine) -> None:
    machine.cuda = Cuda((L4,))
    assert machine.read(CUDA_VISIBLE_DEVICES="7").gpus == (Gpu((8, 9), "NVIDIA L4"),)


def test_where_both_fail_nvidia_smi_is_asked_last(machine: Machine) -> None:
    machine.cuda = Cuda(init=FAILS, runs=12020)
    machine.smi = Listing((H200, L4), driver="535.1")
    found = machine.read(CUDA_VISIBLE_DEVICES=L4.uuid)
    assert (found.gpus, found.source) == ((L4,), "nvidia-smi")
    assert (found.driver, found.driver_cuda) == ("535.1", (12, 2))


def test_a_machine_without_a_gpu_is_no_error(machine: Machine) -> None:
    found = machine.read()
    assert (found.gpus, found.source, found.driver, found.driver_cuda) == (
        (),
        "none",
        "570.1",
        None,
    )
    assert machine.smi_was_asked


@pytest.mark.parametrize(
    ("text", "visible"),
    [(L4.uuid, (L4,)), (MIG, (L4,)), ("1", (H200, L4)), ("", ())],
    ids=["uuid", "slice", "number", "none"],
)
def test_what_nvml_lists_is_cut_to_what_is_visible(
    machine: Machine, text: str, visible: tuple[Gpu, ...]
) -> None:
    machine.nvml = Nvml()
    found = machine.read(CUDA_VISIBLE_DEVICES=text)
    assert found.gpus == visible
    assert ("every GPU counts" in found.note) == (text == "1")


def test_a_slice_that_nvml_does_not_know_leaves_nobody_out(machine: Machine) -> None:
    machine.nvml = Nvml()
    found = machine.read(CUDA_VISIBLE_DEVICES="MIG-44444444-0000")
    assert found.gpus == (H200, L4)
    assert "MIG-44444444-0000, which is not to be found" in found.note


def test_the_flag_stands_for_the_gpus_and_nobody_is_asked(machine: Machine) -> None:
    machine.nvml = Nvml()
    found = machine.read("8.0,8.6 9.0")
    assert [gpu.text for gpu in found.gpus] == ["8.0", "8.6", "9.0"]
    assert found.source == "--gpu"
    assert machine.nvml.asked == []
    assert not machine.smi_was_asked


@pytest.mark.parametrize("text", ["", " ", ",", "nonsense", "8", "90", "sm_90", "9.0+PTX", "-8.0"])
def test_a_flag_that_names_no_gpu_shows_the_form(machine: Machine, text: str) -> None:
    with pytest.raises(UsageError, match=r"write compute capabilities: 8\.0,8\.6$"):
        machine.read(text)


# As nvidia-smi 580 and 535 print it with the query of `read_by_smi`.
RECORDED = """\
580.159.04, 9.0, GPU-11111111-0000, NVIDIA H200
580.159.04, 8.9, GPU-22222222-0000, NVIDIA L4
"""


def test_nvidia_smis_table_is_read() -> None:
    assert parse_smi(RECORDED) == Listing((H200, L4), driver="580.159.04")


@pytest.mark.parametrize(
    "output",
    [
        "",
        "No devices were found\n",
        "Unable to determine the device handle for GPU0: Unknown Error\n",
        "580.1, [N/A], GPU-1, NVIDIA H200\n",
        'Field "compute_cap" is not a valid field to query.\n',
    ],
)
def test_anything_else_that_it_prints_is_no_answer(output: str) -> None:
    assert parse_smi(output) is None


def test_without_nvidia_smi_there_is_no_answer(tmp_path: Path) -> None:
    assert read_by_smi({"PATH": str(tmp_path)}) is None
