#!/usr/bin/env bash
# MnasNet: --data_path=DATA [--checkpoint_path=CHECKPOINT], one Ascend as upstream in fact does.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-mnasnet}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../../common.sh"

read_flags "$@"
[[ -n $CHECKPOINT ]] || CHECKPOINT=$(newest_run "${NETWORK}_" --checkpoint_path=CHECKPOINT)
evaluate Ascend "$DEVICE_ID" "$DATA_PATH" "$CHECKPOINT" ${EXTRA[@]+"${EXTRA[@]}"}
