#!/usr/bin/env bash
# Trains on the Ascends of one machine or several: by an HCCL rank table, or by msrun without one.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/common.sh"

distribute_ascend "$@"
