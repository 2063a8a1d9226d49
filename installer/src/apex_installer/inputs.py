"""What goes into a compile beside the toolkit: the source, and what its setup.py imports."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Dict

from apex_installer.errors import CompileError, DownloadError
from apex_installer.get.sources import find_archive, is_archive
from apex_installer.get.supply import PinnedFile, at
from apex_installer.get.url import Url
from apex_installer.make.needs import find_importable
from apex_installer.make.pins import Part
from apex_installer.make.source import fetch_commit
from apex_installer.make.unpack import unpack_archive, unpack_wheel

if TYPE_CHECKING:
    from apex_installer.make.plan_here import Wanted
    from apex_installer.means import Means
    from apex_installer.model.request import Request
    from apex_installer.situation import Situation


def find_source(wanted: Wanted, means: Means, situation: Situation) -> str:
    """What was named, else the archive of cache or index, else the ref's commit by git."""
    request, recipe = situation.request, situation.recipe
    into = os.path.join(means.folder, "source")
    if request.source:
        given = os.path.abspath(request.source)
        return unpack_archive(given, into=into) if is_archive(given) else given
    commit, failure = str(wanted.ref["commit"]), ""
    try:
        path = find_archive(
            commit,
            index_url=request.index_url,
            cache=means.files,
            supply=means.supply,
        )
    except DownloadError as error:
        path, failure = None, f"{error}; "
    if path is not None:
        return unpack_archive(path, into=into)
    url = recipe.raw.get("git_url")
    if not url or request.offline:
        raise CompileError(
            f"{failure}no source of {wanted.ref['name']}: name a checkout with --source DIR"
        )
    return fetch_commit(str(url), commit, into=into, ends_at=means.ends)


def find_requirements(means: Means, situation: Situation) -> Dict[str, str]:
    """The compile's environment: what setup.py imports and the pod lacks, in a private folder."""
    interpreter = situation.environment.interpreter.executable
    wanted = means.pins.build_requirements
    there = find_importable(interpreter, [one.module for one in wanted], os.environ)
    lacking = [one for one in wanted if one.module not in there]
    if not lacking:
        return dict(os.environ)
    folder = os.path.join(means.folder, "requirements")
    files = [requirement_file(one, means, situation.request) for one in lacking]
    for path in means.supply.get_all(files):
        unpack_wheel(path, into=folder)
    paths = [folder, os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def requirement_file(part: Part, means: Means, request: Request) -> PinnedFile:
    """From the index, which may hold it by its content, else from PyPI."""
    addresses = [means.supply.on_pypi(part.name, part.file)]
    if request.index_url:
        base = Url.of_folder(request.index_url)
        addresses.insert(0, at(base.joined(f"files/{part.sha256}/{part.file}").text))
    return PinnedFile(part.base, part.sha256, part.size, tuple(addresses))
