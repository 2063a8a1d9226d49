"""What people ask for: the open issues of the form "want this wheel?", by its label."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wheelbuild.github.api import Api

LABEL = "wanted"
"""That the form sets (.github/ISSUE_TEMPLATE)."""


def read_wanted(api: Api) -> tuple[str, ...]:
    """Each issue as a JSON line that `wheelbuild.misses` counts; PublishError where none is told.

    GitHub lists pull requests among the issues; those are left out.
    """
    issues = api.pages("/issues", {"labels": LABEL, "state": "open"})
    return tuple(
        json.dumps({"title": issue.get("title"), "body": issue.get("body")})
        for issue in issues
        if "pull_request" not in issue
    )
