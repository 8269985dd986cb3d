"""Flags of SPOS on MXNet (CanyonWind): train_imagenet.py and search_supernet.py.

A name with a hyphen is that spelling only; with an underscore it is a key of ours and means another thing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from src.errors import UsageError
from src.settings.upstream.flag import (
    CHECKPOINT_KNOWS,
    Flag,
    Given,
    Keys,
    Table,
    no_effect,
    option,
    option_switch,
    path,
    refused,
    refused_when_on,
    require_devices,
    sets,
    switch,
    word,
)

INPUT_SIZE, CROP_RATIO = 224, 0.875
# What its networks are called: the supernet, and any path of it.
MODELS = ("ShuffleNas", "ShuffleNas_fixArch")
INDEX = no_effect("the index is that beside the .rec, or the records are counted")


def _model(text: str, _: Given) -> Keys:
    """Its options say which path; without any it is OneShot's."""
    return {"model": "spos_oneshot" if text in MODELS else text}


def _trained_model(text: str, given: Given) -> Keys:
    keys = _model(text, given)
    return {**keys, "train_supernet": text == "ShuffleNas"} if text in MODELS else keys


def _number_of_gpus(text: str, _: Given) -> Keys:
    if not text.isdecimal():
        raise UsageError(f"--num-gpus must be a whole number, not {text!r}")
    if int(text) > 1:
        require_devices("--num-gpus", int(text))
        return {"is_distributed": True}
    return {} if int(text) else {"device_target": "CPU"}


def _crop_ratio(text: str, given: Given) -> Keys:
    """The resize's short side is the input size over this ratio, rounded up."""
    ratio, size = _number("--crop-ratio", text), given.get("input_size") or str(INPUT_SIZE)
    if not 0 < ratio <= 1 or not size.isdecimal():
        raise UsageError(f"--crop-ratio must be above 0 and at most 1, not {text}")
    return {} if ratio == CROP_RATIO else {"eval_resize": math.ceil(int(size) / ratio)}


