"""A cell: one thing worth building. Its text form parses back."""

from __future__ import annotations

import re

from apex_installer.errors import UsageError
from apex_installer.model.arch import Version, version_text
from apex_installer.values import dataclass

_LABEL = re.compile(r"^(cp3\d+t?)-torch(\d+)\.(\d+)-cu(\d+)(\d)-([a-z]+_[a-z0-9_]+)$")


@dataclass(frozen=True)
class Cell:
    """Python tag × torch minor × CUDA minor × platform: `cp310-torch2.4-cu121-linux_x86_64`."""

    python: str
    """Interpreter tag (PEP 425): `cp310`, `cp313t`."""
    torch: Version
    cuda: Version
    platform: str = "linux_x86_64"

    @classmethod
    def parse(cls, label: str) -> Cell:
        """The inverse of `label`; UsageError shows the form."""
        match = _LABEL.match(label)
        if not match:
            raise UsageError(f"{label!r} is not a cell; write cp310-torch2.4-cu121-linux_x86_64")
        python, torch_major, torch_minor, cuda_major, cuda_minor, platform = match.groups()
        return cls(
            python=python,
            torch=(int(torch_major), int(torch_minor)),
            cuda=(int(cuda_major), int(cuda_minor)),
            platform=platform,
        )

    @property
    def label(self) -> str:
        """`cp310-torch2.4-cu121-linux_x86_64`."""
        return f"{self.python}-torch{self.torch_text}-{self.cuda_tag}-{self.platform}"

    @property
    def torch_text(self) -> str:
        """`2.4`."""
        return version_text(self.torch)

    @property
    def cuda_text(self) -> str:
        """`12.1`."""
        return version_text(self.cuda)

    @property
    def cuda_tag(self) -> str:
        """`cu121`, as in torch's own versions."""
        return f"cu{self.cuda[0]}{self.cuda[1]}"

    @property
    def index_path(self) -> str:
        """`cu121/torch2.4`: one CUDA × torch, so that no client can pick across them."""
        return f"{self.cuda_tag}/torch{self.torch_text}"
