"""Searches a trained supernet: python search.py --config_path RECIPE --supernet RUN --data_path DATA.

With --export_subnet RECIPE it instead cuts the weights of that recipe's path out of the supernet, with
--plot_samplers it draws what the path samplers draw.
"""

from __future__ import annotations

from src.settings.command_line import answer_help

if __name__ == "__main__":
    answer_help("search")  # before the imports below, which take seconds

import gc
import logging
import time
from pathlib import Path
from typing import NamedTuple

from src.data.dataset import EvalData
from src.data.folders import Images
from src.data.split import HELD_OUT_FILE, fingerprint
from src.errors import UsageError, run
from src.files import sha256
from src.machine.ranks import all_reduce_sum, leave
from src.machine.stop import StopRequest
from src.runs.checkpoint import SUFFIX
from src.runs.folder import LAST, checkpoints_of
from src.runs.log import progress, record
from src.runs.run import Run, started
from src.runs.trained import Trained
from src.settings.command_line import parse_arguments, split_command
from src.settings.config import Config, load_config
from src.settings.run_folders import JOURNAL, is_run
from src.space.evolution import Search
from src.space.journal import Journal
from src.space.spaces import Space, from_genes
from src.supernet import search_report
from src.supernet.path_parts import calibration_images, held_out_of, operators_of, space_of, supernet_of
from src.supernet.recalibration import PathAccuracy, keep_in_memory
from src.supernet.searching import Candidate, header_of, run_search, search_of, tables_of
from src.supernet.subnet import cut_out, path_of, write_subnet
from src.training import parts as build
from src.weights.loading import load_checkpoint, trained_of

log = logging.getLogger("src.search")

_INPUTS = ("supernet", "data_path", "val_data_path", "latency_table")


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
    if command == "plot_samplers":
        with started(config.replace(resume=""), "search") as current:
            plot_samplers(config, current)
    elif command == "export_subnet":
        with started(config, "export_subnet") as current:
            export_subnet(value, config, current)
    else:
        config = going_on(config)
        config.require_inputs(*_INPUTS)
        trained = supernet_of_run(config.supernet)
        with started(config, "search") as current:
            search(config, trained, current)


def plot_samplers(config: Config, current: Run) -> None:
    named = config.replace(model=config.model or "spos_oneshot")
    picture = current.folder.path / "samplers.png"
    for line in search_report.draw_samplers(
        config, space_of(named, config.num_classes or 1000, config.image_size), picture
    ):
        log.info(line)
    log.info(f"picture: {picture}")


def export_subnet(recipe_name: str, config: Config, current: Run) -> None:
    config.require_inputs(*_INPUTS)
    trained = supernet_of_run(config.supernet)
    recipe = load_config(recipe_name, {"data_path": config.data_path, "val_data_path": config.val_data_path})
    path = path_of(recipe, trained.space)
    file = Path(recipe_name).with_suffix(SUFFIX)
    if file.exists():
        raise UsageError(f"{file} is there already; move it away to export anew")
    images = images_of(config, trained)
    scores = scores_of(config, trained, images)
    subnet = cut_out(scores, path, recipe)
    inside, alone = (f"{hits / scores.total:.4f}" for hits in subnet.hits)
    log.info(f"accuracy of the path on {images.described}: {inside} in the supernet, {alone} alone")
    log.info(f"largest difference between the logits: {subnet.difference:.2g}")
    if trained.facts.config.supernet_masking == "upstream" or trained.facts.config.supernet_rounded:
        log.warning("this supernet masks as upstream does, so a path in it is not quite the network alone")
    if current.world.is_main:
        write_subnet(file, subnet, recipe, trained.facts)
        log.info(f"next: python eval.py --checkpoint_path {file}")
        log.info(f"or python train.py --config_path {recipe_name} --pretrained {file}, to fine-tune")


def going_on(config: Config) -> Config:
    """``config`` of a search that goes on where the journal of its folder ends.

    Raises:
        UsageError: the folder is that of another run.
    """
    path = Path(config.run_dir)
    if config.run_dir and is_run(path) and not (path / JOURNAL).is_file():
        raise UsageError(f"{path} holds a run that is no search; give another --run_dir")
    return config.replace(resume="auto") if config.run_dir else config


