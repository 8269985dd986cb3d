"""Trains a network: python train.py --config_path RECIPE --data_path DATA (see --help for every key)."""

from __future__ import annotations

from src.settings.command_line import answer_help

if __name__ == "__main__":
    answer_help("train")  # before the imports below, which take seconds

import gc
import logging
import shlex
import sys

from src.data.split import HELD_OUT_FILE, SPLIT_FILE
from src.errors import UsageError, run
from src.machine.device import cards_of, describe_device, uses_sink, versions
from src.machine.modelarts import on_modelarts
from src.machine.ranks import broadcast_parameters, leave
from src.models import list_models
from src.runs.checkpoint import read_checkpoint
from src.runs.folder import checkpoint_of, require_resumable
from src.runs.log import record
from src.runs.run import Run, started
from src.runs.trained import Trained
from src.settings.command_line import parse_arguments
from src.settings.config import Config
from src.settings.yaml_text import to_yaml
from src.supernet import path_parts as supernet
from src.training import parts as build
from src.training.going_on import pace_of_data, position_of, shifted
from src.training.speed import Speed
from src.training.step import precision_note
from src.training.trainer import Trainer

log = logging.getLogger("src.train")


def main(argv: list[str]) -> None:
    config = build.with_weights(parse_arguments(argv, "train", cards_of))
    if told := build.network_told(config):
        config = build.with_weights(parse_arguments([*argv, *told], "train", cards_of))
    require_resumable(config.resume)
    if not config.model:
        line = shlex.join(["python", "train.py", "--model", "NAME", *argv])
        raise UsageError(
            f"which network? Type: {line}; python summary.py lists recipes, NAME is {', '.join(list_models())}"
        )
    config = build.normalised_as_pretrained(build.from_weights_alone(config))
    build.check_inputs(config)
    with started(config, "train") as current:
        train(config, current)


def train(config: Config, current: Run) -> None:
    folder, world, target = current.folder, current.world, current.target
    log.info(f"{config.model} on {current}; run folder {folder.path}")
    resumed, complaints = checkpoint_of(config.resume, folder)
    for complaint in complaints:
        log.warning(f"passed over a damaged checkpoint: {complaint}")

    classes, train_files = build.train_images(config)
    validation = []
    if split := build.split_of(train_files, config, resumed):
        train_files, validation = split.parts(train_files)
        log.info(f"{len(validation)} images of the training folder validate; {SPLIT_FILE} of the run says which")
    if eval_folder := None if config.measure_speed else build.eval_folder(config):
        validation = build.eval_images(eval_folder, classes, config)
    preprocessing = build.preprocessing_of(config)
    if config.train_supernet:
        of_search = supernet.held_out_of(train_files, config, config.seed, resumed)
        train_files, held_out = of_search.parts(train_files)
        log.info(f"{len(held_out)} training images are held out for the search")
    train_data = build.train_data_of(config, train_files, preprocessing, world)
    eval_data = build.eval_data_of(config, validation, preprocessing, world) if validation else None

    num_classes = build.classes_in_head(config, classes)
    loss = build.loss_of(config, num_classes)
    rates = build.learning_rates_of(config, train_data.steps_per_epoch, world)
    checkpoint = read_checkpoint(resumed) if resumed else None
    if checkpoint and checkpoint.state:
        at = position_of(checkpoint, pace_of_data(train_data, config.accumulate), config.seed)
        rates = shifted(rates, at.offset)
    own = config.replace(pretrained="") if resumed else config
    if config.train_supernet:
        parts = supernet.parts_of(own, loss, rates, train_data, preprocessing, world)
    else:
        parts = build.parts_of(own, loss, rates, world)

    def keep() -> None:
        folder.write_config(config)
        folder.write_json("classes.json", classes)
        if split:
            split.write(folder.path / SPLIT_FILE)
        if config.train_supernet:
            of_search.write(folder.path / HELD_OUT_FILE)

    trainer = Trainer(
        config=config,
        **parts._asdict(),
        learning_rates=rates,
        train_data=train_data,
        eval_data=eval_data,
        trained=Trained(
            config.model,
            config.model_options,
            num_classes,
            list(classes),
            preprocessing,
            config.kept(),
            versions(),
            describe_device(target),
        ),
        run=folder,
        world=world,
        is_sinking=uses_sink(config.sink, target) and not config.train_supernet,
        keep=keep,
    )
    speed = Speed(config.batch_size * world.size)
    if config.measure_speed:
        trainer.after_step.append(speed)
    if checkpoint:
        trainer.restore(checkpoint)
        log.info(f"going on from {resumed}")
    if world.size > 1:
        broadcast_parameters(parts.network.get_parameters())

    log.info(to_yaml(config.changed()).rstrip())
    log.debug(f"all of it:\n{config.to_yaml().rstrip()}")
    log.info(
        f"{len(train_files)} training images of {len(classes)} classes, {train_data.steps_per_epoch} steps an epoch; "
        f"{len(validation) or 'no'} validation images: {preprocessing}"
    )
    if note := precision_note(config.amp_level, target):
        log.warning(note)
    if why := trainer.reason_to_end():
        log.info(f"nothing is left to train: {why}")
    else:
        log.info("the first step compiles the network; that can take a minute")
    result = trainer.fit()
    if world.is_main:
        folder.write_json("result.json", result)
    log.info(f"train success: {result['status']}; results, curves and checkpoints are in {folder.path}")
    record("result", **result)
    if config.measure_speed:
        log.info(str(speed))
    elif config.train_supernet:
        recipe = "spos_search_digits" if config.model_options.get("layout") == "digits" else "spos_search"
        words = f"--config_path {recipe} --supernet {folder.path} --data_path {config.data_path}"
        log.info(f"next: python search.py {words}")
    elif validation:
        log.info(f"next: python eval.py --checkpoint_path {folder.path}")
        log.info(f"as a page, alone or beside other runs: python -m src.runs.report {folder.path}")


if __name__ == "__main__":
    gc.freeze()  # the imports stay; the framework collects garbage at every compilation
    run(on_modelarts(main, "train"), sys.argv[1:], at_end=leave)
