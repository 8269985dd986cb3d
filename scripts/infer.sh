# shellcheck shell=bash
# What the scripts of exported networks share: build, predict, label, score. Sourced by them.

set -euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
if [[ -z ${VIRTUAL_ENV:-} && -x $ROOT/.venv/bin/python ]]; then # serves where no environment is active
    PATH=$ROOT/.venv/bin:$PATH
fi

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

# NAME PATH KIND (-f: a file, -d: a folder): a path that depends on no working folder and is taken for no flag.
existing() {
    local path=$2
    [[ $path == /* ]] || path=$PWD/$path
    if [[ $3 == -f && -f $path || $3 == -d && -d $path ]]; then
        printf '%s' "$path"
    else
        fail "$1: there is no $([[ $3 == -f ]] && echo file || echo folder) '$2'"
    fi
}

stage_failed() { # WHAT LOG
    printf '%s, see %s:\n' "$1" "$2" >&2
    tail -n 5 -- "$2" >&2 || true
    exit 1
}

# An earlier run's results are moved aside, never removed.
keep_earlier() { # NAME
    local number=1
    [[ -e $1 ]] || return 0
    while [[ -e $1.$number ]]; do
        number=$((number + 1))
    done
    mv -- "$1" "$1.$number"
    echo "earlier $1 kept as $1.$number"
}

# MINDIR DATA LABEL_FILE ("": made from the class folders) DEVICE_TYPE DEVICE_ID
infer() {
    local mindir data label_file device_type=$4 device_id=$5 status=0 name manifest
    local -a labels score skip=()
    mindir=$(existing MINDIR_PATH "$1" -f)
    data=$(existing DATA_PATH "$2" -d)
    label_file=$3
    [[ -z $label_file ]] || label_file=$(existing LABEL_FILE "$3" -f)
    [[ $device_id =~ ^(0|[1-9][0-9]{0,5})$ ]] || fail "DEVICE_ID must be a whole number, not '$device_id'"
    [[ $device_type =~ ^(CPU|GPU|Ascend|Ascend310|Ascend910)$ ]] \
        || fail "DEVICE_TYPE must be CPU, GPU, Ascend310 or Ascend910, not '$device_type'"
    [[ -z ${SKIP_BAD_IMAGES:-} ]] || skip=(--skip_bad_images)
    for name in result_Files time_Result build.log infer.log acc.log; do
        keep_earlier "$name"
    done

    local -a fetch=()
    [[ $device_type != CPU ]] || fetch=(--fetch) # the public package serves CPUs
    PYTHON=$(command -v python || command -v python3) bash "$ROOT/ascend310_infer/build.sh" "${fetch[@]}" >build.log 2>&1 \
        || stage_failed "compile app code failed" "$PWD/build.log"

    # 3: errors only; Lite's start-up warnings are not for users.
    GLOG_v=${GLOG_v:-3} "$ROOT/ascend310_infer/out/main" --mindir_path "$mindir" --dataset_path "$data" \
        --result_path result_Files --device_type "$device_type" --device_id "$device_id" >infer.log 2>&1 || status=$?
    if ((status != 0)) && ! ((status == 3 && ${#skip[@]})); then
        stage_failed "execute inference failed" "$PWD/infer.log"
    fi
    cat infer.log

    manifest=${mindir%.mindir}.manifest.json
    if [[ -z $label_file ]]; then
        labels=(--img_path "$data" --output_name "$PWD/imagenet_label.json")
        [[ ! -f $manifest ]] || labels+=(--class_map "$manifest")
        PYTHONPATH=$ROOT python -m src.data.labels "${labels[@]}" >acc.log 2>&1 \
            || stage_failed "making the labels failed" "$PWD/acc.log"
        score=(--label_path "$PWD/imagenet_label.json")
    elif [[ $(head -c 1 -- "$label_file") == "{" ]]; then
        score=(--label_path "$label_file")
    else
        score=(--label_file "$label_file")
    fi
    python "$ROOT/postprocess.py" --result_path result_Files "${score[@]}" "${skip[@]}" >acc.log 2>&1 \
        || stage_failed "calculate accuracy failed" "$PWD/acc.log"
    cat acc.log
}