def search(config: Config, trained: TrainedSupernet, current: Run) -> None:
    folder, world = current.folder, current.world
    tables = tables_of(config, trained.space)
    the_search = search_of(config, trained.space, tables)
    images = images_of(config, trained)
    shown = fingerprint(images.training, images.scoring)
    header = header_of(config, trained.space, sha256(trained.checkpoint), shown)
    journal = Journal(folder.path / JOURNAL, header, world.is_main, lambda: folder.write_config(config))
    all_reduce_sum([0])  # every rank has read the journal before rank 0 adds to it
    log.info(f"searching {trained.checkpoint} on {current}")
    scores = scores_of(config, trained, images)
    log.info(f"constraints: {the_search.constraints}; at most {the_search.total()} paths, scored on {images.described}")
    start = time.perf_counter()
    with journal, StopRequest(world.is_main) as stop, progress(the_search.total(), 0, "paths") as bar:

        def after_each(candidate: Candidate, is_known: bool) -> None:
            bar.update()
            if not is_known:
                log.info(f"path {candidate.index} (generation {candidate.generation}): {candidate.accuracy:.4f}")
                stop.raise_if_set()

        candidates = run_search(the_search, scores, journal, world, after_each)
    if world.is_main:
        folder.write_config(config)
        ranked = [candidates[index] for index in ranking(the_search, candidates)]
        search_report.write_results(
            folder.path, config, trained.facts.config, trained.space, tables, candidates, ranked, images.described
        )
        best = ranked[0]
        log.info(f"{len(candidates)} paths in {time.perf_counter() - start:.0f} s")
        log.info(f"best: accuracy {best.accuracy:.4f}, blocks {best.architecture.blocks}, {best.architecture.channels}")
        record("result", accuracy=best.accuracy, blocks=best.architecture.blocks, channels=best.architecture.channels)
        log.info(f"next: python train.py --config_path {folder.path / 'best.yaml'} --data_path {config.data_path}")


def supernet_of_run(given: str) -> TrainedSupernet:
    """The supernet that ``--supernet`` means: a checkpoint, others' file of one, or the last checkpoint of a run.

    Raises:
        UsageError: there is none, or it is damaged or of one network alone.
    """
    if not given:
        raise UsageError("which supernet? Give --supernet RUN, the run folder of train.py --train_supernet")
    checkpoint = checkpoints_of(given, "--supernet", (LAST,))[-1]
    facts = trained_of(checkpoint)
    if facts is None or not facts.is_supernet:
        raise UsageError(f"{checkpoint} is not of a supernet; train one with train.py --train_supernet")
    config = facts.config
    return TrainedSupernet(checkpoint, facts, space_of(config, facts.num_classes, config.image_size))


class ImagesOfSearch(NamedTuple):
    """Whose statistics a path takes, what scores it, and that in words."""

    training: Images
    scoring: Images
    described: str


def images_of(config: Config, trained: TrainedSupernet) -> ImagesOfSearch:
    """What the supernet's run held out, or the validation images if ``search_on`` says so.

    Raises:
        UsageError: other classes, images of that run that are gone or changed, no validation images.
    """
    own = trained.facts.config
    classes, files = build.train_images(config)
    if list(classes) != trained.facts.classes:
        raise UsageError(f"{config.data_path} has other classes than the supernet was trained on")
    split = held_out_of(files, own, own.seed, trained.checkpoint)
    training, held_out = split.parts(files)
    if split.seen is not None:  # drawn just now
        log.warning(
            f"{trained.checkpoint} lies in no run with a {HELD_OUT_FILE}: what is held out is drawn anew, and trained "
            "nothing only if the images are those of the training"
        )
    if config.search_on == "validation":
        folder = build.eval_folder(config)
        if folder is None:
            raise UsageError("--search_on validation needs a validation folder: give --val_data_path")
        images = build.eval_images(folder, classes, config)
        bias = "the accuracy of the found network on them is no longer unbiased"
        return ImagesOfSearch(training, images, f"{len(images)} VALIDATION images: {bias}")
    return ImagesOfSearch(training, held_out, f"{len(held_out)} training images held out")


def scores_of(config: Config, trained: TrainedSupernet, images: ImagesOfSearch) -> PathAccuracy:
    """What scores a path."""
    facts, own = trained.facts, trained.facts.config
    batch = config.eval_batch_size or config.batch_size
    calibration = calibration_images(images.training, config.calibration_images, own.seed)
    batches = [
        keep_in_memory(
            EvalData(part, facts.preprocessing, min(batch, len(part)), config.workers), facts.preprocessing.image_size
        )
        for part in (calibration, images.scoring)
    ]
    log.info(f"batch-norm statistics of each path from {len(calibration)} training images")
    network = supernet_of(own, facts.num_classes)
    load_checkpoint(trained.checkpoint, network)
    log.info(f"CPU operators: {operators_of(network, config)}")
    return PathAccuracy(network, *batches)


def ranking(the_search: Search, candidates: list[Candidate]) -> list[int]:
    """Indices of the candidates, fittest first."""
    by_path = {candidate.architecture: candidate.index for candidate in candidates}
    genes = the_search.genes[the_search.ranked()]
    return list(dict.fromkeys(by_path[path] for path in from_genes(genes)))


if __name__ == "__main__":
    gc.freeze()  # the imports stay; the framework collects garbage at every compilation
    run(main, at_end=leave)
