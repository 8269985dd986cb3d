#!/usr/bin/env bash
# MnasNet: --data_path=DATA [--device_id=N], one Ascend, six epochs, to measure speed.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-mnasnet}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../../common.sh"

read_flags "$@"
standalone Ascend "$DEVICE_ID" "$DATA_PATH" --epochs 6 ${EXTRA[@]+"${EXTRA[@]}"}
