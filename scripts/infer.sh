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

# True classes of the images of DATA into FILE, numbered as the export numbers them.
make_labels() { # MINDIR DATA FILE
    local manifest=${1%.mindir}.manifest.json
    local -a words=(--img_path "$2" --output_name "$3")
    [[ ! -f $manifest ]] || words+=(--class_map "$manifest")
    PYTHONPATH=$ROOT python -m src.data.labels "${words[@]}" >acc.log 2>&1 \
        || stage_failed "making the labels failed" "$PWD/acc.log"
}

# MINDIR DATA DEVICE_TYPE DEVICE_ID: sets status
predict() {
    status=0
    # 3: errors only; Lite's start-up warnings are not for users.
    GLOG_v=${GLOG_v:-3} "$ROOT/ascend310_infer/out/main" --mindir_path "$1" --dataset_path "$2" \
        --result_path result_Files --device_type "$3" --device_id "$4" >infer.log 2>&1 || status=$?
}

# FORM MINDIR DATA LABELS DEVICE_TYPE DEVICE_ID. The form says whose words acc.log has and what LABELS are:
#   spnasnet        made from the class folders
#   shufflenetv1    a file, "" makes it
#   proxylessnas    y makes preprocess_Result/imagenet_label.json, n takes it as it is there
infer() {
    local form=$1 mindir data labels=$4 device_type=$5 device_id=$6 status name made=""
    local -a score=(--result_path result_Files) skip=()
    mindir=$(existing MINDIR_PATH "$2" -f)
    data=$(existing DATA_PATH "$3" -d)
    case $form in
        spnasnet) made=$PWD/imagenet_label.json score+=(--label_path "$PWD/imagenet_label.json") ;;
        shufflenetv1)
            [[ -n $labels ]] || made=$PWD/imagenet_label.json
            [[ -z $labels ]] || labels=$(existing LABEL_FILE "$labels" -f)
            score+=(--label_file "${labels:-$made}")
            ;;
        proxylessnas)
            [[ $labels != y ]] || made=$PWD/preprocess_Result/imagenet_label.json
            [[ $labels != n || -f preprocess_Result/imagenet_label.json ]] \
                || fail "NEED_PREPROCESS n: there is no preprocess_Result/imagenet_label.json here yet; y makes it"
            score=(--result_dir result_Files --dataset_name imagenet2012)
            ;;
    esac
    [[ $device_id =~ ^(0|[1-9][0-9]{0,5})$ ]] || fail "DEVICE_ID must be a whole number, not '$device_id'"
    [[ $device_type =~ ^(CPU|GPU|Ascend|Ascend310|Ascend910)$ ]] \
        || fail "DEVICE_TYPE must be CPU, GPU, Ascend310 or Ascend910, not '$device_type'"
    [[ -z ${SKIP_BAD_IMAGES:-} ]] || skip=(--skip_bad_images)
    for name in result_Files time_Result lite_Model build.log infer.log acc.log; do
        keep_earlier "$name"
    done

    local -a fetch=()
    [[ $device_type != CPU ]] || fetch=(--fetch) # the public package serves CPUs
    PYTHON=$(command -v python || command -v python3) bash "$ROOT/ascend310_infer/build.sh" "${fetch[@]}" >build.log 2>&1 \
        || stage_failed "compile app code failed" "$PWD/build.log"

    predict "$mindir" "$data" "$device_type" "$device_id"
    if ((status == 4)); then # this Lite cannot build the model
        PYTHONPATH=$ROOT python -m src.export.mindir_v1 "$mindir" lite_Model >>infer.log 2>&1 \
            || stage_failed "execute inference failed" "$PWD/infer.log"
        tail -n 1 infer.log
        predict "$PWD/lite_Model/${mindir##*/}" "$data" "$device_type" "$device_id"
    fi
    if ((status != 0)) && ! ((status == 3 && ${#skip[@]})); then
        stage_failed "execute inference failed" "$PWD/infer.log"
    fi
    cat infer.log

    if [[ -n $made ]]; then
        mkdir -p -- "${made%/*}"
        make_labels "$mindir" "$data" "$made"
    fi
    python "$ROOT/postprocess.py" "${score[@]}" "${skip[@]}" >acc.log 2>&1 \
        || stage_failed "calculate accuracy failed" "$PWD/acc.log"
    cat acc.log
}
