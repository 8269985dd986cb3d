#!/usr/bin/env bash
# Exports a checkpoint as MINDIR, ONNX or AIR.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/common.sh"

read_arguments "[CHECKPOINT] [FILE_FORMAT]" "$@"
checkpoint=$(existing_checkpoint "${VALUES[0]}")
launch --name export -- export.py ${CONFIG:+--config_path "$CONFIG"} \
    --checkpoint_path "$checkpoint" --file_format "${VALUES[1]}"
