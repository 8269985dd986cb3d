#!/usr/bin/env bash
# SPOS: [DATA_PATH], four GPUs. Without DATA_PATH ~/imagenet (train/ and val/, no records).
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-spos_oneshot_plus}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../common.sh"

spos_network -- "$@"
