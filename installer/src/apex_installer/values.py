"""Frozen values at a quarter of the price: `dataclass` and its friends, under the same names.

A pod pays for every import at every start, and `dataclasses` is the dearest: it imports `inspect`
and compiles half a dozen methods per class, 40 of the 130 ms of CPU that an `already` took. The
few values that every start needs are made here from closures. To everybody else they are
dataclasses: type checkers read the real decorator, and `dataclasses.replace`, `fields` and
`asdict` work on them, at their own price, when they are asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, Tuple

if TYPE_CHECKING:
    from dataclasses import asdict, dataclass, field, replace
else:

    class _Factory:
        """Stands for a field whose default is made anew for each value."""

        def __init__(self, make: Callable[[], Any]) -> None:
            self.make = make

    def field(*, default_factory: Callable[[], Any]) -> Any:
        """As `dataclasses.field`, with the one argument that is used here."""
        return _Factory(default_factory)

    def dataclass(*, frozen: bool) -> Callable[[type], type]:
        """As `dataclasses.dataclass(frozen=True)`: eq, hash, repr, no assignment."""
        if not frozen:
            raise TypeError("values are frozen; write a class for what changes")
        return _make_value

    def asdict(value: Any) -> Any:
        """As `dataclasses.asdict`: values become dicts, all the way down."""
        names = vars(type(value)).get("__names__")
        if names is not None:
            return {name: asdict(getattr(value, name)) for name in names}
        if isinstance(value, (tuple, list)):
            return type(value)(asdict(item) for item in value)
        if isinstance(value, dict):
            return {key: asdict(item) for key, item in value.items()}
        return value

    def replace(value: Any, **changes: Any) -> Any:
        """As `dataclasses.replace`."""
        return type(value)(**{**{name: getattr(value, name) for name in _names(value)}, **changes})

    class _DataclassFields:
        """What `dataclasses` looks for, made when it first does."""

        def __get__(self, instance: Any, owner: type) -> Dict[str, Any]:
            import dataclasses  # noqa: PLC0415 - the price is paid by who asks

            defaults = {
                name: dataclasses.field(default_factory=default.make)
                if isinstance(default, _Factory)
                else default
                for name, default in vars(owner)["__defaults__"].items()
            }
            body = {"__annotations__": owner.__annotations__, **defaults}
            twin = dataclasses.dataclass(frozen=True)(type(owner.__name__, (), body))
            owner.__dataclass_fields__ = twin.__dataclass_fields__
            return twin.__dataclass_fields__

    def _make_value(cls: type) -> type:
        names = tuple(cls.__annotations__)
        cls.__names__ = cls.__match_args__ = names
        cls.__defaults__ = {name: cls.__dict__[name] for name in names if name in cls.__dict__}
        cls.__dataclass_fields__ = _DataclassFields()
        cls.__init__ = _init
        cls.__setattr__ = cls.__delattr__ = _refuse
        cls.__eq__, cls.__hash__, cls.__repr__ = _eq, _hash, _repr
        return cls

    def _init(self: Any, *args: Any, **named: Any) -> None:
        names, defaults = self.__names__, self.__defaults__
        given = dict(zip(names, args))
        unknown = [name for name in named if name not in names or name in given]
        if unknown or len(args) > len(names):
            raise TypeError(f"{type(self).__name__}: unexpected {unknown or args[len(names) :]}")
        given.update(named)
        missing = [name for name in names if name not in given and name not in defaults]
        if missing:
            raise TypeError(f"{type(self).__name__}: missing {', '.join(missing)}")
        for name in names:
            value = given[name] if name in given else defaults[name]
            self.__dict__[name] = value.make() if isinstance(value, _Factory) else value

    def _refuse(self: Any, name: str, *_value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be changed")

    def _fields(value: Any) -> Tuple[Any, ...]:
        return tuple(getattr(value, name) for name in _names(value))

    def _names(value: Any) -> Tuple[str, ...]:
        return vars(type(value))["__names__"]

    def _eq(self: Any, other: object) -> Any:
        return _fields(self) == _fields(other) if type(self) is type(other) else NotImplemented

    def _hash(self: Any) -> int:
        return hash(_fields(self))

    def _repr(self: Any) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__names__)
        return f"{type(self).__name__}({shown})"


__all__ = ["asdict", "dataclass", "field", "replace"]
