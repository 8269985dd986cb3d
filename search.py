"""Searches a trained supernet: python search.py --config_path RECIPE --supernet RUN --data_path DATA.

With --export_subnet RECIPE it instead cuts the weights of that recipe's path out of the supernet, with
--plot_samplers it draws what the path samplers draw.
"""

from __future__ import annotations

from src.settings.command_line import answer_help

if __name__ == "__main__":
    answer_help("search")  # before the imports below, which take seconds

import time
from pathlib import Path
from typing import NamedTuple

from src.data.dataset import EvalData
from src.errors import UsageError, run
from src.files import sha256
from src.machine.device import describe_device, set_up
from src.machine.ranks import World, all_reduce_sum, current_world, initialise, leave
from src.machine.stop import StopRequest
from src.runs.checkpoint import SUFFIX, load_checkpoint, read_checkpoint
from src.runs.folder import LAST, RunFolder, checkpoints_of, is_run, open_run
from src.runs.log import Log
from src.runs.trained import Trained
from src.settings.command_line import parse_arguments, split_command
from src.settings.config import Config, load_config
from src.space.evolution import Search
from src.space.journal import Journal
from src.space.spaces import Space, from_genes
from src.supernet import search_report
from src.supernet.path_parts import calibration_images, operators_of, space_of, split_held_out, supernet_of
from src.supernet.recalibration import PathAccuracy, keep_in_memory
from src.supernet.searching import Candidate, header_of, run_search, search_of, tables_of
from src.supernet.subnet import cut_out, path_of, write_subnet
from src.training import parts as build

JOURNAL = "journal.jsonl"


class TrainedSupernet(NamedTuple):
    """A trained supernet: its checkpoint, what that says of itself, and the space.

    Space, seed and held-out images of a search are those of ``facts.config``.
    """

    checkpoint: Path
    facts: Trained
    space: Space


def main(argv: list[str]) -> None:
    command, value, words = split_command(argv, "search")
    config = parse_arguments(words, "search")
    world = current_world()
    target = set_up(config.device_target, world.card(config.device_id), config.mode, config.deterministic, config.seed)
    initialise(world, config.is_distributed, target)
    if command == "plot_samplers":
        plot_samplers(config, world)
    elif command == "export_subnet":
        with Log(is_quiet=not world.is_main) as log:
            export_subnet(value, config, log, world)
    else:
        trained = supernet_of_run(config.supernet)
        folder = search_folder(config, world)
        with Log(folder.path if world.is_main else None, is_quiet=not world.is_main) as log:
            search(config, trained, folder, log, world, target)


def plot_samplers(config: Config, world: World) -> None:
    folder = open_run(config.replace(resume=""), world.is_main)
    space = space_of(
        config.replace(model=config.model or "spos_oneshot"), config.num_classes or 1000, config.image_size
    )
    with Log(folder.path if world.is_main else None, is_quiet=not world.is_main) as log:
        for line in search_report.draw_samplers(config, space, folder.path / "samplers.png"):
            log.line(line)
        log.line(f"picture: {folder.path / 'samplers.png'}")


def export_subnet(recipe_name: str, config: Config, log: Log, world: World) -> None:
    trained = supernet_of_run(config.supernet)
    recipe = load_config(recipe_name, {"data_path": config.data_path, "val_data_path": config.val_data_path})
    path = path_of(recipe, trained.space)
    file = Path(recipe_name).with_suffix(SUFFIX)
    if file.exists():
        raise UsageError(f"{file} is there already; move it away to export anew")
    scores, scored_on = scores_of(config, trained, log)
    subnet = cut_out(scores, path, recipe)
    inside, alone = (f"{hits / scores.total:.4f}" for hits in subnet.hits)
    log.line(f"accuracy of the path on {scored_on}: {inside} in the supernet, {alone} alone")
    log.line(f"largest difference between the logits: {subnet.difference:.2g}")
    if trained.facts.config.supernet_masking == "upstream" or trained.facts.config.supernet_rounded:
        log.line("note: this supernet masks as upstream does, so a path in it is not quite the network alone")
    if world.is_main:
        write_subnet(file, subnet, recipe, trained.facts)
        log.line(f"next: python eval.py --checkpoint_path {file}")
        log.line(f"or python train.py --config_path {recipe_name} --pretrained {file}, to fine-tune")


def search_folder(config: Config, world: World) -> RunFolder:
    """The run folder of the search; a search always goes on where its journal ends.

    Raises:
        UsageError: the folder is that of another run.
    """
    path = Path(config.run_dir)
    if config.run_dir and is_run(path) and not (path / JOURNAL).is_file():
        raise UsageError(f"{path} holds a run that is no search; give another --run_dir")
    return open_run(config.replace(resume="auto") if config.run_dir else config, world.is_main)


