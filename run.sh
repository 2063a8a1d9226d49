#!/bin/sh
# A pod's entry point: install Apex, which says so in one line, then become the app. Nothing that
# the installer does, or fails to do, keeps the app from starting; a signal to us ends both.
#
#   ./run.sh python app.py     without a command: install and exit
#
# APEX_INSTALL_SKIP=1    start the app alone
# APEX_INSTALL_STRICT=1  start nothing where Apex is not good enough: the installer's exit code
# Every flag of apex-install has its variable too: docs/reference/apex-install.md.
set -u

install() {
  pyz=$(dirname -- "$0")/apex-install.pyz
  [ -r "$pyz" ] || pyz=/opt/apex-install.pyz
  for python in python3 python; do
    if [ -r "$pyz" ] && command -v "$python" >/dev/null 2>&1; then
      "$python" "$pyz" -- "$@" </dev/null &
      child=$!
      wait "$child"
      return
    fi
  done
  echo "apex: none (no python3 on PATH, or no apex-install.pyz beside $0 or in /opt)" >&2
  return 3
}
# A shell waits for its child before it heeds a signal, and process 1 never does.
end() {
  kill "$child" 2>/dev/null && wait "$child"
  exit "$1"
}

code=0 child=
trap 'end 129' HUP
trap 'end 130' INT
trap 'end 143' TERM
[ "${APEX_INSTALL_SKIP:-0}" = 1 ] || install "$@" || code=$?
if [ "$#" -eq 0 ] || { [ "$code" -ne 0 ] && [ "${APEX_INSTALL_STRICT:-0}" = 1 ]; }; then
  exit "$code"
fi
exec "$@"
