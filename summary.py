"""Which networks there are, and what they cost.

python summary.py                               every network: parameters, MACs, recipes, published accuracies
python summary.py --model mnasnet --alpha 0.5   one network layer by layer, with totals
python summary.py --model mnasnet --json        the same for programs
python summary.py --model spos_oneshot_s_plus --micronet    the MicroNet challenge's table and scores
python summary.py --markdown networks           the table of README.md; `variants`, `micronet`: those of docs/

Options of a network: --alpha 0.5, --model_options.alpha 0.5 or --model_options '{alpha: 0.5}'.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NoReturn

import yaml
from mindspore import nn

from src.errors import UsageError, run
from src.files import write_text
from src.models import create_model, get_entry, list_models, micronet, tracing
from src.models import table as model_table
from src.settings.limits import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE
from src.settings.recipes import recipes_of


def main(argv: list[str]) -> None:
    arguments, options = parse(argv)
    if arguments.markdown:
        print(model_table.TABLES[arguments.markdown]())
        return
    if not arguments.model:
        if options or arguments.json or arguments.micronet:
            raise UsageError("say which network with --model; `python summary.py` lists them")
        for name in list_models():
            print_network(name, arguments.num_classes, arguments.image_size)
        return
    size = arguments.image_size or get_entry(arguments.model).preprocessing.image_size
    network = create_model(arguments.model, arguments.num_classes, **options)
    if arguments.micronet:
        print_micronet(network, size)
        return
    counted = tracing.count(network, size)
    if not arguments.json:
        print_layers(counted)
        return
    text = json.dumps({"model": arguments.model, "options": options, "image_size": size, **counted.to_dict()}, indent=1)
    if arguments.json == "-":
        print(text)
    else:
        write_text(Path(arguments.json), text + "\n")


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """The arguments of this program, and those that are left: the network's options."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--model", default="", help="name in the registry")
    parser.add_argument("--model_options", default="{}", help="the network's options as a YAML mapping")
    parser.add_argument("--num_classes", type=int, default=1000)
    parser.add_argument("--micronet", action="store_true", help="the MicroNet challenge's table and scores")
    parser.add_argument("--image_size", type=int, default=0, help="side in pixels (0: the network's own)")
    parser.add_argument("--json", nargs="?", const="-", default="", metavar="FILE", help="JSON, to FILE if given")
    parser.add_argument("--markdown", choices=model_table.TABLES, help="a table of the documentation")
    arguments, rest = parser.parse_known_args(argv)
    if arguments.image_size and not MIN_IMAGE_SIZE <= arguments.image_size <= MAX_IMAGE_SIZE:
        raise UsageError(f"--image_size is {arguments.image_size}; it must be {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE}")
    options = value_of("--model_options", arguments.model_options)
    if not isinstance(options, dict):
        raise UsageError(f"--model_options must be a mapping such as {{alpha: 0.5}}, not {arguments.model_options!r}")
    words = [word for argument in rest for word in (argument.split("=", 1) if argument[:2] == "--" else [argument])]
    for flag, text in zip(words[::2], [*words[1::2], None], strict=False):
        if flag[:2] != "--" or text is None:
            raise UsageError(f"{flag!r} is not understood; options are given as --option value")
        options[flag[2:].removeprefix("model_options.")] = value_of(flag, text)
    return arguments, options


def value_of(flag: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{flag} cannot be read from {text!r}") from error


def print_micronet(network: nn.Cell, size: int) -> None:
    """CSV in millions for one image, then a line for the score in each precision."""
    operations = micronet.profile(network, size)
    print(micronet.table_csv(operations), end="")
    for precision in micronet.PRECISIONS:
        print(f"# challenge score, {precision}: {micronet.challenge_score(operations, precision):.4f}")


def print_network(name: str, num_classes: int, image_size: int) -> None:
    """One line per variant, then its recipes and the accuracies others have published."""
    entry = get_entry(name)
    print(f"{name}: {entry.paper}")
    for options in entry.variants:
        counted = tracing.count(
            create_model(name, num_classes, **options), image_size or entry.preprocessing.image_size
        )
        variant = " ".join(f"{key}={value}" for key, value in options.items()) or "default"
        print(f"  {variant:<22}{counted.params:>12,} parameters{counted.macs:>14,} MACs")
    print(f"  recipes   {', '.join(recipes_of(name)) or 'none'}")
    for published in entry.published:
        top5 = "   -  " if published.top5 is None else f"{published.top5:6.2%}"
        print(f"  published {published.top1:6.2%} / {top5}  {published.variant or 'default'} ({published.source})")


COLUMNS = "{:<40}{:<12}{:>7}{:>7}{:>7}{:>7}{:>7}{:>10}{:>12}{:>14}"


def print_layers(counted: tracing.Cost) -> None:
    print(COLUMNS.format("layer", "op", "kernel", "stride", "groups", "in", "out", "size", "params", "MACs"))
    for row in counted.layers:
        kernel, stride, size = ("x".join(map(str, pair)) for pair in (row.kernel, row.stride, row.output_size))
        channels = row.groups, row.in_channels, row.out_channels
        print(COLUMNS.format(row.name, row.op, kernel, stride, *channels, size, f"{row.params:,}", f"{row.macs:,}"))
    print(COLUMNS.format("total", *[""] * 7, f"{counted.params:,}", f"{counted.macs:,}"))
    print(f"MACs with pooling and bias (the SPOS repository's count): {counted.macs_with_pooling_and_bias:,}")


if __name__ == "__main__":
    run(main)
