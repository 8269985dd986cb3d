#!/usr/bin/env bash
# ProxylessNAS: [RANK_TABLE_FILE] [DATASET_PATH], eight Ascends.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-proxylessnas_mobile}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../common.sh"

read_arguments "[RANK_TABLE_FILE|msrun] [DATA_PATH]" "$@"
distribute_ascend "${VALUES[0]}" 8 "${VALUES[1]}" ${CONFIG:+"$CONFIG"} ${EXTRA[@]+"${EXTRA[@]}"}
