"""The outcome `python-only`: a wheel that this copy carries; no network, no cache, no compiler.

Its modules are stand-ins by torch's own operators. It is the last resort, so it asks no deadline:
a few hundred kilobytes are written, and the time was kept for it.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Optional

from apex_installer import data
from apex_installer.errors import NoWheelError, TargetError
from apex_installer.model.entry import Entry
from apex_installer.model.environment import Environment
from apex_installer.placing import place_wheel
from apex_installer.put.receipt import read_receipt, receipt_stands
from apex_installer.situation import Situation

NAME = "python-only"
MANIFEST = "python-only.json"
"""Ref -> entry of the wheel that lies beside it."""


def is_carried(_: Situation) -> bool:
    """Whether this copy was packed with such wheels at all."""
    return data.read(MANIFEST) is not None


def install_python_only(situation: Situation) -> Entry:
    """Install the carried wheel of the ref that serves this torch, unless it stands already."""
    entry = _carried_entry(situation)
    lacking = sorted(set(situation.modules) - set(entry.module_names))
    if lacking:
        raise NoWheelError(f"nothing stands for {', '.join(lacking)} without a compiler")
    partly = situation.recipe.lacking_in_standins(situation.request.require)
    if partly:
        raise NoWheelError(f"no stand-in without a compiler holds all that {', '.join(partly)} is")
    if situation.request.dry_run or _is_there(entry, situation):
        return entry
    with _on_disk(entry, situation.environment) as path:
        place_wheel(path, entry, situation, outcome=NAME)
    return entry


def _carried_entry(situation: Situation) -> Entry:
    torch = situation.environment.torch.version
    ref = situation.recipe.ref_for(torch)
    if ref is None:
        raise NoWheelError(f"no {situation.recipe.distribution} is known to fit torch {torch}")
    carried: Dict[str, Any] = json.loads(data.read(MANIFEST) or "{}")
    if ref["commit"] not in carried:
        raise NoWheelError(
            f"this apex-install carries no Python-only wheel for torch {torch} (ref {ref['name']})"
        )
    return Entry.from_json(carried[ref["commit"]], where=MANIFEST)


def _is_there(entry: Entry, situation: Situation) -> bool:
    """Better was tried in vain, and the last resort of an earlier start is whole."""
    old = situation.old
    receipt = read_receipt(old) if old is not None and old.owner == "ours" else None
    if old is None or receipt is None or receipt.sha256 != entry.sha256:
        return False
    return not receipt_stands(
        receipt, environment=situation.environment, modules=situation.modules, installed=old
    )


@contextmanager
def _on_disk(entry: Entry, environment: Environment) -> Iterator[str]:
    """The carried wheel as a file: in the temporary directory, else beside the target."""
    content = data.read_bytes(entry.file) or b""
    path = _write_to(os.environ.get("TMPDIR") or "/tmp", content)  # noqa: S108 - it is O_EXCL
    path = path or _write_to(environment.target, content)
    if path is None:
        raise TargetError(f"{environment.target}: {entry.file} can be written nowhere")
    try:
        yield path
    finally:
        os.unlink(path)


def _write_to(folder: str, content: bytes) -> Optional[str]:
    path = os.path.join(folder, f".apex-install-{os.getpid()}-{os.urandom(4).hex()}.whl")
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
    except OSError:
        os.unlink(path)
        return None
    return path
