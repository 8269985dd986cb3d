#!/usr/bin/env bash
# MnasNet: --data_path=DATA [--device_id=N], one Ascend, the whole recipe.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-mnasnet}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../../common.sh"

read_flags "$@"
standalone Ascend "$DEVICE_ID" "$DATA_PATH" ${EXTRA[@]+"${EXTRA[@]}"}
