"""The process that compiles the rest of the default set; `rest` starts it. Not a command."""

from __future__ import annotations

import json
import os
import sys
import time

from apex_installer.account import Account
from apex_installer.compile_once import compile_once, scratch
from apex_installer.deadline import Deadline
from apex_installer.errors import InstallError
from apex_installer.flow import load_recipe, required_modules
from apex_installer.get.cache import Cache, find_cache
from apex_installer.make.plan_here import modules_made
from apex_installer.make.process import signals_as_exceptions
from apex_installer.means import plan_for
from apex_installer.model.request import Request
from apex_installer.read.environment import read_environment
from apex_installer.rest import SECONDS
from apex_installer.situation import Situation
from apex_installer.values import replace

NICE = 5


def main() -> None:
    """Read the request from stdin, compile, keep; what happened goes to the log, which is stderr.

    Exit codes are those of apex-install.
    """
    os.nice(NICE)
    values = json.load(sys.stdin)
    request = replace(
        Request(**{**values, "require": tuple(values["require"]), "app": tuple(values["app"])}),
        compile_timeout=SECONDS,
    )
    try:
        line = compile_rest(request)
    except InstallError as error:
        _say(f"{error.cause}: {error}")
        sys.exit(error.exit_code)
    _say(line)


def compile_rest(request: Request) -> str:
    """Compile what is required and the default set, into the cache; returns what was done."""
    recipe = load_recipe()
    account, environment = Account(say=_say), read_environment(request, environ=os.environ)
    required = required_modules(recipe, request)
    every = modules_made(recipe, environment, (*required, *recipe.groups.get("default", ())))
    wanted = plan_for(request, recipe, environment, every)
    with Cache(find_cache(flag=request.cache_dir, environ=os.environ)) as cache:
        situation = Situation(
            request=request,
            recipe=recipe,
            environment=environment,
            modules=every,
            old=None,
            put_aside=False,
            deadline=Deadline(SECONDS),
            cache=cache,
            account=account,
        )
        ends = time.monotonic() + SECONDS
        with signals_as_exceptions(), scratch() as folder:
            path, entry = compile_once(wanted, situation, folder=folder, ends=ends)
            inside = path.startswith(os.path.join(cache.location.directory, ""))
    return f"{entry.file} {'is in the cache' if inside else 'could not be kept'}"


def _say(line: str) -> None:
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {line}", file=sys.stderr)  # noqa: T201 - the log
    sys.stderr.flush()
