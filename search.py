"""Searches a trained supernet: python search.py --config_path RECIPE --supernet RUN --data_path DATA."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from src import build
from src.checkpoint import CheckpointFolder, load_checkpoint, read_meta, verify
from src.config import Config, load_config, parse_arguments
from src.data.dataset import EvalData
from src.device import describe_device, set_up
from src.distributed import World, all_reduce_sum, current_world, initialise
from src.errors import UsageError, run
from src.log import Log
from src.nas import search_report
from src.nas.batch_norm import PathAccuracy, keep_in_memory
from src.nas.evolution import Search
from src.nas.journal import Journal
from src.nas.searching import Candidate, header_of, run_search, search_of, tables_of
from src.nas.space import from_genes
from src.nas.training import calibration_images, space_of, split_held_out, supernet_of
from src.preprocessing import Preprocessing
from src.run_folder import RunFolder, open_run
from src.stop import StopRequest


def main(argv: list[str]) -> None:
    config = parse_arguments(argv, "search")
    if not config.plot_samplers and not config.supernet:
        raise UsageError("which supernet? Give --supernet RUN, the run folder of train.py --train_supernet")
    world = current_world()
    target = set_up(config.device_target, world.card(config.device_id), config.mode, config.deterministic, config.seed)
    initialise(world, config.is_distributed, target)
    # A search always goes on where its journal ends.
    folder = open_run(config.replace(resume="auto") if config.run_dir else config, world.is_main)
    with Log(folder.path if world.is_main else None, is_quiet=not world.is_main) as log:
        if config.plot_samplers:
            plot_samplers(config, folder, log)
        else:
            search(config, folder, log, world, target)


def plot_samplers(config: Config, folder: RunFolder, log: Log) -> None:
    space = space_of(config.model_options, config.num_classes or 1000, config.image_size)
    for line in search_report.draw_samplers(space, folder.path / "samplers.png", config.seed):
        log.line(line)
    log.line(f"picture: {folder.path / 'samplers.png'}")


def search(config: Config, folder: RunFolder, log: Log, world: World, target: str) -> None:
    checkpoint = supernet_checkpoint(config.supernet)
    facts = read_meta(checkpoint)
    if not facts.get("config", {}).get("train_supernet"):
        raise UsageError(f"{checkpoint} is not of a supernet; train one with train.py --train_supernet")
    # Space, seed and held-out images are those the supernet was trained with.
    trained = load_config("", facts["config"])
    num_classes = facts["num_classes"]
    space = space_of(trained.model_options, num_classes, trained.image_size)
    tables = tables_of(config, space)
    the_search = search_of(config, space, tables)

    scores, scored_on = scores_of(config, trained, facts, checkpoint, log)
    log.line(f"searching {checkpoint} on {describe_device(target)}, rank {world.rank} of {world.size}")
    log.line(f"constraints: {the_search.constraints}; at most {the_search.total()} paths, scored on {scored_on}")
    header = header_of(config, space, hashlib.sha256(checkpoint.read_bytes()).hexdigest())
    journal = Journal(folder.path / "journal.jsonl", header, is_writing=world.is_main)
    all_reduce_sum([0])  # every rank has read the journal before rank 0 adds to it
    if world.is_main:
        folder.write_config(config.replace(resume=""))
    start = time.perf_counter()
    with journal, StopRequest() as stop, log.progress(the_search.total(), 0, "paths") as bar:

        def after_each(candidate: Candidate, is_known: bool) -> None:
            bar.update()
            if not is_known:
                log.line(f"path {candidate.index} (generation {candidate.generation}): {candidate.accuracy:.4f}")
                stop.raise_if_set()

        candidates = run_search(the_search, scores, journal, world, after_each)
    if world.is_main:
        ranked = [candidates[index] for index in ranking(the_search, candidates)]
        search_report.write_results(folder.path, config, trained, space, tables, candidates, ranked, scored_on)
        best = ranked[0]
        log.line(f"{len(candidates)} paths in {time.perf_counter() - start:.0f} s")
        log.line(f"best: accuracy {best.accuracy:.4f}, blocks {best.architecture.blocks}, {best.architecture.channels}")
        log.record(
            "result", accuracy=best.accuracy, blocks=best.architecture.blocks, channels=best.architecture.channels
        )
        log.line(f"next: python train.py --config_path {folder.path / 'best.yaml'} --data_path {config.data_path}")


def supernet_checkpoint(given: str) -> Path:
    """The checkpoint that ``--supernet`` means: a file, or the last one of a run."""
    path = Path(given)
    if path.is_dir():
        checkpoints = path / "checkpoints" if (path / "checkpoints").is_dir() else path
        found = CheckpointFolder(checkpoints).pointed("last")
        if found is None:
            raise UsageError(f"--supernet {given}: there is no checkpoint in {checkpoints}")
        path = found
    verify(path)
    return path


def scores_of(config: Config, trained: Config, facts: dict, checkpoint: Path, log: Log) -> tuple[PathAccuracy, str]:
    """What scores a path, and on which images, in words."""
    classes, files = build.train_images(config, log)
    if list(classes) != facts["classes"]:
        raise UsageError(f"{config.data_path} has other classes than the supernet was trained on")
    preprocessing = Preprocessing.from_dict(facts["preprocessing"])
    training, held_out = split_held_out(files, trained.search_holdout, trained.seed)
    scored_on = f"{len(held_out)} training images held out"
    if config.search_on == "validation":
        folder = build.eval_folder(config)
        if folder is None:
            raise UsageError("--search_on validation needs a validation folder: give --val_data_path")
        held_out = build.eval_images(folder, classes, config, log)
        scored_on = (
            f"{len(held_out)} VALIDATION images: the accuracy of the found network on them is no longer unbiased"
        )
    elif config.search_on != "held_out":
        raise UsageError(f"search_on is {config.search_on!r}; it can be held_out, validation")
    batch = config.eval_batch_size or config.batch_size
    calibration = calibration_images(training, config.calibration_images, trained.seed)
    batches = [
        keep_in_memory(
            EvalData(images, preprocessing, min(batch, len(images)), config.workers), preprocessing.image_size
        )
        for images in (calibration, held_out)
    ]
    log.line(f"batch-norm statistics of each path from {len(calibration)} training images")
    network = supernet_of(trained, facts["num_classes"])
    load_checkpoint(checkpoint, network)
    return PathAccuracy(network, *batches), scored_on


def ranking(the_search: Search, candidates: list[Candidate]) -> list[int]:
    """Indices of the candidates, fittest first."""
    by_path = {candidate.architecture: candidate.index for candidate in candidates}
    genes = the_search.genes[the_search.ranked()]
    return list(dict.fromkeys(by_path[path] for path in from_genes(genes)))


if __name__ == "__main__":
    run(main)
