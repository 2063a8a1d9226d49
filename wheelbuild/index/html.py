"""Templates to bytes, every value escaped."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("wheelbuild", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def fill_template(template: str, /, **values: object) -> bytes:
    """Fill `wheelbuild/templates/<template>`; a value that the template lacks is an error."""
    return _environment().get_template(template).render(**values).encode()
