"""apex-install as a release of its own: drafted, filled, then shown, so that it is always whole.

`releases/latest/download/apex-install.pyz` is the newest, and `.sha256` beside it. No asset is ever
replaced: other bytes are another release.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from wheelbuild.github.assets import Content, put_asset

if TYPE_CHECKING:
    from pathlib import Path

    from wheelbuild.github.releases import Releases

logger = logging.getLogger(__name__)

_TEXT = """\
`apex-install.pyz` takes wheels from this farm's index:

    curl -fLO {url}
    python3 apex-install.pyz
"""


def release_installer(zipapp: Path, *, releases: Releases) -> bool:
    """Release the file unless exactly it is released; returns whether it was. Repeatable.

    A draft that a killed run left is deleted and made again.
    """
    wanted = Content.of_file(zipapp)
    tag = f"apex-install-{wanted.sha256[:12]}"
    if releases.find(tag) is not None:
        return False
    for draft in list(releases.drafts(tag)):
        releases.delete(draft)
    repository = releases.api.repository
    url = f"{repository.server_url}/{repository.name}/releases/latest/download/{zipapp.name}"
    release = releases.create_draft(tag, title="apex-install", text=_TEXT.format(url=url))
    line = f"{wanted.sha256}  {wanted.name}\n".encode()
    for content in (wanted, Content.of_bytes(f"{wanted.name}.sha256", line)):
        put_asset(releases, release, content, named=False)
    releases.publish(release)
    logger.info("%s: released as %s", zipapp.name, tag)
    return True
