#!/usr/bin/env bash
# What every machine of a cluster job runs; any scheduler can start it, once per machine:
#     bash scripts/cluster/node.sh [CONFIG_PATH] [--key value ...]
# It takes from the environment TARGET (Ascend, GPU, CPU), RANKS (on this machine), DATA_PATH, RUN_DIR (a folder
# that all machines see), and for more than one machine NODE_NUM, NODE_RANK, MASTER_ADDR and MASTER_PORT.
# Started again with the same RUN_DIR it goes on from the newest checkpoint.

set -euo pipefail

SCRIPTS=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
: "${TARGET:?is Ascend, GPU or CPU}" "${RANKS:?is the number of ranks on this machine}"
: "${DATA_PATH:?is the folder with train/ and val/}" "${RUN_DIR:?is a folder that all machines see}"

# The scheduler's own numbers, unless NODE_RANK is set: Slurm, Volcano, Kubernetes' indexed jobs.
NODE_RANK=${NODE_RANK:-${SLURM_NODEID:-${VC_TASK_INDEX:-${JOB_COMPLETION_INDEX:-0}}}}
export NODE_RANK

case $TARGET in
    Ascend) arguments=(msrun "$RANKS" "$DATA_PATH") ;;
    GPU) arguments=("${CUDA_VISIBLE_DEVICES:-$(seq -s, 0 "$((RANKS - 1))")}" "$RANKS" "$DATA_PATH") ;;
    CPU) arguments=("$RANKS" "$DATA_PATH") ;;
    *)
        echo "error: TARGET must be Ascend, GPU or CPU, not '$TARGET'" >&2
        exit 2
        ;;
esac
exec bash "$SCRIPTS/run_distribute_train_${TARGET,,}.sh" "${arguments[@]}" "$@" \
    --launcher msrun --run_dir "$RUN_DIR" --resume auto
