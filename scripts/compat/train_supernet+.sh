#!/usr/bin/env bash
# SPOS: [DATA_PATH], the supernet with squeeze-excite, one GPU. Without DATA_PATH ~/imagenet (train/ and val/, no records).
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-spos_oneshot}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../common.sh"

spos_supernet --model_options.use_se true --model_options.last_conv_after_pooling true \
    --channel_start_epoch 0 --channel_warm_up false -- "$@"