def _number(flag: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{flag} must be a number, not {text!r}") from error


def _decay_period(text: str, given: Given) -> Keys:
    """A decay every so many epochs; 0: at those of --lr-decay-epoch."""
    if text == "0":
        return {}
    period, epochs = text, given.get("num_epochs", "")
    if not (period.isdecimal() and epochs.isdecimal()):
        raise UsageError(f"--lr-decay-period {text}: a whole number of epochs; it needs --num-epochs too")
    return {"lr_epochs": list(range(int(period), int(epochs), int(period)))}


def _epoch_start_cs(text: str, given: Given) -> Keys:
    """-1 draws channels from the first epoch on, unless all are wanted; a range that widens is --cs-warm-up's."""
    if text == "-1":
        return {} if "use_all_channels" in given else {"channel_start_epoch": 0, "channel_warm_up": False}
    return {"channel_start_epoch": text, "channel_warm_up": False}


def _use_all_channels(is_on: bool, given: Given) -> Keys:
    """Upstream draws channels from --epoch-start-cs on even so."""
    return {"channel_start_epoch": -1} if is_on and given.get("epoch_start_cs", "-1") == "-1" else {}


def _limits(flag: str, text: str) -> Mapping[str, float]:
    """Of ``flops-330-params-5.0``; 0 is unbounded."""
    words = text.split("-")
    if words[::2] != ["flops", "params"] or len(words) != 4:
        raise UsageError(f"{flag} must be like flops-330-params-5.0, in millions, not {text!r}")
    return {words[0]: _number(flag, words[1]), words[2]: _number(flag, words[3])}


def _constraint_method(text: str, given: Given) -> Keys:
    """The sampler and its bounds; evolution's stand in constants upstream, which these flags change here."""
    if not text:
        return {}
    upper = _limits("--train-upper-constraints", given.get("train_upper_constraints") or "flops-0-params-0")
    bottom = _limits("--train-bottom-constraints", given.get("train_bottom_constraints") or "flops-0-params-0")
    if text == "random":
        bounds = {cost: [bottom[cost], upper[cost]] for cost in upper if bottom[cost] or upper[cost]}
        return {"path_sampler": "random", **({"path_constraints": bounds} if bounds else {})}
    if text != "evolution":
        raise UsageError(f"--train-constraint-method must be random or evolution, not {text!r}")
    ends = {f"{cost}_{end}": of[cost] for end, of in (("low", bottom), ("high", upper)) for cost in of if of[cost]}
    return {"path_sampler": "strolling", "stroll": ends}


def _constraints(text: str, given: Given) -> Keys:
    """Read with the method; upstream's programs fail without one."""
    if text and not given.get("train_constraint_method"):
        raise UsageError(f"how is {text} to be met? Give --train-constraint-method random or evolution")
    return {}


def _ratios(_: str, given: Given) -> Keys:
    """A path's costs over the comparison model's, -1 unbounded; the mean of both is at most 1 in any case."""
    names = {"flops_ratio": given.get("flop_max", "1"), "params_ratio": given.get("param_max", "-1")}
    numbers = {cost: _number("--flop-max and --param-max", text) for cost, text in names.items()}
    bounds = {cost: [0, number] for cost, number in numbers.items() if number != -1}
    return {"search_constraints": {**bounds, "score": [0, 1]}}


def _held(key: str, scope: str) -> Flag:
    """Choices that are held while the others are searched; upstream's program read them and went on without."""
    return Flag(lambda text, _: {key: text, "search_scope": scope} if text else {})


_NETWORK: Table = {
    "model": Flag(_model),
    "use_se": option_switch("use_se"),
    "last_conv_after_pooling": option_switch("last_conv_after_pooling"),
    "channels_layout": option("layout"),
    "block_choices": option("block_choices"),
    "channel_choices": option("channel_choices"),
}
_IMAGES: Table = {
    "rec_train": path("data_path"),
    "rec_train_idx": INDEX,
    "rec_val": path("val_data_path"),
    "rec_val_idx": INDEX,
    "input_size": sets("image_size"),
    "crop_ratio": Flag(_crop_ratio),
    "num_workers": sets("workers"),
    "j": sets("workers"),
    "num_gpus": Flag(_number_of_gpus),
    "dtype": word("amp_level", {"float32": "O0", "float16": "O2"}),
}
TRAIN: Table = {
    **_NETWORK,
    **_IMAGES,
    "model": Flag(_trained_model),
    "data_dir": path("data_path"),
    "use_rec": no_effect("data_path says by what lies there whether it is RecordIO", is_switch=True),
    "num_data_workers": sets("workers"),
    "num_epochs": sets("epochs"),
    "wd": sets("weight_decay"),
    "lr_mode": word("lr_schedule", {"step": "milestone"}),
    "lr_decay": sets("lr_gamma"),
    "lr_decay_epoch": sets("lr_epochs"),
    "lr_decay_period": Flag(_decay_period),
    "warmup_lr": no_effect("the warm-up began at 0 upstream whatever it said; --lr_init changes that"),
    "last_gamma": no_effect("it is for ResNets", is_switch=True),
    "mode": word(
        "mode",
        {"symbolic": "graph", "hybrid": "graph", "imperative": "graph"},
        note="networks are compiled as a graph, the supernet too; --mode pynative is step by step",
    ),
    "use_pretrained": refused_when_on("--use-pretrained: no weights are fetched; --pretrained FILE starts from a file"),
    "mixup": refused_when_on("--mixup: images are not mixed here; leave it out"),
    "mixup_alpha": no_effect("images are not mixed here"),
    "mixup_off_epoch": no_effect("images are not mixed here"),
    "label-smoothing": switch({"label_smoothing": 0.1}, {"label_smoothing": 0.0}),
    "no_wd": switch({"weight_decay_on": "weights"}, {"weight_decay_on": "all"}),
    "teacher": refused("--teacher: there is no distillation here; leave it out"),
    "temperature": no_effect("it is for a teacher, and there is none here"),
    "hard_weight": no_effect("it is for a teacher, and there is none here"),
    "batch_norm": no_effect("it is for VGG networks", is_switch=True),
    "use_gn": refused_when_on("--use-gn: these networks have batch norms; leave it out"),
    "save_frequency": sets("save_checkpoint_epochs"),
    "save_dir": path("run_dir"),
    "resume_epoch": no_effect(CHECKPOINT_KNOWS),
    "resume_params": path("resume"),
    "resume_states": no_effect("a checkpoint holds the optimizer's state"),
    "log_interval": sets("log_steps"),
    "logging_file": no_effect("the run folder holds log.txt"),
    "use_all_blocks": refused_when_on("--use-all-blocks: a step trains one op a position; leave it out"),
    "epoch_start_cs": Flag(_epoch_start_cs),
    "use_all_channels": Flag(_use_all_channels, is_switch=True),
    "cs_warm_up": switch({"channel_warm_up": True}, {"channel_warm_up": False}),
    "reduced_dataset_scale": refused("--reduced-dataset-scale: --max_steps N ends a run early", unless=("1",)),
    "flop_param_method": no_effect("costs are exact, and come from a table"),
    "train_upper_constraints": Flag(_constraints),
    "train_bottom_constraints": Flag(_constraints),
    "train_constraint_method": Flag(_constraint_method),
}
SEARCH: Table = {
    **_IMAGES,
    "shuffle_train": no_effect("the images for batch-norm statistics are drawn once, from the supernet's seed"),
    "use_se": no_effect("the supernet's checkpoint knows", is_switch=True),
    "last_conv_after_pooling": no_effect("the supernet's checkpoint knows", is_switch=True),
    "supernet_params": path("supernet"),
    "search_mode": sets("search_method"),
    "topk": sets("search_top"),
    "search_iters": sets("search_generations"),
    "update_bn_images": sets("calibration_images"),
    "search_target": word("search_target", {"acc": "accuracy", "balanced_flop_acc": "balanced"}),
    "flop_max": Flag(_ratios),
    "param_max": Flag(_ratios),
    "score_acc_ratio": sets("score_ratio"),
    "fixed_block_choices": _held("fixed_block_choices", "channels"),
    "fixed_channel_choices": _held("fixed_channel_choices", "blocks"),
    "population_size": sets("search_population"),
    "retain_length": sets("search_retain"),
    "random_select": sets("search_survive"),
    "mutate_chance": sets("search_mutation"),
}
_OF_A_CHECKPOINT = {**_NETWORK, **{name: flag for name, flag in _IMAGES.items() if not name.startswith("rec_")}}
SPOS = {
    "train": TRAIN,
    "eval": {**_OF_A_CHECKPOINT, "rec_val": path("val_data_path"), "rec_val_idx": INDEX},
    "export": _OF_A_CHECKPOINT,
    "search": SEARCH,
}
