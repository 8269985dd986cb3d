# shellcheck shell=bash
# What the launchers share: reading and checking their arguments, choosing the recipe, starting the program.
# Sourced by them, so "$0" and "$@" here are the launcher's own.

set -euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
NETWORK_GIVEN=${NETWORK:-}
NETWORK=${NETWORK:-spnasnet}
LAUNCH_TYPED=$(printf '%q ' bash "$0" "$@")
export LAUNCH_TYPED

# An environment in the repository serves where none is active.
if [[ -z ${VIRTUAL_ENV:-} && -x $ROOT/.venv/bin/python ]]; then
    PATH=$ROOT/.venv/bin:$PATH
fi

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

usage() { # FORM of the arguments
    printf 'Usage: bash %s %s [CONFIG_PATH] [--key value ...]\n' "$0" "$1" >&2
    printf 'CONFIG_PATH is a recipe of configs/ by name or a file. Any --key of default_config.yaml can follow;\n' >&2
    printf -- '--background leaves the terminal; the variable NETWORK chooses another network than %s.\n' "$NETWORK" >&2
    exit 2
}

# The command line of a launcher with one argument put right: SCRIPT POSITION VALUE ARGUMENTS...
with_argument() {
    local script=$1 position=$2 value=$3
    shift 3
    [[ -z $NETWORK_GIVEN ]] || printf 'NETWORK=%q ' "$NETWORK_GIVEN"
    printf '%q ' bash "$ROOT/scripts/$script" "${@:1:position-1}" "$value" "${@:position+1}"
}

