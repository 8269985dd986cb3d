#!/usr/bin/env bash
# ShuffleNetV1: [RANK_TABLE_FILE] [DATA_DIR], eight Ascends.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-shufflenetv1}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../common.sh"

read_arguments "[RANK_TABLE_FILE|msrun] [DATA_PATH]" "$@"
distribute_ascend "${VALUES[0]}" 8 "${VALUES[1]}" ${CONFIG:+"$CONFIG"} ${EXTRA[@]+"${EXTRA[@]}"}
