#!/usr/bin/env bash
# Single-Path-NAS's README calls run_distribute_train_gpu.sh by this name.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-spnasnet}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../common.sh"

distribute_gpu "$@"
