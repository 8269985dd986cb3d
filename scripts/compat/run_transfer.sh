#!/usr/bin/env bash
# ShuffleNetV1: [DATA_PATH] [CHECKPOINT], transfer learning on the CPU from a checkpoint of another data set.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-shufflenetv1}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../common.sh"

read_arguments "[DATA_PATH] [CHECKPOINT]" "$@"
existing_folder DATA_PATH "${VALUES[0]}"
if [[ ! -d ${VALUES[0]}/train ]]; then
    fail "'${VALUES[0]}' has no train/ and val/; make a folder that has:" \
        "python -m src.data.split $(printf '%q %q' "${VALUES[0]}" "${VALUES[0]%/}_split")"
fi
checkpoint=$(existing_checkpoint "${VALUES[1]}")
standalone CPU "${VALUES[0]}" "${CONFIG:-${NETWORK}_transfer}" --pretrained "$checkpoint" ${EXTRA[@]+"${EXTRA[@]}"}
