#!/usr/bin/env bash
# SPOS: [DATA_PATH], the channels of ShuffleNetV2+, four GPUs. Without DATA_PATH ~/imagenet (train/ and val/, no records).
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-spos_oneshot_s_plus}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../common.sh"

spos_network --model_options.layout ShuffleNetV2+ --model_options.last_conv_after_pooling false -- "$@"
