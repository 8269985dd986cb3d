#!/usr/bin/env bash
# Trains on the GPUs of one machine by mpirun; with --launcher msrun on several machines too.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/common.sh"

distribute_gpu "$@"
