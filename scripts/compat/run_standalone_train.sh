#!/usr/bin/env bash
# ShuffleNetV1: [DEVICE_ID] [DATA_PATH], one Ascend.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-shufflenetv1}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../common.sh"

standalone Ascend "$@"
