#!/usr/bin/env bash
# Evaluates an ONNX file with ONNX Runtime on class folders; the log is also in infer_onnx.log.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/common.sh"

if (($# < 2 || $# > 3)); then
    printf 'Usage: bash %s [ONNX_PATH] [DATASET_PATH] [DEVICE_TARGET]\nDEVICE_TARGET: CPU (default), GPU, Ascend\n' "$0" >&2
    exit 2
fi
[[ -f $1 ]] || fail "ONNX_PATH: there is no file '$1'"
existing_folder DATASET_PATH "$2"
python "$ROOT/infer_onnx.py" --onnx_path "$(absolute "$1")" --dataset_path "$(absolute "$2")" \
    --device_target "${3:-CPU}" 2>&1 | tee infer_onnx.log
