#!/usr/bin/env bash
# MnasNet: --data_path=DATA, eight Ascends, six epochs, to measure speed.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-mnasnet}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../../common.sh"

read_flags "$@"
distribute_ascend "${RANK_TABLE_FILE:-msrun}" 8 "$DATA_PATH" --epochs 6 ${EXTRA[@]+"${EXTRA[@]}"}
