#!/usr/bin/env bash
# ProxylessNAS: [DATASET_PATH] [CHECKPOINT], or with [DEVICE_ID] before them as its README has it.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-proxylessnas_mobile}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../common.sh"

if (($# >= 3)) && [[ $1 =~ ^[0-9]+$ && ! -d $1 ]]; then
    evaluate Ascend "$@"
else
    evaluate Ascend 0 "$@"
fi
