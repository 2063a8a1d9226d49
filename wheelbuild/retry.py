"""Try again what is worth it: a step that failed because of the network, and no other."""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, TypeVar

from wheelbuild.errors import StepError

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

PAUSES = (5.0, 30.0)
"""Seconds before the second try and the third, which is the last."""

_NETWORK = re.compile(
    r"could not resolve host|temporary failure in name resolution|name or service not known|"
    r"connection (reset|refused|aborted|timed out)|(read|connect\w*|operation) timed out|"
    r"timeout was reached|tls handshake|unexpected (eof|disconnect)|incomplete ?read|"
    r"remote end closed|early eof|max retries exceeded|network is unreachable|"
    r"http error (429|5\d\d)|\b(429|5\d\d) (server|client) error|returned error: (429|5\d\d)|"
    r"http status:? (code )?(429|5\d\d)|toomanyrequests",
    re.IGNORECASE,
)


def is_network(text: str) -> bool:
    """Whether the words of pip, git, podman or docker blame the network or a server. Pure."""
    return _NETWORK.search(text) is not None


def with_retries(step: Callable[[], _Result], *, what: str) -> _Result:
    """Run the step; where the network failed it, again after a pause, twice at most."""
    for pause in PAUSES:
        try:
            return step()
        except StepError as error:
            if not is_network(str(error)):
                raise
            logger.warning("%s: %s; again in %.0f s", what, error, pause)
            time.sleep(pause)
    return step()
