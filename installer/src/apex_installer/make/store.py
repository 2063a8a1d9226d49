"""Objects kept by what went into them: command, compiler, and the bytes of every file it read.

    objects/<command key>/inputs.json      the files that this command read last time
    objects/<command key>/<inputs key>.o   what it made of those bytes

An object is published by one rename, so that it is whole wherever it is found, and builds that run
at the same time may share a folder. Folders are written in keys as `{torch}`, `{cuda}`, `{source}`:
the command of device code does not name the Python, and so another Python's build of the same
torch × CUDA finds its objects here.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

_SEPARATOR = re.compile(r"(?<!\\)\s+")


def parse_depfile(text: str) -> Tuple[str, ...]:
    """The files after the colon; Make's spelling of blanks, `#` and `$` is undone."""
    joined = re.sub(r"\\\r?\n", " ", text)
    files: Dict[str, None] = {}
    for rule in joined.splitlines():
        # `a.o: b.cpp c.h`; gcc's -MP would add rules without files.
        _, colon, rest = rule.partition(": ")
        if colon:
            for part in _SEPARATOR.split(rest.strip()):
                files[part.replace("\\ ", " ").replace("\\#", "#").replace("$$", "$")] = None
    files.pop("", None)
    return tuple(files)


class Places:
    """Folders that keys do not name, and back."""

    def __init__(self, folders: Mapping[str, str]) -> None:
        """`{"torch": "/…/site-packages/torch"}`; the longest folder wins where they nest."""
        self._folders = sorted(folders.items(), key=lambda item: -len(item[1]))

    def encode(self, text: str) -> str:
        """With `{torch}` for its folder, wherever it stands in the text."""
        for name, folder in self._folders:
            text = text.replace(folder, f"{{{name}}}")
        return text

    def decode(self, text: str) -> str:
        """The inverse of `encode`."""
        for name, folder in self._folders:
            text = text.replace(f"{{{name}}}", folder)
        return text


class Store:
    """The objects of one work folder, or of several builds that share one."""

    def __init__(self, folder: str, *, places: Places) -> None:
        """Nothing is made until something is kept."""
        self._folder = folder
        self._places = places
        self._digests: Dict[str, str] = {}

    def name_of(self, path: str) -> str:
        """An object's path within the store, wherever that lies."""
        return os.path.relpath(path, self._folder)

    def command_key(self, argv: Sequence[str], *, compiler: str) -> str:
        """Of the command as captured, with the folders out of it, and the compiler's identity."""
        encoded = [self._places.encode(part) for part in argv]
        return hashlib.sha256(json.dumps([compiler, *encoded]).encode()).hexdigest()[:32]

    def find(self, command: str) -> Optional[str]:
        """Path of the object that this command would make of the files as they are, or None."""
        inputs = self._read_inputs(command)
        key = self._inputs_key(inputs) if inputs else None
        path = self.path(command, key) if key else None
        return path if path and os.path.exists(path) else None

    def keep(
        self, command: str, *, made: str, inputs: Iterable[str], since: float, plain: bool
    ) -> str:
        """Take the object `made`, which was made of `inputs`; its path.

        A file that was changed after `since` (seconds of the epoch, when the compiler started) may
        not be what the compiler read: the object is used where it is, and not found again.
        """
        files = sorted(set(inputs))
        key = None if _any_newer(files, since) else self._inputs_key(files)
        if key is None:
            return made
        path = self.path(command, key)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _publish(made, path)
        noted = {"plain": plain, "inputs": [self._places.encode(file) for file in files]}
        self._write(os.path.join(self._folder, command, "inputs.json"), json.dumps(noted, indent=0))
        return path

    def path(self, command: str, key: str) -> str:
        """Where an object lies."""
        return os.path.join(self._folder, command, f"{key}.o")

    def was_plain(self, command: str) -> bool:
        """Whether the captured command made the object, since the rewritten one failed."""
        return bool(self._read(command).get("plain"))

    def inputs(self, command: str) -> Tuple[str, ...]:
        """The files that the command read when it was last run."""
        return tuple(self._read_inputs(command))

    def digest(self, path: str) -> Optional[str]:
        """sha256 of a file's bytes, read once per build; None where it is not there."""
        if path not in self._digests:
            try:
                with open(path, "rb") as file:
                    self._digests[path] = hashlib.sha256(file.read()).hexdigest()
            except OSError:
                return None
        return self._digests[path]

    def _inputs_key(self, files: Sequence[str]) -> Optional[str]:
        whole = hashlib.sha256()
        for file in files:
            digest = self.digest(file)
            if digest is None:
                return None
            whole.update(f"{self._places.encode(file)}\0{digest}\n".encode())
        return whole.hexdigest()[:32]

    def _read(self, command: str) -> Dict[str, object]:
        try:
            with open(os.path.join(self._folder, command, "inputs.json"), encoding="utf-8") as file:
                data: Dict[str, object] = json.load(file)
        except (OSError, ValueError):
            return {}
        return data

    def _read_inputs(self, command: str) -> List[str]:
        inputs = self._read(command).get("inputs")
        return [self._places.decode(str(one)) for one in inputs] if isinstance(inputs, list) else []

    @staticmethod
    def _write(path: str, text: str) -> None:
        part = _part(path)
        with open(part, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(part, path)


def _publish(made: str, path: str) -> None:
    """By one rename, after a copy where the store is another file system or another mount."""
    try:
        os.replace(made, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        part = _part(path)
        shutil.copyfile(made, part)
        os.replace(part, path)


def _part(path: str) -> str:
    # Builds in two containers may have the same process id.
    return f"{path}.{uuid.uuid4().hex}"


def _any_newer(files: Iterable[str], since: float) -> bool:
    try:
        return any(os.stat(file).st_mtime > since for file in files)
    except FileNotFoundError:
        return True


def read_identity(program: str) -> str:
    """What tells one compiler from another: the digest of its driver."""
    whole = hashlib.sha256()
    with open(program, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            whole.update(block)
    return whole.hexdigest()[:16]
