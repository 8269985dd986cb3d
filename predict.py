"""Says what is on images: python predict.py IMAGE_OR_FOLDER... --checkpoint_path RUN (see --help for every key)."""

from __future__ import annotations

from src.settings.command_line import answer_help

if __name__ == "__main__":
    answer_help("predict")  # before the imports below, which take seconds

import logging
import time
from pathlib import Path
from typing import Any

from src.cpu import inference
from src.data.folders import find_images
from src.data.imagenet import described
from src.errors import UsageError, run
from src.export.source import Source, source_of
from src.files import write_json
from src.runs.folder import checkpoints_of
from src.runs.run import started
from src.settings.command_line import parse_arguments
from src.settings.config import Config
from src.training import parts as build
from src.training.prediction import Answer, answers

log = logging.getLogger("src.predict")


def main(argv: list[str]) -> None:
    config = parse_arguments(argv, "predict")
    checkpoint, *more = checkpoints_of(config.checkpoint_path)
    if more:
        raise UsageError(
            f"{config.checkpoint_path} holds {len(more) + 1} checkpoints: name one of them, or a run folder"
        )
    paths = find_images(config.images)
    for key in ("sheet", "json"):
        if config[key] and not Path(config[key]).absolute().parent.is_dir():
            raise UsageError(f"--{key} {config[key]}: there is no folder {Path(config[key]).parent}")
    with started(config, "predict"):
        source = source_of(checkpoint, config)
        log.info(f"{source.model} of {source.checkpoint}; preprocessing: {source.preprocessing}")
        told = answered(paths, source, config)
        if config.json:
            write_json(Path(config.json), as_plain(told, source))
        if config.sheet:
            draw(told, source, Path(config.sheet))
    if unread := sum(bool(answer.refusal) for answer in told):
        raise UsageError(f"{unread} of {len(told)} images could not be read; what is said of the others holds")


def answered(paths: list[Path], source: Source, config: Config) -> list[Answer]:
    """An answer for each image, said as it comes."""
    network = inference(build.computing(source.network(), config))
    network.set_train(False)
    told, start = [], time.perf_counter()
    for answer in answers(
        network,
        paths,
        source.preprocessing,
        batch_size=config.eval_batch_size or config.batch_size,
        workers=config.workers,
        max_pixels=config.max_image_pixels,
    ):
        if not told:
            start = time.perf_counter()
        told.append(answer)
        if answer.refusal:
            log.warning(f"{answer.path}: {answer.refusal}")
        else:
            log.info(f"{answer.path}: {', '.join(f'{name} {share:.1%}' for name, share in named(answer, source))}")
    if len(told) > 100:
        log.info(f"{len(told)} images, {(len(told) - 1) / (time.perf_counter() - start):.0f} images/s behind the first")
    return told


def named(answer: Answer, source: Source) -> list[tuple[str, float]]:
    """(class, probability) of the most probable classes, for people."""
    return [(described(class_of(label, source)), share) for label, share in answer.top]


def class_of(label: int, source: Source) -> str:
    return source.classes[label] if source.classes else f"class {label}"


def as_plain(told: list[Answer], source: Source) -> dict[str, Any]:
    """All answers as plain values, with what gave them."""

    def plain(answer: Answer) -> dict[str, Any]:
        if answer.refusal:
            return {"image": str(answer.path), "error": answer.refusal}
        labels = [label for label, _ in answer.top]
        top = [
            {"class": class_of(label, source), "name": name, "label": label, "probability": share}
            for label, (name, share) in zip(labels, named(answer, source), strict=True)
        ]
        return {"image": str(answer.path), "top": top}

    return {
        "model": source.model,
        "checkpoint": str(source.checkpoint),
        "preprocessing": source.preprocessing.to_dict(),
        "images": [plain(answer) for answer in told],
    }


def draw(told: list[Answer], source: Source, path: Path) -> None:
    from src.runs import sheet  # only who asks for a picture waits for it

    sheet.draw_sheet([(answer.path, named(answer, source), answer.refusal) for answer in told], path)
    left_out = f", the first {sheet.MOST} of {len(told)}" if len(told) > sheet.MOST else ""
    log.info(f"contact sheet: {path}{left_out}")


if __name__ == "__main__":
    run(main)
