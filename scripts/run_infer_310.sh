#!/usr/bin/env bash
# Predicts a folder with the C++ application and scores it. Builds the application first; writes build.log, infer.log,
# acc.log, result_Files/ and time_Result/ into the working folder.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
# shellcheck source=scripts/infer.sh
. "$(dirname -- "$0")/infer.sh"

infer_usage() {
    cat >&2 <<TEXT
Usage: bash $0 [MINDIR_PATH] [DATA_PATH] [DEVICE_ID]
   or: bash $0 [MINDIR_PATH] [DATA_PATH] [LABEL_FILE] [DEVICE_ID]
   or: bash $0 [MINDIR_PATH] imagenet2012 [DATA_PATH] [NEED_PREPROCESS] [DEVICE_ID]
NEED_PREPROCESS: y makes preprocess_Result/imagenet_label.json, n takes the one that is there. DEVICE_ID can be left
away: then \$device_id, else 0. DEVICE_TYPE in the environment is Ascend310, Ascend910, GPU or CPU; without it the
first, or the last on a machine without an Ascend. SKIP_BAD_IMAGES=1 scores the images that could be read.
TEXT
    exit 2
}

(($# >= 2)) || infer_usage
device_id=${device_id:-0}
device_type=${DEVICE_TYPE:-Ascend310}
if [[ -z ${DEVICE_TYPE:-} ]] && ! compgen -G "/dev/davinci[0-9]*" >/dev/null; then
    device_type=CPU
    echo "no Ascend here: predicting on the CPU (DEVICE_TYPE=Ascend310 insists)"
fi
if [[ $2 == imagenet2012 ]]; then # ProxylessNAS' form
    (($# == 4 || $# == 5)) || infer_usage
    [[ $4 == [yn] ]] || fail "NEED_PREPROCESS must be y or n, not '$4'"
    infer proxylessnas "$1" "$3" "$4" "$device_type" "${5:-$device_id}"
elif (($# >= 3)) && [[ ! $3 =~ ^[0-9]+$ ]]; then # ShuffleNetV1's form
    (($# <= 4)) || infer_usage
    infer shufflenetv1 "$1" "$2" "$3" "$device_type" "${4:-$device_id}"
else # Single-Path-NAS' form
    (($# <= 3)) || infer_usage
    infer spnasnet "$1" "$2" "" "$device_type" "${3:-$device_id}"
fi
