"""In apex-install.pyz: the finder of its compiled modules.

Python keeps no bytecode of what it imports from a zip. So the archive holds the compiled modules of
several Pythons, one member for each, this one among them; a Python that is not among them compiles
the sources, which are in the archive too. Runs on Python 3.9, and imports only what a start needs
anyway.
"""

from __future__ import annotations

from _frozen_importlib import ModuleSpec  # importlib.machinery would cost milliseconds
from marshal import loads
from zlib import decompress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType
    from typing import Any
    from zipimport import zipimporter


class CompiledModules:
    """Finder and loader (PEP 451) over `{full name: (is a package, deflated code)}`."""

    def __init__(self, modules: Mapping[str, tuple[bool, bytes]], archive: zipimporter) -> None:
        self.modules = modules
        self.archive = archive

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - PEP 451's signature
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if name not in self.modules:
            return None
        is_package = self.modules[name][0]
        loader: Any = self
        spec = ModuleSpec(name, loader, origin=self.file_of(name), is_package=is_package)
        spec.has_location = True
        return spec

    def file_of(self, name: str) -> str:
        """Where the source lies: tracebacks and data files are found by it."""
        tail = "/__init__.py" if self.modules[name][0] else ".py"
        return self.archive.archive + "/" + name.replace(".", "/") + tail

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:  # noqa: ARG002
        return None  # Python makes it its own way

    def exec_module(self, module: ModuleType) -> None:
        code = loads(decompress(self.modules[module.__name__][1]))  # noqa: S302 - our own zip
        exec(code, module.__dict__)  # noqa: S102 - what a loader is for

    def get_data(self, path: str) -> bytes:
        return self.archive.get_data(path)

    def get_source(self, name: str) -> str:
        return self.archive.get_data(self.file_of(name)).decode("utf-8")
