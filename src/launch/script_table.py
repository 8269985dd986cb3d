"""Every script there is, by the path of its file: the originals' below a folder of their network, and our own.

``scripts/<network>/`` holds what an original's document names, with its words and for its network alone. ``scripts/``
itself holds our own, one name for each platform, and those of the originals' that only one of them has.
"""

from __future__ import annotations

from dataclasses import replace

from src.launch.calls import Script
from src.launch.jobs import ONE, SEVERAL, evaluation, export, on_one, on_several, search, search_of_newest, transfer

EIGHT = {"DEVICE_NUM": "8"}
BY_TABLE = "RANK_TABLE_FILE DATA_PATH"
EVAL = "DEVICE_ID DATA_PATH CHECKPOINT"
# Its script in fact took no card, although its document names one.
PROXYLESS_EVAL = Script(evaluation, "Ascend", "DATA_PATH CHECKPOINT", given={"DEVICE_ID": "0"})
# MnasNet's take flags only, and its evaluation on eight devices in fact takes one.
MNASNET = "--data_path=DATA_PATH --device_id=DEVICE_ID --checkpoint_path=CHECKPOINT"
MNASNET_GIVEN = {"DEVICE_ID": "0", "CHECKPOINT": ""}
SPEED = ("--epochs", "6", "--save_checkpoint_epochs", "6", "--measure_speed", "True")
# SPOS's took no words and read ~/imagenet/rec; here a folder with train/ and val/.
SPOS = {"DATA_PATH": "~/imagenet", "DEVICE_ID": "0", "DEVICE_NUM": "4"}
WITH_SE = (
    *("--model_options.use_se", "true", "--model_options.last_conv_after_pooling", "true"),
    *("--channel_start_epoch", "0", "--channel_warm_up", "false"),
)
PLUS_CHANNELS = ("--model_options.layout", "ShuffleNetV2+", "--model_options.last_conv_after_pooling", "false")

# What each original's document names, and what its repository had besides: folder, network, scripts.
_ORIGINALS: dict[str, tuple[str, dict[str, Script]]] = {
    "spnasnet": (
        "spnasnet",
        {
            "run_distribute_train_ascend.sh": Script(on_several, "Ascend", SEVERAL["Ascend"]),
            "run_distribute_train_gpu.sh": Script(on_several, "GPU", SEVERAL["GPU"]),
            "run_distributed_train_gpu.sh": Script(on_several, "GPU", SEVERAL["GPU"]),
            "run_standalone_train_ascend.sh": Script(on_one, "Ascend", ONE["Ascend"]),
            "run_standalone_train_gpu.sh": Script(on_one, "GPU", ONE["GPU"]),
            "run_eval_ascend.sh": Script(evaluation, "Ascend", EVAL),
            "run_eval_gpu.sh": Script(evaluation, "GPU", EVAL),
        },
    ),
    "proxylessnas_mobile": (
        "proxylessnas_mobile",
        {
            "run_distribute_train_for_ascend.sh": Script(on_several, "Ascend", BY_TABLE, given=EIGHT),
            "run_distribute_train_ascend.sh": Script(on_several, "Ascend", BY_TABLE, given=EIGHT),
            "run_distribute_train_for_gpu.sh": Script(on_several, "GPU", "DATA_PATH", given=EIGHT),
            "run_standalone_train_for_ascend.sh": Script(on_one, "Ascend", ONE["Ascend"]),
            "run_standalone_train_for_gpu.sh": Script(on_one, "GPU", ONE["GPU"]),
            "run_eval_for_ascend": Script(evaluation, "Ascend", EVAL, also=(PROXYLESS_EVAL,)),
            "run_eval_for_ascend.sh": Script(evaluation, "Ascend", EVAL, also=(PROXYLESS_EVAL,)),
            "run_eval_for_gpu.sh": Script(evaluation, "GPU", EVAL),
        },
    ),
    "shufflenetv1": (
        "shufflenetv1",
        {
            "run_distribute_train.sh": Script(on_several, "Ascend", BY_TABLE, given=EIGHT),
            "run_distribute_train_gpu.sh": Script(on_several, "GPU", "RANK_SIZE DATA_PATH"),
            "run_standalone_train.sh": Script(on_one, "Ascend", ONE["Ascend"]),
            "run_standalone_train_gpu.sh": Script(on_one, "GPU", ONE["GPU"]),
            "run_eval.sh": Script(evaluation, "Ascend", EVAL),
            "run_eval_gpu.sh": Script(evaluation, "GPU", EVAL),
            "run_transfer.sh": Script(transfer, "CPU", "DATA_PATH CHECKPOINT", recipe="shufflenetv1_transfer"),
            "run_transfer_eval.sh": Script(evaluation, "CPU", "DATA_PATH CHECKPOINT"),
        },
    ),
    "mnasnet": (
        "mnasnet",
        {
            "test/train_full_1p.sh": Script(on_one, "Ascend", MNASNET, given=MNASNET_GIVEN),
            "test/train_full_8p.sh": Script(on_several, "Ascend", MNASNET, given=EIGHT | MNASNET_GIVEN),
            "test/train_performance_1p.sh": Script(on_one, "Ascend", MNASNET, given=MNASNET_GIVEN, flags=SPEED),
            "test/train_performance_8p.sh": Script(
                on_several, "Ascend", MNASNET, given=EIGHT | MNASNET_GIVEN, flags=SPEED
            ),
            "test/train_eval_8p.sh": Script(evaluation, "Ascend", MNASNET, given=MNASNET_GIVEN),
        },
    ),
    "spos": (
        "spos_oneshot",
        {
            "train_oneshot.sh": Script(on_several, "GPU", "DATA_PATH", given=SPOS),
            "train_oneshot+.sh": Script(on_several, "GPU", "DATA_PATH", "spos_oneshot_plus", SPOS),
            "train_oneshot-s+.sh": Script(on_several, "GPU", "DATA_PATH", "spos_oneshot_s_plus", SPOS),
            "train_oneshot-s+_mobilenetv3.sh": Script(
                on_several, "GPU", "DATA_PATH", "spos_oneshot_s_plus", SPOS, flags=PLUS_CHANNELS
            ),
            # As the document describes the supernet; the other two are its repository's.
            "train_supernet.sh": Script(on_several, "GPU", "DATA_PATH", given=SPOS, recipe="spos_supernet_plus_gpu_4p"),
            "train_supernet+.sh": Script(on_one, "GPU", "DATA_PATH", given=SPOS, recipe="spos_supernet", flags=WITH_SE),
            "train_supernet+_with_constraints.sh": Script(
                *(on_one, "GPU", "DATA_PATH"),
                given=SPOS,
                recipe="spos_supernet",
                flags=(*WITH_SE, "--path_sampler", "strolling"),
            ),
            "search_supernet.sh": Script(search_of_newest, "GPU", "DATA_PATH", given=SPOS, recipe="spos_search"),
        },
    ),
}


