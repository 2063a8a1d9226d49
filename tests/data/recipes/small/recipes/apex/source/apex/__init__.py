"""A small package shaped like NVIDIA Apex: two compiled modules and the classes over one of them."""

from packaging.version import Version

__all__ = ["FLOOR"]

FLOOR = Version("0.1")
