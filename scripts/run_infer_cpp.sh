#!/usr/bin/env bash
# The same as run_infer_310.sh, the device named as an argument.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
# shellcheck source=scripts/infer.sh
. "$(dirname -- "$0")/infer.sh"

if (($# < 4 || $# > 5)); then
    printf 'Usage: bash %s [MINDIR_PATH] [DATA_PATH] [LABEL_FILE] [DEVICE_TYPE] [DEVICE_ID]\n' "$0" >&2
    printf 'LABEL_FILE: lines name:class or JSON, as python -m src.data.labels writes; "" makes it. DEVICE_TYPE: Ascend, GPU, CPU.\n' >&2
    exit 2
fi
infer shufflenetv1 "$1" "$2" "$3" "$4" "${5:-0}"
