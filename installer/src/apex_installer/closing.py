"""What is open until the end of a `with`; `contextlib.closing` would hand out another object."""

from __future__ import annotations

from typing import Optional, Type, TypeVar

_Self = TypeVar("_Self", bound="Closing")


class Closing:
    """A context manager that ends with its `close`."""

    def __enter__(self: _Self) -> _Self:  # noqa: PYI019 - typing.Self is newer than 3.9
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: object
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go; nothing may be asked afterwards."""
        raise NotImplementedError
