"""The outcome `wheel`: the best entry of the index, fetched, verified, checked and swapped in."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Iterator, Optional, Sequence, Tuple

from apex_installer.check import require_machine_code, require_symbols
from apex_installer.errors import (
    CheckError,
    DeadlineError,
    DownloadError,
    NoWheelError,
    TrustError,
    UsageError,
)
from apex_installer.get.http import Fetcher, NotFoundError
from apex_installer.get.url import Url
from apex_installer.model.cell import Cell
from apex_installer.model.entry import Entry
from apex_installer.model.environment import Environment
from apex_installer.model.request import Request
from apex_installer.offer import Offer, read_offer, wishes_for
from apex_installer.pick import Choice, Wishes, pick
from apex_installer.placing import place_wheel
from apex_installer.situation import Situation
from apex_installer.values import replace


def cell_of(environment: Environment) -> Cell:
    """The cell, or NoWheelError in words for a torch without CUDA."""
    torch = environment.torch
    if torch.hip:
        raise NoWheelError(
            f"torch {torch.version} in {torch.directory} is built for ROCm {torch.hip}, and there "
            "is CUDA code only: install a CUDA build of torch"
        )
    cell = environment.cell
    if cell is None:
        raise NoWheelError(
            f"torch {torch.version} in {torch.directory} is built without CUDA: "
            "install a CUDA build of torch"
        )
    return cell


def index_url_of(request: Request) -> str:
    """The index, or NoWheelError in words; UsageError for what is no address."""
    if not request.index_url:
        raise NoWheelError("no index: give --index-url or set APEX_INSTALL_INDEX_URL")
    try:
        Url.parse(request.index_url)
    except UsageError as error:
        raise UsageError(f"--index-url: {error}") from error
    return request.index_url


def install_from_index(situation: Situation) -> Entry:
    """Take the best entry that fits; a missing file, bad bytes or a failed check strike one out."""
    with _offered(situation) as (offer, fetcher):
        return _first_that_holds(offer, fetcher, situation)


def fetch_best(situation: Situation) -> Entry:
    """Fetch the best plain wheel and the index's document into the cache, and no more."""
    with _offered(situation) as (offer, fetcher):
        wishes = Wishes(
            modules=situation.modules, at_hand=offer.at_hand, plain_only="other pods read the cache"
        )
        choice = pick(offer.entries, situation.environment, wishes)
        situation.account.note_choice(choice)
        if choice.best is None:
            raise NoWheelError(_miss(situation, choice, None))
        _fetch(choice.best, offer, fetcher, situation)
    return choice.best


@contextmanager
def _offered(situation: Situation) -> Iterator[Tuple[Offer, Fetcher]]:
    """What can be had, and the connection that it was asked over."""
    request = situation.request
    cell, index_url = cell_of(situation.environment), index_url_of(request)
    with Fetcher(allow_http=request.allow_http, deadline=situation.deadline) as fetcher:
        with situation.account.step("index"):
            offer = read_offer(index_url, cell, fetcher=fetcher, situation=situation)
        yield offer, fetcher


def _first_that_holds(offer: Offer, fetcher: Fetcher, situation: Situation) -> Entry:
    """Pick, fetch and put, until an entry is in place or none fits any more."""
    account, environment = situation.account, situation.environment
    wishes = wishes_for(offer, situation)
    failure: Optional[Exception] = None
    while True:
        choice = pick(offer.entries, environment, wishes)
        account.note_choice(choice)
        if choice.best is None:
            raise NoWheelError(_miss(situation, choice, failure)) from failure
        if situation.request.dry_run:
            return choice.best
        try:
            path = _fetch(choice.best, offer, fetcher, situation)
            _put(choice.best, path, situation)
        except (NotFoundError, TrustError, CheckError) as error:
            account.fail("wheel", error)
            failure = error
            wishes = replace(wishes, struck_out=(*wishes.struck_out, choice.best.sha256))
        else:
            return choice.best


def _miss(situation: Situation, choice: Choice, failure: Optional[Exception]) -> str:
    environment = situation.environment
    cell = environment.cell
    wanted = (
        f"no wheel for {environment.interpreter.tag} torch {environment.torch.version} "
        f"{cell.cuda_tag if cell else ''} {environment.gpu_text}"
    )
    if failure is not None:
        index = Url.parse(index_url_of(situation.request)).shown
        return f"no other wheel fits: tell who keeps {index}, or name another with --index-url"
    if choice.nearest is None:
        return f"{wanted}; the index holds none for this torch and CUDA"
    nearest = f"{choice.nearest.file} {choice.nearest.reason}"
    return f"{wanted}; nearest: {nearest}; apex-install doctor names all"


def _fetch(entry: Entry, offer: Offer, fetcher: Fetcher, situation: Situation) -> str:
    """Path of the verified bytes, from the cache or the index."""
    account, cache = situation.account, situation.cache
    with account.step("fetch"):
        path = cache.wheel(entry.sha256)
        if path is None and offer.at_hand is not None:
            raise NotFoundError(f"{entry.file} is not in the cache, and no network")
        if path is None:
            part = cache.part_for(entry.sha256, size=entry.size)
            try:
                account.bytes["downloaded"] += fetcher.download(
                    entry.url, part, sha256=entry.sha256, size=entry.size
                )
            except NotFoundError as error:
                raise NotFoundError(f"{error}, though the index lists it") from error
            except (DownloadError, DeadlineError):
                cache.keep_part(part)
                raise
            path = cache.publish(part, sha256=entry.sha256, file=entry.file)
    account.find(cache.finding)
    return path


def _check_staged(staged: Sequence[str], entry: Entry, environment: Environment) -> None:
    """The modules' own bytes: the symbol check, and the machine code that the index promised."""
    try:
        require_symbols(staged, environment)
        require_machine_code(staged, entry)
    except (CheckError, TrustError) as error:
        # Where they were staged is gone when somebody reads the line.
        line = str(error).replace(os.path.join(os.path.dirname(staged[0]), ""), "")
        raise type(error)(f"{entry.file}: {line}") from error


def _put(entry: Entry, path: str, situation: Situation) -> None:
    """The deadline is asked before the swap, never in its middle."""
    environment = situation.environment
    situation.deadline.check("installing the wheel")
    place_wheel(
        path,
        entry,
        situation,
        outcome="wheel",
        check=lambda staged: _check_staged(staged, entry, environment),
    )
