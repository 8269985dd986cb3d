"""What a search leaves behind: candidates.csv, recipes of the best paths, pictures and an index page."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from src.errors import UsageError
from src.files import csv_text, write_text
from src.runs import page
from src.runs.canvas import plt
from src.runs.curves import save_picture
from src.settings.config import DEFAULTS, Config, load_config
from src.settings.sections import Augmentation, Data, Loss, Machine, Optimizer, Running, Schedule, Update
from src.space.constraints import Bound, read_bounds
from src.space.cost import Table, cost_tables
from src.space.evolution import pareto_front
from src.space.sampler import METHODS, ChannelSchedule, create_sampler, read_stroll
from src.space.spaces import Domain, Space, to_genes
from src.supernet.searching import Candidate

COSTS = ("flops", "macs", "params", "score", "latency")
# What a network trained from scratch takes over from a supernet's run, but for what belongs to that run alone.
_INHERITED = (Data, Augmentation, Loss, Optimizer, Schedule, Update, Machine, Running)
_OF_ONE_RUN = {"data_path", "val_data_path", "resume", "pretrained", "max_steps"}
SAMPLED_PATHS = 5000
SHOWN_CHOICES = 10  # best paths whose choices are drawn, or a fifth of all where that is more
# Upstream's bounds for training with constraints.
UPSTREAM_BOUNDS = (Bound("flops", 190, 330), Bound("params", 2.8, 5.0))


def costs_of(candidates: Sequence[Candidate], tables: Mapping[str, Table]) -> dict[str, np.ndarray]:
    """Every cost of every candidate, in the tables' units."""
    genes = to_genes([candidate.architecture for candidate in candidates])
    return {name: tables[name].totals(genes) for name in COSTS if name in tables}


def front_of(candidates: Sequence[Candidate], cost: np.ndarray) -> np.ndarray:
    """Indices of the candidates that no other beats in accuracy and cost at once."""
    error = np.array([1.0 - candidate.accuracy for candidate in candidates])
    return pareto_front(np.stack([error, cost], axis=1))


def candidates_csv(candidates: Sequence[Candidate], tables: Mapping[str, Table]) -> str:
    """One row a candidate, in the order of evaluation; costs in M (latency: ms); ``pareto``: on the
    front of accuracy against FLOPs."""
    costs = costs_of(candidates, tables)
    front = set(front_of(candidates, costs["flops"]).tolist())
    rows = [
        [
            candidate.index,
            candidate.generation,
            f"{candidate.accuracy:.6f}",
            *(f"{costs[name][row]:.6f}" for name in costs),
            int(row in front),
            *(" ".join(map(str, part)) for part in candidate.architecture),
        ]
        for row, candidate in enumerate(candidates)
    ]
    return csv_text(("index", "generation", "accuracy", *costs, "pareto", "blocks", "channels"), rows)


def recipe_text(candidate: Candidate, trained: Config, tables: Mapping[str, Table], scored_on: str) -> str:
    """The recipe that trains a found path from scratch.

    Args:
        trained: configuration whose network, data and optimisation are taken over.
        scored_on: on which images the accuracy was measured, in words.
    """
    keys = [key for section in _INHERITED for key in section.model_fields if key not in _OF_ONE_RUN]
    kept = {key: trained[key] for key in ("num_classes", *keys) if trained[key] != DEFAULTS[key]}
    blocks, channels = candidate.architecture
    options = {
        **trained.model_options,
        "block_choices": list(blocks),
        "channel_choices": list(channels),
    }
    costs = {name: float(values[0]) for name, values in costs_of([candidate], tables).items()}
    facts = ", ".join(f"{name} {value:.6g} {tables[name].unit}".rstrip() for name, value in costs.items())
    content = {
        "description": (
            f"path {candidate.index} of a search: accuracy {candidate.accuracy:.4f} in the supernet "
            f"on {scored_on}; {facts}"
        ),
        "model": trained.model,
        "model_options": options,
        **kept,
    }
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)


def draw_generations(candidates: Sequence[Candidate], path: Path) -> None:
    """Accuracy of every candidate over its generation, with the best so far and each generation's mean."""
    generation = np.array([candidate.generation for candidate in candidates])
    accuracy = np.array([candidate.accuracy for candidate in candidates])
    shown = np.unique(generation)
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.scatter(generation, accuracy, s=8, alpha=0.35, color="tab:blue", label="candidates")
    axes.plot(shown, [accuracy[generation <= g].max() for g in shown], color="tab:orange", label="best so far")
    axes.plot(shown, [accuracy[generation == g].mean() for g in shown], color="tab:green", label="mean")
    axes.set(xlabel="generation", ylabel="top-1 in the supernet", title="accuracy per generation")
    axes.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    save_picture(figure, path)