def _originals() -> dict[str, Script]:
    """The originals' scripts by path. MnasNet's document types ``./test/...`` at the top of the repository."""
    found = {}
    for folder, (network, scripts) in _ORIGINALS.items():
        for name, script in scripts.items():
            named = script.network or network
            for path in (f"scripts/{folder}/{name}", *([name] if name.startswith("test/") else [])):
                also = tuple(replace(form, network=named, path=path) for form in script.also)
                found[path] = replace(script, network=named, also=also, path=path)
    return found


def _ours() -> dict[str, Script]:
    """Our own, for every network and platform, by name."""
    found = {"run_export.sh": Script(export, "CPU", "CHECKPOINT FILE_FORMAT")}
    for target in SEVERAL:
        platform = f"{target.lower()}.sh"
        found |= {
            f"run_distribute_train_{platform}": Script(on_several, target, SEVERAL[target]),
            f"run_standalone_train_{platform}": Script(on_one, target, ONE[target]),
            f"run_eval_{platform}": Script(evaluation, target, f"{ONE[target]} CHECKPOINT"),
            f"run_search_{platform}": Script(search, target, ONE[target]),
        }
    return found


def _scripts() -> dict[str, Script]:
    originals, ours = _originals(), _ours()
    found = dict(originals)
    of_name: dict[str, list[Script]] = {}
    for path, script in originals.items():
        if script.network != "mnasnet":
            of_name.setdefault(path.rpartition("/")[2], []).append(script)
    for name, scripts in of_name.items():
        if name not in ours:
            (script,) = scripts
            found[f"scripts/{name}"] = replace(script, path=f"scripts/{name}")
    for name, script in ours.items():
        # A checkpoint says which network it is of; where one is trained, the words may be those of one original alone.
        also = tuple(of_name.get(name, ())) if script.start in (on_one, on_several) else ()
        found[f"scripts/{name}"] = replace(script, also=also, path=f"scripts/{name}")
    return found


SCRIPTS = _scripts()
