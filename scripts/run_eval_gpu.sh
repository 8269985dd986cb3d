#!/usr/bin/env bash
# Evaluates a checkpoint, a folder of checkpoints or a run on one GPU.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/common.sh"

evaluate GPU "$@"
