"""Put a wheel into the target, whichever outcome brought it; what that took goes to the account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from apex_installer.put.install import install_wheel

if TYPE_CHECKING:
    from apex_installer.model.entry import Entry
    from apex_installer.put.install import Check
    from apex_installer.situation import Situation


def place_wheel(
    path: str, entry: Entry, situation: Situation, *, outcome: str, check: Optional[Check] = None
) -> None:
    """Verify and swap; errors as of `install_wheel`, and what `check` raises of staged modules."""
    account = situation.account
    with account.step("put"):
        installed = install_wheel(
            path,
            entry=entry,
            environment=situation.environment,
            recipe=situation.recipe,
            old=situation.old,
            put_aside=situation.put_aside,
            outcome=outcome,
            check=check,
        )
    account.bytes["installed"] += installed.size
    for note in installed.notes:
        account.find(note)