# FORM ARGUMENTS...: as many values as FORM has words, an optional recipe, then --key value pairs.
# Sets VALUES, CONFIG and EXTRA.
read_arguments() {
    local form=$1
    shift
    local -a names
    read -ra names <<<"$form"
    case ${1:-} in -h | --help) usage "$form" ;; esac
    (($# >= ${#names[@]})) || usage "$form"
    VALUES=("${@:1:${#names[@]}}")
    shift "${#names[@]}"
    CONFIG=
    if (($#)) && [[ $1 != --* ]]; then
        CONFIG=$1
        shift
    fi
    if (($#)) && [[ $1 != --* ]]; then
        usage "$form"
    fi
    EXTRA=("$@")
}

whole_number() { # NAME VALUE
    [[ $2 =~ ^(0|[1-9][0-9]{0,5})$ ]] || fail "$1 must be a whole number, not '$2'"
}

positive_number() { # NAME VALUE
    whole_number "$1" "$2"
    (($2 > 0)) || fail "$1 must be at least 1"
}

existing_folder() { # NAME PATH
    [[ -d $2 ]] || fail "$1: there is no folder '$2'"
}

# A path that does not depend on the working folder and cannot be taken for a flag.
absolute() {
    case $1 in
        /*) printf '%s' "$1" ;;
        *) printf '%s' "$PWD/$1" ;;
    esac
}

device_count() { # TARGET: how many there are, nothing if that cannot be told
    case $1 in
        Ascend)
            local devices=("${LAUNCH_DEVICE_FOLDER:-/dev}"/davinci[0-9]*)
            [[ ! -e ${devices[0]} ]] || echo "${#devices[@]}"
            ;;
        GPU)
            if command -v nvidia-smi >/dev/null; then
                nvidia-smi -L | grep -c '^GPU ' || true
            fi
            ;;
    esac
}

enough_devices() { # TARGET COUNT SCRIPT POSITION ARGUMENTS...: COUNT stands at POSITION
    local target=$1 count=$2 script=$3 position=$4 present
    shift 4
    present=$(device_count "$target")
    if [[ -n $present ]] && ((count > present)); then
        fail "$count ranks, but there are $present $target devices here; type:" \
            "$(with_argument "$script" "$position" "$present" "$@")"
    fi
}

# PLATFORM COUNT: the recipe of NETWORK, for one device or for several.
recipe() {
    local file
    local -a files
    [[ -z $CONFIG ]] || {
        printf '%s' "$CONFIG"
        return
    }
    if [[ $1 == cpu ]]; then # a name that any network has, with a file of its own or without
        printf '%s' "${NETWORK}_cpu"
        return
    elif (($2 == 1)); then
        files=("$ROOT/configs/${NETWORK}_${1}"_1p.yaml "$ROOT/configs/${NETWORK}_${1}"_[2-9]p.yaml)
    else
        files=("$ROOT/configs/${NETWORK}_${1}"_[2-9]p.yaml "$ROOT/configs/${NETWORK}_${1}"_1p.yaml)
    fi
    for file in "${files[@]}"; do
        if [[ -f $file ]]; then
            file=${file##*/}
            printf '%s' "${file%.yaml}"
            return
        fi
    done
    fail "there is no recipe of $NETWORK for $1; give one as CONFIG_PATH: \`ls configs\` shows them"
}

# RECIPE COUNT: a recipe is published for one number of devices (..._8p); for another one the learning
# rate follows the total batch, unless the user sets it. Prints the flags, one a line.
rate_flags() {
    local file=$1 count=$2 name devices batch word
    for word in ${EXTRA[@]+"${EXTRA[@]}"}; do
        [[ ! $word =~ ^--(lr|lr_scaling|lr-scaling)(=|$) ]] || return 0
    done
    [[ -f $file ]] || file=$ROOT/configs/${1%.yaml}.yaml
    name=${file##*/}
    if [[ $name =~ _([0-9]+)p\.yaml$ ]] && [[ -f $file ]]; then
        devices=${BASH_REMATCH[1]}
        batch=$(sed -n 's/^batch_size: *\([0-9][0-9]*\).*/\1/p' "$file")
        if ((devices != count)); then
            printf '%s\n' --lr_scaling linear --lr_scaling_base "$((devices * ${batch:-32}))"
        fi
    fi
}

# Starts a program and stays until it has ended: LAUNCH OPTIONS... -- PROGRAM ARGUMENTS...
launch() {
    local -a options=()
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    command -v python >/dev/null || fail "python is not on PATH; activate the environment that has MindSpore"
    exec python "$ROOT/src/launch/launcher.py" "${options[@]}" "$ROOT/$1" "${@:2}" ${EXTRA[@]+"${EXTRA[@]}"}
}

# TARGET LAUNCHER COUNT DATA_PATH: trains on several devices with the recipe of that number.
train_distributed() {
    local target=$1 launcher=$2 count=$3 data=$4 config
    local -a rate
    existing_folder DATA_PATH "$data"
    config=$(recipe "${target,,}" "$count")
    mapfile -t rate < <(rate_flags "$config" "$((count * ${NODE_NUM:-1}))")
    launch --makes_run --launcher "$launcher" --ranks "$count" --target "$target" --name "${config##*/}" \
        ${TABLE:+--rank_table "$TABLE"} -- train.py --config_path "$config" --data_path "$(absolute "$data")" \
        --device_target "$target" --is_distributed True ${rate[@]+"${rate[@]}"}
}

distribute_ascend() { # RANK_TABLE_FILE DEVICE_NUM DATA_PATH ...
    read_arguments "[RANK_TABLE_FILE|msrun] [DEVICE_NUM] [DATA_PATH]" "$@"
    positive_number DEVICE_NUM "${VALUES[1]}"
    enough_devices Ascend "${VALUES[1]}" run_distribute_train_ascend.sh 2 "$@"
    ulimit -u unlimited 2>/dev/null || true # eight ranks start many threads; not every user may raise this
    if [[ ${VALUES[0]} == msrun ]]; then
        train_distributed Ascend msrun "${VALUES[1]}" "${VALUES[2]}"
    fi
    [[ -f ${VALUES[0]} ]] || fail "there is no rank table '${VALUES[0]}'; write one with \`python -m src.launch.rank_tables\`," \
        "or do without: $(with_argument run_distribute_train_ascend.sh 1 msrun "$@")"
    TABLE=$(absolute "${VALUES[0]}")
    train_distributed Ascend rank_table "${VALUES[1]}" "${VALUES[2]}"
}

distribute_gpu() { # CUDA_VISIBLE_DEVICES DEVICE_NUM DATA_PATH ...
    read_arguments "[CUDA_VISIBLE_DEVICES] [DEVICE_NUM] [DATA_PATH]" "$@"
    local -a visible
    [[ ${VALUES[0]} =~ ^[0-9]+(,[0-9]+)*$ ]] ||
        fail "CUDA_VISIBLE_DEVICES must be a list such as 0,1,2,3, not '${VALUES[0]}'"
    IFS=, read -ra visible <<<"${VALUES[0]}"
    positive_number DEVICE_NUM "${VALUES[1]}"
    if ((VALUES[1] > ${#visible[@]})); then
        fail "${VALUES[1]} ranks, but CUDA_VISIBLE_DEVICES names ${#visible[@]}; type:" \
            "$(with_argument run_distribute_train_gpu.sh 2 "${#visible[@]}" "$@")"
    fi
    enough_devices GPU "${VALUES[1]}" run_distribute_train_gpu.sh 2 "$@"
    export CUDA_VISIBLE_DEVICES=${VALUES[0]}
    train_distributed GPU mpirun "${VALUES[1]}" "${VALUES[2]}"
}

distribute_cpu() { # RANK_NUM DATA_PATH ...
    read_arguments "[RANK_NUM] [DATA_PATH]" "$@"
    positive_number RANK_NUM "${VALUES[0]}"
    train_distributed CPU msrun "${VALUES[0]}" "${VALUES[1]}"
}

# TARGET ARGUMENTS...: reads [DEVICE_ID] (not on the CPU) before the words of FORM; DEVICE gets its flags.
# Sets VALUES to what follows it.
read_device_and() {
    local target=$1 form=$2
    shift 2
    DEVICE=(--device_target "$target")
    if [[ $target == CPU ]]; then
        read_arguments "$form" "$@"
    else
        read_arguments "[DEVICE_ID] $form" "$@"
        whole_number DEVICE_ID "${VALUES[0]}"
        DEVICE+=(--device_id "${VALUES[0]}")
        VALUES=("${VALUES[@]:1}")
    fi
}

standalone() { # TARGET ARGUMENTS...: one device
    local target=$1 config
    local -a rate
    shift
    read_device_and "$target" "[DATA_PATH]" "$@"
    existing_folder DATA_PATH "${VALUES[0]}"
    config=$(recipe "${target,,}" 1)
    mapfile -t rate < <(rate_flags "$config" 1)
    launch --makes_run --target "$target" --name "${config##*/}" -- train.py --config_path "$config" \
        --data_path "$(absolute "${VALUES[0]}")" "${DEVICE[@]}" --is_distributed False ${rate[@]+"${rate[@]}"}
}

search() { # TARGET ARGUMENTS...: one device
    local target=$1
    shift
    read_device_and "$target" "[DATA_PATH]" "$@"
    existing_folder DATA_PATH "${VALUES[0]}"
    launch --makes_run --target "$target" --name search -- search.py ${CONFIG:+--config_path "$CONFIG"} \
        --data_path "$(absolute "${VALUES[0]}")" "${DEVICE[@]}"
}

# A file or folder as an absolute path; upstream's READMEs leave the suffix away.
existing_checkpoint() {
    local checkpoint=$1
    [[ -e $checkpoint || ! -f $checkpoint.ckpt ]] || checkpoint=$checkpoint.ckpt
    [[ -e $checkpoint ]] || fail "CHECKPOINT: there is no file or folder '$checkpoint'"
    absolute "$checkpoint"
}

evaluate() { # TARGET ARGUMENTS...: one device
    local target=$1 checkpoint
    shift
    read_device_and "$target" "[DATA_PATH] [CHECKPOINT]" "$@"
    existing_folder DATA_PATH "${VALUES[0]}"
    checkpoint=$(existing_checkpoint "${VALUES[1]}")
    launch --target "$target" --name eval -- eval.py ${CONFIG:+--config_path "$CONFIG"} \
        ${NETWORK_GIVEN:+--model "$NETWORK_GIVEN"} \
        --val_data_path "$(absolute "${VALUES[0]}")" --checkpoint_path "$checkpoint" "${DEVICE[@]}"
}

# MnasNet's scripts take flags only. Sets DATA_PATH, DEVICE_ID, CHECKPOINT and EXTRA.
# shellcheck disable=SC2034 # they read them
read_flags() {
    DATA_PATH='' DEVICE_ID=0 CHECKPOINT='' EXTRA=()
    while (($#)); do
        case $1 in
            --data_path=*) DATA_PATH=${1#*=} ;;
            --device_id=*) DEVICE_ID=${1#*=} ;;
            --checkpoint_path=*) CHECKPOINT=${1#*=} ;;
            *) EXTRA+=("$1") ;;
        esac
        shift
    done
    [[ -n $DATA_PATH ]] || fail "which images? Type: bash $(printf '%q' "$0") --data_path=DATA_PATH"
}

# PREFIX FLAG: the newest run whose name begins with PREFIX and that has checkpoints; FLAG names another.
newest_run() {
    local run newest=
    for run in "$ROOT/runs/$1"*/; do
        if compgen -G "${run}checkpoints/*" >/dev/null && [[ -z $newest || $run -nt $newest ]]; then
            newest=$run
        fi
    done
    [[ -n $newest ]] || fail "no run $1... with checkpoints is in $ROOT/runs; add $2"
    printf '%s' "$newest"
}

# FLAGS... -- [DATA_PATH] ...: SPOS's scripts take no arguments and read ~/imagenet; here another DATA_PATH, a recipe
# and flags can follow, which come after the script's own.
spos_arguments() {
    local -a flags=()
    while [[ $1 != -- ]]; do
        flags+=("$1")
        shift
    done
    shift
    if (($# == 0)) || [[ $1 == --* && $1 != --help ]]; then
        set -- "$HOME/imagenet" "$@"
    fi
    read_arguments "[DATA_PATH]" "$@"
    EXTRA=(${flags[@]+"${flags[@]}"} ${EXTRA[@]+"${EXTRA[@]}"})
}

spos_network() { # FLAGS... -- [DATA_PATH] ...: a fixed network on four GPUs
    spos_arguments "$@"
    distribute_gpu "${CUDA_VISIBLE_DEVICES:-0,1,2,3}" 4 "${VALUES[0]}" ${CONFIG:+"$CONFIG"} ${EXTRA[@]+"${EXTRA[@]}"}
}

spos_supernet() { # FLAGS... -- [DATA_PATH] ...: a supernet on one GPU
    spos_arguments "$@"
    standalone GPU 0 "${VALUES[0]}" "${CONFIG:-spos_supernet}" ${EXTRA[@]+"${EXTRA[@]}"}
}
