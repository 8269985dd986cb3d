#!/usr/bin/env bash
# ShuffleNetV1: [DATA_PATH] [CHECKPOINT], transfer learning on the CPU from a checkpoint of another data set.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-shufflenetv1}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../common.sh"

read_arguments "[DATA_PATH] [CHECKPOINT]" "$@"
checkpoint=$(existing_checkpoint "${VALUES[1]}")
standalone CPU "${VALUES[0]}" "${CONFIG:-shufflenetv1_gpu_1p}" --epochs 100 --pretrained "$checkpoint" ${EXTRA[@]+"${EXTRA[@]}"}