def search(config: Config, trained: TrainedSupernet, folder: RunFolder, log: Log, world: World, target: str) -> None:
    tables = tables_of(config, trained.space)
    the_search = search_of(config, trained.space, tables)
    header = header_of(config, trained.space, sha256(trained.checkpoint))
    journal = Journal(folder.path / JOURNAL, header, is_writing=world.is_main)
    all_reduce_sum([0])  # every rank has read the journal before rank 0 adds to it
    if world.is_main:
        folder.write_config(config.replace(resume=""))
    log.line(f"searching {trained.checkpoint} on {describe_device(target)}, rank {world.rank} of {world.size}")
    scores, scored_on = scores_of(config, trained, log)
    log.line(f"constraints: {the_search.constraints}; at most {the_search.total()} paths, scored on {scored_on}")
    start = time.perf_counter()
    with journal, StopRequest(world.is_main) as stop, log.progress(the_search.total(), 0, "paths") as bar:

        def after_each(candidate: Candidate, is_known: bool) -> None:
            bar.update()
            if not is_known:
                log.line(f"path {candidate.index} (generation {candidate.generation}): {candidate.accuracy:.4f}")
                stop.raise_if_set()

        candidates = run_search(the_search, scores, journal, world, after_each)
    if world.is_main:
        ranked = [candidates[index] for index in ranking(the_search, candidates)]
        search_report.write_results(
            folder.path, config, trained.facts.config, trained.space, tables, candidates, ranked, scored_on
        )
        best = ranked[0]
        log.line(f"{len(candidates)} paths in {time.perf_counter() - start:.0f} s")
        log.line(f"best: accuracy {best.accuracy:.4f}, blocks {best.architecture.blocks}, {best.architecture.channels}")
        log.record(
            "result", accuracy=best.accuracy, blocks=best.architecture.blocks, channels=best.architecture.channels
        )
        log.line(f"next: python train.py --config_path {folder.path / 'best.yaml'} --data_path {config.data_path}")


def supernet_of_run(given: str) -> TrainedSupernet:
    """The supernet that ``--supernet`` means: a checkpoint, or the last one of a run.

    Raises:
        UsageError: there is none, or it is damaged or of one network alone.
    """
    if not given:
        raise UsageError("which supernet? Give --supernet RUN, the run folder of train.py --train_supernet")
    checkpoint = checkpoints_of(given, "--supernet", (LAST,))[-1]
    facts = read_checkpoint(checkpoint).trained
    if facts is None or not facts.is_supernet:
        raise UsageError(f"{checkpoint} is not of a supernet; train one with train.py --train_supernet")
    config = facts.config
    return TrainedSupernet(checkpoint, facts, space_of(config, facts.num_classes, config.image_size))


def scores_of(config: Config, trained: TrainedSupernet, log: Log) -> tuple[PathAccuracy, str]:
    """What scores a path, and on which images, in words."""
    facts, own = trained.facts, trained.facts.config
    classes, files = build.train_images(config, log)
    if list(classes) != facts.classes:
        raise UsageError(f"{config.data_path} has other classes than the supernet was trained on")
    training, held_out = split_held_out(files, own.search_holdout, own.seed)
    scored_on = f"{len(held_out)} training images held out"
    if config.search_on == "validation":
        folder = build.eval_folder(config)
        if folder is None:
            raise UsageError("--search_on validation needs a validation folder: give --val_data_path")
        held_out = build.eval_images(folder, classes, config, log)
        scored_on = (
            f"{len(held_out)} VALIDATION images: the accuracy of the found network on them is no longer unbiased"
        )
    batch = config.eval_batch_size or config.batch_size
    calibration = calibration_images(training, config.calibration_images, own.seed)
    batches = [
        keep_in_memory(
            EvalData(images, facts.preprocessing, min(batch, len(images)), config.workers),
            facts.preprocessing.image_size,
        )
        for images in (calibration, held_out)
    ]
    log.line(f"batch-norm statistics of each path from {len(calibration)} training images")
    network = supernet_of(own, facts.num_classes)
    load_checkpoint(trained.checkpoint, network)
    log.line(f"CPU operators: {operators_of(network, config, log.line)}")
    return PathAccuracy(network, *batches), scored_on


def ranking(the_search: Search, candidates: list[Candidate]) -> list[int]:
    """Indices of the candidates, fittest first."""
    by_path = {candidate.architecture: candidate.index for candidate in candidates}
    genes = the_search.genes[the_search.ranked()]
    return list(dict.fromkeys(by_path[path] for path in from_genes(genes)))


if __name__ == "__main__":
    run(main, at_end=leave)
