#!/usr/bin/env bash
# ProxylessNAS: [DEVICE_ID] [DATA_PATH], one Ascend.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-proxylessnas_mobile}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../common.sh"

standalone Ascend "$@"
