#!/usr/bin/env bash
# Searches for an architecture on one Ascend.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/common.sh"

search Ascend "$@"
