#!/usr/bin/env bash
# ShuffleNetV1: [DATA_PATH] [CHECKPOINT], evaluates a transferred network on the CPU.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-shufflenetv1}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../common.sh"

evaluate CPU "$@"
