#!/usr/bin/env bash
# ShuffleNetV1: [RANK_SIZE] [TRAIN_DATA_DIR], the first RANK_SIZE GPUs.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-shufflenetv1}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../common.sh"

read_arguments "[RANK_SIZE] [TRAIN_DATA_DIR]" "$@"
positive_number RANK_SIZE "${VALUES[0]}"
first=$(seq -s, 0 "$((VALUES[0] - 1))")
distribute_gpu "${CUDA_VISIBLE_DEVICES:-$first}" "${VALUES[0]}" "${VALUES[1]}" ${CONFIG:+"$CONFIG"} ${EXTRA[@]+"${EXTRA[@]}"}