def draw_cloud(candidates: Sequence[Candidate], cost: np.ndarray, table: Table, path: Path) -> None:
    """Accuracy against one cost, the Pareto front drawn through."""
    accuracy = np.array([candidate.accuracy for candidate in candidates])
    front = front_of(candidates, cost)
    front = front[np.argsort(cost[front])]
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    picture = axes.scatter(cost, accuracy, s=10, c=[c.generation for c in candidates], cmap="viridis")
    axes.plot(cost[front], accuracy[front], color="tab:red", marker="o", markersize=4, label="Pareto front")
    axes.set(
        xlabel=f"{table.name} ({table.unit})" if table.unit else table.name,
        ylabel="top-1 in the supernet",
        title=f"accuracy against {table.name}",
    )
    figure.colorbar(picture, label="generation", ticks=plt.MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    save_picture(figure, path)


def draw_choices(best: Sequence[Candidate], space: Space, path: Path) -> None:
    """How often each op and each channel index occurs at each position among ``best``."""
    genes = to_genes([candidate.architecture for candidate in best])
    length, positions = space.length, space.positions()
    op_names = list(dict.fromkeys(op.name for position in positions for op in position.ops))
    for p, position in enumerate(positions):
        numbers = np.array([op_names.index(op.name) for op in position.ops])
        genes[:, p] = numbers[genes[:, p]]
    figure, (blocks, channels) = plt.subplots(2, 1, figsize=(8, 6), layout="constrained")
    for axes, part, names, title in (
        (blocks, genes[:, :length], op_names, "block"),
        (channels, genes[:, length:], [f"{scale:g}" for scale in space.channel_scales], "channel scale"),
    ):
        shares = np.stack([np.bincount(part[:, p], minlength=len(names)) for p in range(length)], axis=1) / len(best)
        picture = axes.imshow(shares, aspect="auto", cmap="Blues", vmin=0, vmax=1)
        axes.set(xlabel="position", title=f"{title} choices of the {len(best)} best")
        axes.set_xticks(range(length))
        axes.set_yticks(range(len(names)), names)
        figure.colorbar(picture, ax=axes)
    save_picture(figure, path)


def draw_path(candidate: Candidate, space: Space, path: Path) -> None:
    """The blocks of a path from the stem on: which op each has, and how wide it is within the widest there could be."""
    blocks, channels = candidate.architecture
    positions, widest = space.positions(), space.largest_mids()
    ops = [position.ops[block] for position, block in zip(positions, blocks, strict=True)]
    widths = [width if op.body else 0 for op, width in zip(ops, space.mids(candidate.architecture), strict=True)]
    kinds = list(dict.fromkeys(op.name for position in positions for op in position.ops))
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    axes.bar(range(space.length), widest, width=0.9, fill=False, edgecolor="0.8", label="widest")
    for number, kind in enumerate(kinds):
        at = [p for p in range(space.length) if ops[p].name == kind]
        axes.bar(at, [widths[p] for p in at], width=0.9, color=f"C{number}", label=kind)
    for p, position in enumerate(positions):
        axes.annotate(f"{space.channel_scales[channels[p]]:g}", (p, widths[p]), ha="center", va="bottom", fontsize=7)
        if position.stride > 1:
            axes.axvline(p - 0.5, color="0.6", linestyle=":")
    axes.set(
        xlabel="position, stages apart",
        ylabel="channels inside",
        title=f"path {candidate.index}: accuracy {candidate.accuracy:.4f} in the supernet",
    )
    axes.set_xticks(range(space.length))
    axes.legend(loc="upper left", fontsize=8)
    save_picture(figure, path)


def draw_samplers(config: Config, space: Space, path: Path) -> list[str]:
    """SAMPLED_PATHS paths of each sampler in the plane of FLOPs and parameters, the area within the bounds framed.

    Args:
        config: gives bounds (upstream's, if none are given), bins, the constants of strolling evolution, the seed.

    Returns:
        A line on every sampler: the range it covers, or why it cannot serve this space.
    """
    tables = cost_tables(space)
    schedule = ChannelSchedule(space, start_epoch=0, warm_up=False, ignore_first_two=config.ignore_first_two_cs)
    bounds = read_bounds(config.path_constraints) or UPSTREAM_BOUNDS
    figure, panels = plt.subplots(2, 3, figsize=(12, 7), layout="constrained", sharex=True, sharey=True)
    lines = []
    for axes, method in zip(panels.flat, METHODS, strict=True):
        try:
            sampler = create_sampler(
                method,
                schedule,
                config.seed,
                1,
                bounds=bounds if method == "random" else (),
                stroll=read_stroll(config.stroll),
                bins=config.flops_bins,
            )
        except UsageError as error:
            lines.append(f"{method}: {error}")
            axes.set_title(f"{method}: not in this space")
            continue
        sampler.begin_epoch(0, SAMPLED_PATHS)
        genes = np.stack([sampler.draw() for _ in range(SAMPLED_PATHS)])
        flops, params = tables["flops"].totals(genes), tables["params"].totals(genes)
        axes.scatter(flops, params, s=2, alpha=0.3)
        if target := _frame(bounds, tables, space):
            axes.add_patch(target)
        axes.set(title=method, xlabel="FLOPs (M)", ylabel="parameters (M)")
        axes.grid(alpha=0.3)
        axes.label_outer()
        spans = f"{flops.min():.4g} to {flops.max():.4g} MFLOPs, {params.min():.4g} to {params.max():.4g} M parameters"
        lines.append(f"{method}: {SAMPLED_PATHS} paths from {spans}")
    save_picture(figure, path)
    return lines


def _frame(bounds: Sequence[Bound], tables: Mapping[str, Table], space: Space) -> plt.Rectangle | None:
    """The area of FLOPs and parameters within ``bounds``, as far as there are paths; None if there are none."""
    sides = []
    for name in ("flops", "params"):
        low, high = tables[name].range(Domain.of(space))
        for bound in bounds:
            if bound.metric == name:
                low, high = max(low, bound.low), min(high, bound.high)
        sides.append((low, high - low))
    (left, width), (bottom, height) = sides
    if min(width, height) <= 0:
        return None
    return plt.Rectangle((left, bottom), width, height, fill=False, linestyle="--", edgecolor="tab:red")


def write_index(
    folder: Path,
    title: str,
    facts: Mapping[str, object],
    best: Sequence[Candidate],
    front: Collection[int],
    tables: Mapping[str, Table],
) -> None:
    """index.html: the facts, the best paths and the pictures, without anything from elsewhere.

    Args:
        front: indices of the candidates on the front of accuracy against FLOPs.
    """
    costs = costs_of(best, tables)
    units = [f"{name} ({tables[name].unit})" if tables[name].unit else name for name in costs]
    columns = ("rank", "path", "accuracy", *units, "on the front", "blocks", "channels")
    rows = [
        [
            page.Cell(rank + 1, rank + 1),
            page.Cell(candidate.index, candidate.index),
            page.Cell(f"{candidate.accuracy:.4f}", candidate.accuracy),
            *(page.Cell(f"{costs[name][rank]:.5g}", float(costs[name][rank])) for name in costs),
            "yes" if candidate.index in front else "",
            *(" ".join(map(str, part)) for part in candidate.architecture),
        ]
        for rank, candidate in enumerate(best)
    ]
    pictures = "".join(page.picture(path.name, path.stem) for path in sorted(folder.glob("*.png")))
    links = " ".join(
        f'<a href="{page.escaped(file.name)}">{page.escaped(file.name)}</a>'
        for file in (folder / "candidates.csv", folder / "best.yaml", *sorted(folder.glob("top*.yaml")))
    )
    parts = [
        page.facts(facts),
        f"<p>{links}</p>",
        f'<div class="beside">{page.table(columns, rows)}<div class="grid">{pictures}</div></div>',
    ]
    page.write_page(folder / "index.html", title, parts)


def write_results(
    folder: Path,
    config: Config,
    trained: Config,
    space: Space,
    tables: Mapping[str, Table],
    candidates: Sequence[Candidate],
    ranked: Sequence[Candidate],
    scored_on: str,
) -> None:
    """Everything a finished search leaves in its run folder.

    Args:
        config: of the search. trained: of the supernet's run.
        candidates, ranked: the same paths, in the order of evaluation and by fitness.
        scored_on: on which images the accuracies were measured, in words.
    """
    template = trained
    if config.search_recipe:
        template = load_config(config.search_recipe).replace(model=trained.model, model_options=trained.model_options)
    write_text(folder / "candidates.csv", candidates_csv(candidates, tables))
    for rank, candidate in enumerate(ranked[: config.search_top], start=1):
        name = "best.yaml" if rank == 1 else f"top{rank}.yaml"
        write_text(folder / name, recipe_text(candidate, template, tables, scored_on))
    draw_generations(candidates, folder / "accuracy.png")
    for name, cost in costs_of(candidates, tables).items():
        draw_cloud(candidates, cost, tables[name], folder / f"cloud_{name}.png")
    draw_path(ranked[0], space, folder / "best.png")
    draw_choices(ranked[: max(len(ranked) // 5, SHOWN_CHOICES)], space, folder / "choices.png")
    bounds = " and ".join(map(str, read_bounds(config.search_constraints))) or "none"
    facts = {
        "method": config.search_method,
        "scope": config.search_scope,
        "constraints": bounds,
        "paths": len(candidates),
        "scored on": scored_on,
    }
    on_front = front_of(candidates, costs_of(candidates, tables)["flops"])
    front = {candidates[row].index for row in on_front}
    # The best, and all of the front: what a search for several objectives is for.
    listed = ranked[:20] + [candidate for candidate in ranked[20:] if candidate.index in front]
    write_index(folder, f"search of {config.supernet}", facts, listed, front, tables)
