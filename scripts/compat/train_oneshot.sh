#!/usr/bin/env bash
# SPOS: [DATA_PATH], four GPUs. Upstream reads record files; here it is a folder with train/ and val/.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-spos_oneshot}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../common.sh"

read_arguments "[DATA_PATH]" "$@"
distribute_gpu "${CUDA_VISIBLE_DEVICES:-0,1,2,3}" 4 "${VALUES[0]}" ${CONFIG:+"$CONFIG"} ${EXTRA[@]+"${EXTRA[@]}"}
