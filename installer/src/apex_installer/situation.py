"""The situation: all that an outcome needs to know."""

from __future__ import annotations

from typing import Optional, Tuple

from apex_installer.account import Account
from apex_installer.deadline import Deadline
from apex_installer.get.cache import Cache
from apex_installer.model.environment import Environment
from apex_installer.model.recipe import Recipe
from apex_installer.model.request import Request
from apex_installer.put.installed import Installed
from apex_installer.values import dataclass


@dataclass(frozen=True)
class Situation:
    """All that an outcome needs to know."""

    request: Request
    recipe: Recipe
    environment: Environment
    modules: Tuple[str, ...]
    """Required ones."""
    old: Optional[Installed]
    put_aside: bool
    """Whether `old` is foreign and must be brought back by `remove`."""
    deadline: Deadline
    cache: Cache
    account: Account
