"""Values are dataclasses to everybody who asks, and cost no import of `dataclasses` until then."""

from __future__ import annotations

import dataclasses

import pytest

from apex_installer.values import asdict, dataclass, field


@dataclass(frozen=True)
class Inner:
    number: int


@dataclass(frozen=True)
class Outer:
    inner: Inner
    names: tuple[str, ...] = ()
    more: dict[str, Inner] = field(default_factory=dict)

    @property
    def double(self) -> int:
        return 2 * self.inner.number


VALUE = Outer(Inner(1), names=("a",), more={"x": Inner(2)})


def test_a_value_equals_its_likes_and_nothing_else() -> None:
    assert Outer(Inner(1), ("a",), {"x": Inner(2)}) == VALUE
    assert Outer(Inner(1)) != VALUE
    assert Inner(1) != (1,)
    assert len({Inner(1), Inner(1), Inner(2)}) == 2
    assert VALUE.double == 2


def test_a_value_is_frozen() -> None:
    with pytest.raises(AttributeError, match="number"):
        Inner(1).number = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match="number"):
        del Inner(1).number  # type: ignore[misc]


@pytest.mark.parametrize(
    ("args", "named"), [((), {}), ((1, 2), {}), ((1,), {"number": 1}), ((), {"numbre": 1})]
)
def test_wrong_arguments_are_a_type_error(args: tuple[int, ...], named: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="Inner"):
        Inner(*args, **named)


def test_each_value_has_its_own_default() -> None:
    first, second = Outer(Inner(1)), Outer(Inner(1))
    first.more["x"] = Inner(3)
    assert second.more == {}


def test_the_text_form_names_every_field() -> None:
    assert repr(VALUE) == (
        "Outer(inner=Inner(number=1), names=('a',), more={'x': Inner(number=2)})"
    )


def test_dataclasses_own_functions_work_on_them() -> None:
    assert dataclasses.is_dataclass(VALUE)
    assert [found.name for found in dataclasses.fields(VALUE)] == ["inner", "names", "more"]
    assert dataclasses.replace(VALUE, names=()).inner == VALUE.inner
    assert dataclasses.asdict(VALUE) == asdict(VALUE)
    assert asdict(VALUE) == {"inner": {"number": 1}, "names": ("a",), "more": {"x": {"number": 2}}}
