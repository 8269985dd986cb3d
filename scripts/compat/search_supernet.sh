#!/usr/bin/env bash
# SPOS: [DATA_PATH] [--supernet RUN], genetic search of the newest supernet on one GPU; --ranks 4 takes four.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called as `sh script`
NETWORK=${NETWORK:-spos_oneshot}
# shellcheck source=scripts/common.sh
. "$(dirname -- "$0")/../common.sh"

spos_arguments -- "$@"
if [[ " ${EXTRA[*]-}" != *" --supernet"[\ =]* ]]; then
    supernet=$(newest_run spos_supernet "--supernet RUN")
    EXTRA+=(--supernet "$supernet")
fi
search GPU 0 "${VALUES[0]}" "${CONFIG:-spos_search}" ${EXTRA[@]+"${EXTRA[@]}"}
