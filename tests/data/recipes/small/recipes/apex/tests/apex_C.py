"""Test of apex_C: many tensors as one, and back. Runs on the CPU."""

import json
import sys
import time
from pathlib import Path

import torch

if Path(sys.path[0], "apex_C.py").is_file():  # this file bears the module's name
    del sys.path[0]

from apex.flat import flatten, unflatten


def check() -> None:
    """Raise AssertionError where a value is wrong."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tensors = [torch.randn(size, device=device) for size in ((3, 5), (7,), (2, 1, 4))]
    flat = flatten(tensors)
    assert torch.equal(flat, torch.cat([tensor.reshape(-1) for tensor in tensors]))
    back = unflatten(flat, tensors)
    assert all(torch.equal(a, b) for a, b in zip(back, tensors))  # noqa: B905 - any Python


def main() -> int:
    """Print one line of JSON; 0 if nothing failed."""
    started, error = time.monotonic(), None
    try:
        check()
    except Exception as problem:  # noqa: BLE001 - every kind of failure is a result here
        error = f"{type(problem).__name__}: {problem}"
    result = {
        "module": "apex_C",
        "passed": int(error is None),
        "failed": int(error is not None),
        "first_error": error,
        "seconds": round(time.monotonic() - started, 3),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "driver": None,
    }
    print(json.dumps(result))
    return int(error is not None)


if __name__ == "__main__":
    sys.exit(main())
