#!/usr/bin/env bash
# ProxylessNAS: [DATASET_PATH], eight GPUs.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-proxylessnas_mobile}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../common.sh"

read_arguments "[DATASET_PATH]" "$@"
distribute_gpu "${CUDA_VISIBLE_DEVICES:-0,1,2,3,4,5,6,7}" 8 "${VALUES[0]}" ${CONFIG:+"$CONFIG"} ${EXTRA[@]+"${EXTRA[@]}"}
