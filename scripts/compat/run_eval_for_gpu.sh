#!/usr/bin/env bash
# ProxylessNAS: [DEVICE_ID] [DATA_PATH] [CHECKPOINT], one GPU.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-proxylessnas_mobile}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../common.sh"

evaluate GPU "$@"
