#!/usr/bin/env bash
# Evaluates an ONNX file with ONNX Runtime on class folders; the log is also in infer_onnx.log.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
# shellcheck source=scripts/infer.sh
. "$(dirname -- "$0")/infer.sh"

if (($# < 2 || $# > 3)); then
    printf 'Usage: bash %s [ONNX_PATH] [DATASET_PATH] [DEVICE_TARGET]\nDEVICE_TARGET: CPU (default), GPU, Ascend\n' "$0" >&2
    exit 2
fi
onnx=$(existing ONNX_PATH "$1" -f)
images=$(existing DATASET_PATH "$2" -d)
python "$ROOT/infer_onnx.py" --onnx_path "$onnx" --dataset_path "$images" --device_target "${3:-CPU}" 2>&1 | tee infer_onnx.log
