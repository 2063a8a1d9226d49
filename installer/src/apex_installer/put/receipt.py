"""The receipt: what we leave beside an install, so that the next start knows in milliseconds.

It is a file of the dist-info, listed in RECORD without a digest, since it may be renewed.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from apex_installer.errors import TrustError
from apex_installer.model.entry import Entry
from apex_installer.model.environment import Environment
from apex_installer.put.installed import RECEIPT, Installed

SCHEMA = 1


class Receipt(NamedTuple):
    """What was installed, into what, and how its files looked."""

    outcome: str
    """`wheel`, `compiled` or `python-only`."""
    installer: str
    """Version of apex-install."""
    key: str
    sha256: str
    """Of the wheel."""
    entry: Mapping[str, Any]
    """The entry as JSON."""
    facts: Mapping[str, Any]
    """The environment as it was; see `facts_of`."""
    files: Mapping[str, Tuple[int, int]]
    """Path relative to the target -> (bytes, mtime in whole seconds)."""
    aside: str = ""
    """Folder of the workspace that keeps the foreign package that was there before."""
    schema: int = SCHEMA


def facts_of(environment: Environment) -> Dict[str, Any]:
    """All of the environment that an installed wheel depends on."""
    torch = environment.torch
    return {
        "python": environment.interpreter.tag,
        "platform": environment.interpreter.platform,
        "torch": torch.version,
        "torch_git": torch.git,
        "cuda": torch.cuda,
        "cxx11_abi": torch.cxx11_abi,
    }


def stat_files(root: str, paths: Iterable[str]) -> Dict[str, Tuple[int, int]]:
    """Size and mtime of each, for the receipt. OSError passes."""
    found = {}
    for path in paths:
        status = os.stat(os.path.join(root, path))
        found[path] = (status.st_size, int(status.st_mtime))
    return found


def write_receipt(dist_info: str, receipt: Receipt) -> None:
    """Write it into the dist-info folder, at once and whole. OSError passes."""
    path = os.path.join(dist_info, RECEIPT)
    with open(f"{path}.part", "w", encoding="utf-8") as file:
        # dumps, not dump: only that one is written in C
        file.write(json.dumps(receipt._asdict(), separators=(",", ":"), sort_keys=True))
    os.chmod(f"{path}.part", 0o644)
    os.rename(f"{path}.part", path)


def read_receipt(installed: Installed) -> Optional[Receipt]:
    """The receipt beside an install; None where there is none, or none that can be read."""
    if not installed.dist_info:
        return None
    try:
        with open(os.path.join(installed.dist_info, RECEIPT), encoding="utf-8") as file:
            data = json.load(file)
        if data["schema"] != SCHEMA:
            return None
        files = {path: (int(size), int(mtime)) for path, (size, mtime) in data["files"].items()}
        return Receipt(**{**data, "files": files})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def receipt_stands(
    receipt: Receipt,
    *,
    environment: Environment,
    modules: Sequence[str],
    installed: Installed,
) -> Optional[str]:
    """Why the install does not stand any more, in words; None where it does.

    It stands while the environment is unchanged, its modules contain `modules`, it has code for
    every visible GPU, and every file has the size and mtime that were written. Where only mtimes
    differ, the files are hashed against RECORD and the receipt is renewed.
    """
    try:
        entry = Entry.from_json(receipt.entry, where=installed.dist_info)
    except TrustError as error:
        return f"its receipt cannot be read: {error}"
    return (
        _changed_environment(receipt, environment)
        or _lacking_modules(entry, modules)
        or _lacking_code(entry, environment)
        or _changed_files(receipt, installed)
    )


def _changed_environment(receipt: Receipt, environment: Environment) -> Optional[str]:
    now = facts_of(environment)
    changed = [
        f"{name} is {now[name]}, was {receipt.facts.get(name)}"
        for name in now
        if now[name] != receipt.facts.get(name)
    ]
    return f"was installed for another environment: {', '.join(changed)}" if changed else None


def _lacking_modules(entry: Entry, modules: Sequence[str]) -> Optional[str]:
    missing = sorted(set(modules) - set(entry.module_names))
    return f"lacks {', '.join(missing)}" if missing else None


def _lacking_code(entry: Entry, environment: Environment) -> Optional[str]:
    devices = environment.devices
    lacking = [
        gpu.text
        for gpu in devices.gpus
        for module in entry.modules
        if module.has_device_code
        and not module.architectures.how_it_runs(
            gpu.capability, driver_cuda=devices.driver_cuda, made_by=entry.made_by
        )
    ]
    return f"has no code for {', '.join(dict.fromkeys(lacking))}" if lacking else None


def _changed_files(receipt: Receipt, installed: Installed) -> Optional[str]:
    """Sizes first, which cost one stat each; hashes only where an mtime differs."""
    touched: List[str] = []
    for path, (size, mtime) in receipt.files.items():
        try:
            found = os.stat(os.path.join(installed.directory, path))
        except OSError:
            return f"{path} is missing"
        if found.st_size != size:
            return f"{path} was changed"
        if int(found.st_mtime) != mtime:
            touched.append(path)
    return _hash_and_renew(receipt, installed, touched) if touched else None


def _hash_and_renew(
    receipt: Receipt, installed: Installed, touched: Sequence[str]
) -> Optional[str]:
    from apex_installer.put.intact import is_unchanged  # noqa: PLC0415 - only where it was copied

    rows = {row.path: row for row in installed.rows}
    for path in touched:
        row = rows.get(path)
        if row is None or (
            row.digest and not is_unchanged(os.path.join(installed.directory, path), row)
        ):
            return f"{path} was changed"
    with suppress(OSError):  # in a read-only image they are hashed at every start
        files = {**receipt.files, **stat_files(installed.directory, touched)}
        write_receipt(installed.dist_info, receipt._replace(files=files))
    return None
