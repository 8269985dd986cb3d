#!/usr/bin/env bash
# ProxylessNAS's README calls run_distribute_train_for_ascend.sh by this name.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-proxylessnas_mobile}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../common.sh"

read_arguments "[RANK_TABLE_FILE|msrun] [DATA_PATH]" "$@"
distribute_ascend "${VALUES[0]}" 8 "${VALUES[1]}" ${CONFIG:+"$CONFIG"} ${EXTRA[@]+"${EXTRA[@]}"}
