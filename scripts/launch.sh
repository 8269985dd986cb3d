#!/bin/sh
# Every launcher here is this one: src/launch/scripts.py knows what to start by the name it was called by.
root=$(cd -- "$(dirname -- "$0")/.." && pwd) || exit
if [ -z "${VIRTUAL_ENV:-}" ] && [ -x "$root/.venv/bin/python" ]; then # serves where no environment is active
    PATH=$root/.venv/bin:$PATH
fi
command -v python >/dev/null || {
    echo "error: python is not on PATH; activate the environment that has MindSpore" >&2
    exit 2
}
exec python "$root/src/launch/scripts.py" "$@"
