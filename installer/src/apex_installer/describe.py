"""The environment in words, for `doctor`."""

from __future__ import annotations

from typing import Tuple

from apex_installer.model.environment import Devices, Environment, Interpreter, Torch


def printable(text: str) -> str:
    """What a terminal can be given: a foreign file's names may hold anything."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text
    )


def environment_lines(environment: Environment) -> Tuple[str, ...]:
    """Interpreter, torch, GPUs, driver and target."""
    return (
        interpreter_line(environment.interpreter),
        torch_line(environment.torch),
        *devices_lines(environment.devices),
        f"target: {environment.target}",
    )


def interpreter_line(interpreter: Interpreter) -> str:
    """Which Python."""
    return f"python: {interpreter.executable} ({interpreter.version}, {interpreter.tag})"


def torch_line(torch: Torch) -> str:
    """Which torch."""
    abi = {True: "new C++ ABI", False: "old C++ ABI", None: "C++ ABI not known"}[torch.cxx11_abi]
    return f"torch: {torch.version}, CUDA {torch.cuda or 'none'}, {abi}, in {torch.directory}"


def devices_lines(devices: Devices) -> Tuple[str, ...]:
    """GPUs and driver, and what is to be known of them."""
    driver = f"driver {devices.driver or 'not known'}"
    if devices.driver_cuda:
        driver += f", runs CUDA up to {devices.driver_cuda[0]}.{devices.driver_cuda[1]}"
    gpus = ", ".join(gpu.text for gpu in devices.gpus)
    gpus = f"{gpus} (from {devices.source})" if gpus else "none visible"
    note = (f"note: {devices.note}",) if devices.note else ()
    return (f"GPUs: {gpus}; {driver}", *note)
