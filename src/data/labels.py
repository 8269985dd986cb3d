"""``python -m src.data.labels``: the true class of every image of a folder, in the forms upstream's tools wrote.

``--img_path FOLDER`` writes imagenet_label.json, ``{file name: class}``; ``--dataset_path FOLDER`` writes
img_id_2_label.txt, one ``stem:class`` a line. The class is a number: the position of the image's folder among the
sorted folder names or, with ``--class_map``, the one of the training run.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from src.data.folders import Images, build_class_index, check_same_classes, list_images
from src.errors import UsageError, run
from src.files import read_sealed, write_text


def read_class_map(path: Path) -> dict[str, int]:
    """Class name to number from a run's classes.json, an export's manifest, or a plain JSON list of names.

    Raises:
        UsageError: it cannot be read as one of these.
    """
    try:
        content = read_sealed(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the class map {path}: {error}") from error
    if isinstance(content, dict) and isinstance(content.get("classes"), list):
        content = content["classes"]
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        if len(set(content)) < len(content):
            raise UsageError(f"{path} is no class map: a name is in it twice")
        content = {name: label for label, name in enumerate(content)}
    is_map = isinstance(content, dict) and all(type(label) is int for label in content.values())
    if not is_map or not content:
        raise UsageError(f"{path} is no class map: expected a run's classes.json or an export's manifest")
    if sorted(content.values()) != list(range(len(content))):
        raise UsageError(f"{path} is damaged: its numbers are not those from 0 to {len(content) - 1}, each once")
    return content


def labelled_images(folder: Path, class_map: Mapping[str, int] | None = None) -> Images:
    """Every image in the class folders, or in a packed file, with its class number.

    Raises:
        UsageError: no class folders, or others than those of the class map.
    """
    index = build_class_index(folder) if class_map is None else dict(class_map)
    if class_map is not None:
        known = {name: label for name, label in index.items() if not name.startswith("unused ")}
        check_same_classes(folder, known)
        index = known
    return list_images(folder.absolute(), index)


def labels_of(folder: Path, class_map: Mapping[str, int] | None = None) -> dict[str, int]:
    """Path inside the folder (``cat/1.jpg``) to class number, of every image of :func:`labelled_images`."""
    images = labelled_images(folder, class_map)
    return {path.relative_to(folder.absolute()).as_posix(): label for path, label in images}


def by_file_name(labels: Mapping[str, int]) -> dict[str, int]:
    """Keys without the folder, as upstream wrote them; where two images share a file name, both keep their folder."""
    names = Counter(path.rsplit("/", 1)[-1] for path in labels)
    return {name if names[name := path.rsplit("/", 1)[-1]] == 1 else path: label for path, label in labels.items()}


def main(argv: list[str]) -> None:
    """The command line; see the module's description."""
    parser = argparse.ArgumentParser(prog="python -m src.data.labels", description=__doc__.split("\n\n")[0])
    folder = parser.add_mutually_exclusive_group(required=True)
    folder.add_argument(
        "--img_path", metavar="FOLDER", help="write imagenet_label.json of this folder of class folders"
    )
    folder.add_argument("--dataset_path", metavar="FOLDER", help="write img_id_2_label.txt of it")
    parser.add_argument("--output_name", metavar="FILE", help="another name of the file written")
    parser.add_argument("--class_map", metavar="FILE", help="classes.json of the training run, or an export's manifest")
    options = parser.parse_args(argv)
    source = Path(options.img_path or options.dataset_path)
    if not source.is_dir():
        raise UsageError(f"{source} is not a folder")
    labels = labels_of(source, read_class_map(Path(options.class_map)) if options.class_map else None)
    if options.img_path:
        target = Path(options.output_name or "imagenet_label.json")
        write_text(target, json.dumps(by_file_name(labels), indent=0, ensure_ascii=True) + "\n")
    else:
        target = Path(options.output_name or "img_id_2_label.txt")
        write_text(target, "".join(f"{_stem(name)}:{label}\n" for name, label in by_file_name(labels).items()))
    print(f"[INFO] Completed! Total {len(labels)} data: {target}")


def _stem(name: str) -> str:
    """Without the suffix. A line break in a name would split its line."""
    if "\n" in name:
        raise UsageError(f"{name!r} holds a line break, which this form cannot; use --img_path")
    return name.rsplit(".", 1)[0]


if __name__ == "__main__":
    run(main)
