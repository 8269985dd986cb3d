"""The supernet: a path equals its stand-alone network, one graph serves all, the rest stays untouched."""

import functools
import json

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, ops

from src.cpu import operators_in, use_operators
from src.cpu.build import library
from src.cpu.operators import Operators
from src.data.split import HELD_OUT_FILE
from src.errors import UsageError
from src.models.layers import weights
from src.models.spos import create_subnet, spos
from src.runs.log import logged
from src.settings.config import load_config
from src.settings.sections import Supernet as SupernetKeys
from src.space.cost import cost_tables, supernet_params
from src.space.spaces import PUBLISHED, Architecture, Domain, create_space, from_genes
from src.supernet.network import Slots, Supernet, subnet_weights
from src.supernet.path_evaluation import SupernetEvaluator
from src.supernet.path_parts import held_out_of, sampler_of, space_of
from src.supernet.path_sgd import PathSGD
from src.supernet.path_step import SupernetStep
from src.supernet.recalibration import PathAccuracy
from src.training.evaluation import Evaluation
from src.training.loss import LabelSmoothedCrossEntropy
from src.training.step import state
from tests.skipping import SKIPPING

# A block of each stride; SKIPPING and WITH_SE have several stages.
TINY = create_space("digits", stage_repeats=(2,), stage_out_channels=(48,), last_conv_out_channel=32)
# Three stages, so that squeeze-excite and hard-swish occur.
WITH_SE = create_space(
    "digits", stage_repeats=(1, 1, 2), stage_out_channels=(24, 32, 48), use_se=True, last_conv_out_channel=32
)


@pytest.fixture
def graph_mode():
    mode = ms.get_context("mode")
    ms.set_context(mode=ms.GRAPH_MODE)
    yield
    ms.set_context(mode=mode)


@pytest.fixture
def eager_mode():
    mode = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=mode)


def disturbed(network, seed=0):
    """``network`` with weights and statistics that hide nothing: a masked channel would show."""
    rng = np.random.default_rng(seed)
    for parameter in network.get_parameters():
        name, shape = parameter.name, parameter.shape
        if name.endswith("moving_variance"):
            parameter.set_data(Tensor(rng.uniform(0.5, 2.0, shape).astype(np.float32)))
        elif name.endswith(("moving_mean", "beta", "bias")):
            parameter.set_data(Tensor(rng.normal(0, 0.3, shape).astype(np.float32)))
        elif parameter.requires_grad and parameter.ndim >= 2:
            scale = 1 / np.sqrt(np.prod(shape[1:]))
            parameter.set_data(Tensor(rng.normal(0, scale, shape).astype(np.float32)))
    return network


def images(count=4, seed=1):
    return Tensor(np.random.default_rng(seed).normal(size=(count, 3, 32, 32)).astype(np.float32))


def labels(count=4):
    return Tensor(np.arange(count) % 10, ms.int32)


def arrays(network):
    return {name: value.asnumpy().copy() for name, value in weights(network).items()}


def stand_alone(network, space, path):
    subnet = create_subnet(space, path, 10)
    cut = subnet_weights(arrays(network), space, path)
    parameters = weights(subnet)
    assert parameters.keys() == cut.keys()
    for name, value in cut.items():
        assert parameters[name].shape == value.shape
        parameters[name].set_data(Tensor(value))
    return subnet.set_train(False)


def with_operators(network, mode):
    assert use_operators(network, mode) == mode
    return network


AFTER_POOLING = create_space(
    "digits", stage_repeats=(2,), stage_out_channels=(48,), last_conv_after_pooling=True, last_conv_out_channel=32
)


@pytest.mark.parametrize(
    ("space", "operators"),
    [
        (TINY, "standard"),
        (AFTER_POOLING, "fused"),
        pytest.param(WITH_SE, "standard", marks=pytest.mark.slow),
        (WITH_SE, "fused"),
        (SKIPPING, "standard"),
    ],
    ids=["plain, standard", "last conv after pooling", "squeeze-excite, standard", "squeeze-excite", "skips"],
)
def test_a_path_equals_its_stand_alone_network(eager_mode, space, operators):
    network = with_operators(disturbed(Supernet(space, 10)), operators).set_train(False)
    domain = Domain.of(space)
    counts = space.op_counts()
    uniform = [
        Architecture(tuple(min(block, count - 1) for count in counts), (1,) * space.length)
        for block in range(max(counts))
    ]
    for path in [*uniform, *from_genes(domain.sample(np.random.default_rng(2), 3))]:
        network.set_path(np.array([*path.blocks, *path.channels]))
        inside = network(images()).asnumpy()
        alone = stand_alone(network, space, path)(images()).asnumpy()
        np.testing.assert_allclose(inside, alone, rtol=1e-5, atol=1e-5)


def test_upstream_masking_leaks_where_exact_masking_does_not(eager_mode):
    path = Architecture((1, 3), (0, 1))
    found = {}
    for masking in ("exact", "upstream"):
        network = disturbed(Supernet(TINY, 10, masking=masking)).set_train(False)
        network.set_path(np.array([*path.blocks, *path.channels]))
        found[masking] = network(images()).asnumpy().copy()
        alone = stand_alone(network, TINY, path)(images()).asnumpy()
        again = with_operators(network, "fused")(images()).asnumpy()
        np.testing.assert_allclose(again, found[masking], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["exact"], alone, rtol=1e-5, atol=1e-5)
    assert np.abs(found["upstream"] - alone).max() > 1e-3


@pytest.mark.parametrize(("masking", "affine"), [("exact", True), ("upstream", False)])
def test_fused_operators_train_a_path_like_the_standard_cells(eager_mode, masking, affine):
    found = {}
    for operators in ("standard", "fused"):
        network = disturbed(Supernet(TINY, 10, masking=masking, affine=affine)).set_train(True)
        network.dropout.set_train(False)
        with_operators(network, operators).set_path(np.array([3, 2, 1, 0]))
        parameters = network.trainable_params()
        gradient = ms.value_and_grad(lambda x, net=network: (net(x) ** 2).mean(), None, parameters)
        loss, gradients = gradient(images())
        found[operators] = {"loss": loss.asnumpy()} | {
            parameter.name: value.asnumpy() for parameter, value in zip(parameters, gradients, strict=True)
        }
        found[operators] |= {name: value for name, value in arrays(network).items() if "moving" in name}
    largest = max(np.abs(value).max() for name, value in found["standard"].items() if name.endswith("weight"))
    for name, expected in found["standard"].items():
        scale = np.abs(expected).max() if "moving" in name else largest
        np.testing.assert_allclose(found["fused"][name] / scale, expected / scale, rtol=0, atol=1e-4, err_msg=name)


@functools.cache
def compiled(space, operators):
    """One supernet for all tests of its compiled forward, which they leave as they found it."""
    return with_operators(disturbed(Supernet(space, 10)), operators)


# The space of the published networks, on small images: all of its twenty positions are compiled.
PUBLISHED_SPACE = create_space("OneShot", input_size=32, num_classes=10)


@pytest.mark.parametrize(
    ("space", "operators"),
    [
        (TINY, "fused"),
        pytest.param(TINY, "standard", marks=pytest.mark.slow),
        pytest.param(PUBLISHED_SPACE, "fused", marks=pytest.mark.slow),
    ],
    ids=["fused", "standard", "published space"],
)
def test_one_graph_serves_a_hundred_paths_and_equals_eager_mode(graph_mode, space, operators):
    network = compiled(space, operators).set_train(False)
    genes = Domain.of(space).sample(np.random.default_rng(3), 100)
    found = []
    for row in genes:
        network.set_path(row)
        found.append(network(images()).asnumpy())
    assert len(network.compile_cache) == 1
    assert len(np.unique(np.round(np.stack(found)[:, 0, 0], 6))) > 50
    ms.set_context(mode=ms.PYNATIVE_MODE)
    for row, logits in list(zip(genes, found, strict=True))[:4]:
        alone = stand_alone(network, space, from_genes(row[None])[0])(images()).asnumpy()
        np.testing.assert_allclose(logits, alone, rtol=1e-5, atol=1e-5 * np.abs(alone).max())


def test_sizes_and_names(eager_mode):
    for space in (TINY, WITH_SE):
        network = Supernet(space, 10)
        assert sum(p.size for p in network.trainable_params()) == supernet_params(space)
    without = Supernet(TINY, 10, affine=False)
    assert not any(p.name.endswith(("gamma", "beta")) for p in without.trainable_params())
    with pytest.raises(UsageError, match="did you mean 'exact'"):
        Supernet(TINY, 10, masking="exactly")


def test_a_cut_path_fits_the_registered_network(eager_mode):
    space, path = PUBLISHED["OneShot+"]
    subnet = weights(create_subnet(space, path, 1000))
    registered = weights(spos(1000, use_se=True, last_conv_after_pooling=True))
    assert {name: value.shape for name, value in subnet.items()} == {
        name: value.shape for name, value in registered.items()
    }


def configured(**changes):
    values = {
        "model": "spos_oneshot",
        "train_supernet": True,
        "optimizer": "nesterov",
        "weight_decay": 1e-2,
        "channel_start_epoch": 0,
        "channel_warm_up": False,
        "epochs": 2,
        **changes,
    }
    return load_config("", values)


def step_on(network, gradients=None, **changes):
    """A training step of ``network``; with the cell that computes another one's gradients nothing is compiled."""
    config = configured(**changes)
    optimizer = PathSGD(
        list(network.trainable_params()),
        config.momentum,
        config.optimizer == "nesterov",
        config.weight_decay,
        config.weight_decay_on,
        operators_in(network),
    )
    loss = LabelSmoothedCrossEntropy(10, 0.1, "uniform")
    sampler = sampler_of(config, network.space)
    step = SupernetStep(network, network, loss, optimizer, sampler, 4, np.full(100, 0.05, np.float32), config)
    step.gradients = gradients or step.gradients
    return step.set_train(True)


@functools.cache
def trained_step(space, operators):
    """One step for all tests that train: its gradients are compiled once."""
    return step_on(with_operators(disturbed(Supernet(space, 10)), operators))


def everything(step):
    return {parameter.name: parameter.asnumpy().copy() for parameter in step.get_parameters()}


def restore(step, values):
    """In place, for compiled code keeps the memory that it was compiled with."""
    for parameter in step.get_parameters():
        if parameter.name == "sampler_state":
            parameter.set_data(Tensor(values[parameter.name]))
        else:
            ops.assign(parameter, Tensor(values[parameter.name]))


def slots_of(names, space):
    """Position and op of each parameter, read off its name: ``features.stage2.1.choices.3.…``."""
    found, first = [], np.cumsum([0, *space.stage_repeats])
    for name in names:
        words = name.split(".")
        place = "shared"
        if "choices" in words:
            place = (int(first[int(words[1][-1]) - 1]) + int(words[2]), int(words[4]))
        found.append(place)
    return found


def used_by(path, space):
    """Positions and ops of a path that have something to learn."""
    chosen = list(enumerate(path[: space.length].tolist()))
    return {(position, op) for position, op in chosen if space.positions()[position].ops[op].body}


def test_slots_number_the_ops_of_all_positions_and_then_what_paths_share():
    slots = Slots(SKIPPING)
    names = ["features.stem.conv.weight", "features.stage1.0.choices.2.body.expand.conv.weight", "classifier.bias"]
    names += [f"features.{place}.norm.gamma" for place in ("stage1.1.choices.0.body.mix", "stage2.1.choices.4.se")]
    assert slots.of(names).tolist() == [16, 2, 16, 3, 15]
    assert np.flatnonzero(slots.on(np.array([2, 4, 0, 1, 4, 4, 4, 4]))).tolist() == [2, 7, 8, 12, 16]


@pytest.mark.parametrize(
    ("space", "operators", "mode"),
    [
        pytest.param(TINY, "standard", "graph_mode", marks=pytest.mark.slow),
        (TINY, "fused", "graph_mode"),
        (SKIPPING, "standard", "eager_mode"),
        pytest.param(SKIPPING, "standard", "graph_mode", marks=pytest.mark.slow),
        pytest.param(PUBLISHED_SPACE, "fused", "graph_mode", marks=pytest.mark.slow),
    ],
    ids=["standard", "fused", "skips", "skips, graph", "published space"],
)
def test_a_step_leaves_everything_off_the_path_as_it_was(request, space, operators, mode):
    request.getfixturevalue(mode)
    shared = trained_step(space, operators)
    step = step_on(shared.network, shared.gradients)
    names = [parameter.name for parameter in step.get_parameters()]
    slot = dict(zip(names, slots_of([name.replace("velocity.", "") for name in names], space), strict=True))
    for _ in range(5):
        before = everything(step)
        step(images(), labels())
        after = everything(step)
        path = after["path"]
        changed = {name for name in names if not np.array_equal(before[name], after[name])}
        assert {slot[name] for name in changed} - {"shared"} == used_by(path, space)
        assert "features.stem.conv.weight" in changed
    assert int(after["global_step"][0]) == 5


def test_a_resumed_run_takes_the_same_paths_to_the_same_weights(graph_mode):
    shared = trained_step(TINY, "fused")
    whole = step_on(shared.network, shared.gradients, path_sampler="fair")
    for _ in range(3):
        whole(images(), labels())
    saved = everything(whole)
    outside = {parameter.name for parameter in whole.network.get_parameters()} | state(whole).keys()
    assert outside == saved.keys(), "what a checkpoint holds is all there is"
    for _ in range(4):
        whole(images(), labels())
    first = everything(whole)

    resumed = step_on(shared.network, shared.gradients, path_sampler="fair", seed=77)
    restore(resumed, saved)
    for _ in range(4):
        resumed(images(), labels())
    second = everything(resumed)
    assert [name for name in first if not np.array_equal(first[name], second[name])] == []
    assert json.loads(second["sampler_state"].tobytes().rstrip(b"\0"))["drawn"] == 7


class NeverFinite(ms.nn.Cell):
    """Stands for gradients that are never finite, and of which two make an update: nothing is computed."""

    def __call__(self, images, labels, held):
        return Tensor(1.0), Tensor(False), Tensor(0), Tensor(-(abs(int(held.asnumpy())) + 1) % -2, ms.int32), ()


def drawn_by(step, count):
    paths = []
    for _ in range(count):
        step(None, None)
        paths.append(step.supernet.path.asnumpy().tolist())
    return paths


def noted(step):
    return json.loads(step.sampler_state.asnumpy().tobytes().rstrip(b"\0"))


def test_in_another_world_the_sampler_goes_on_with_its_paths_in_the_epoch_that_it_is(eager_mode):
    """Stopped after 3 of 4 steps with half a window, taken up at step 5 of 8 of a later epoch."""
    network = Supernet(TINY, 10)
    whole = step_on(network, NeverFinite(), path_sampler="fair")
    drawn_by(whole, 3)
    saved = everything(whole)
    assert (noted(whole)["held"], noted(whole)["drawn"]) == (-1, 3)

    resumed = step_on(network, NeverFinite(), path_sampler="fair", seed=77)
    resumed.steps_per_epoch = 8
    restore(resumed, saved)
    resumed.begin_at(6, 5)
    state = noted(resumed)
    assert (state["drawn"], state["held"]) == (53, 0)
    assert (state["sampler"]["epoch"], state["sampler"]["steps"]) == (6, 8)
    assert drawn_by(resumed, 1) == drawn_by(whole, 1)
    drawn_by(resumed, 3)
    assert noted(resumed)["sampler"]["epoch"] == 7, "its epoch had three more steps"


@pytest.mark.parametrize(("first", "second"), [("uniform", "fair"), ("fair", "sandwich"), ("sandwich", "uniform")])
def test_another_sampler_goes_on_in_the_epoch_with_the_random_numbers_of_the_one_before(eager_mode, first, second):
    network = Supernet(TINY, 10)
    before = step_on(network, NeverFinite(), path_sampler=first)
    drawn_by(before, 6)
    after = step_on(network, NeverFinite(), path_sampler=second, seed=77)
    restore(after, everything(before))
    after._take_up()
    assert after.sampler.get_state()["rng"] == noted(before)["sampler"]["rng"]
    assert (after.sampler.epoch, after.drawn) == (1, 6)
    drawn_by(after, 5)


def test_gradients_that_are_not_finite_change_nothing(graph_mode):
    shared = trained_step(TINY, "fused")
    step = step_on(shared.network, shared.gradients)
    step(images(), labels())
    before = everything(step)
    _, finite, _ = step(Tensor(np.full((4, 3, 32, 32), np.inf, np.float32)), labels())
    after = everything(step)
    assert not bool(finite.asnumpy())
    kept = [name for p in step.optimizer.parameters for name in (p.name, f"velocity.{p.name}")]
    assert all(np.array_equal(before[name], after[name]) for name in kept)
    assert int(after["overflow_count"]) == int(before["overflow_count"]) + 1
    assert int(after["global_step"][0]) == 1
    restore(step, before)  # the moving statistics are infinite now


@pytest.mark.parametrize("is_fused", [False, True])
@pytest.mark.parametrize("is_nesterov", [False, True])
def test_update_rule(eager_mode, is_nesterov, is_fused):
    rng = np.random.default_rng(0)
    values = {"a.weight": rng.normal(size=(5, 3)), "b.bias": rng.normal(size=5), "c.weight": rng.normal(size=(2, 2))}
    parameters = [ms.Parameter(Tensor(value.astype(np.float32)), name=name) for name, value in values.items()]
    operators = Operators(library()) if is_fused else None
    optimizer = PathSGD(parameters, 0.9, is_nesterov, 0.1, "weights", operators)
    velocity = {name: np.zeros_like(value) for name, value in values.items()}
    for chosen in ([0, 1], [0, 2], [1]):
        gradients = [rng.normal(size=value.shape).astype(np.float32) for value in values.values()]
        untouched = {index: parameters[index].asnumpy().copy() for index in range(3) if index not in chosen}
        optimizer.update(chosen, [Tensor(gradient) for gradient in gradients], 0.05)
        assert all((parameters[index].asnumpy() == value).all() for index, value in untouched.items())
        for index, name in enumerate(values):
            if index in chosen:
                gradient = gradients[index] + (0.1 * values[name] if values[name].ndim == 2 else 0)
                velocity[name] = 0.9 * velocity[name] + gradient
                direction = gradient + 0.9 * velocity[name] if is_nesterov else velocity[name]
                values[name] = values[name] - 0.05 * direction
    for parameter, expected in zip(parameters, values.values(), strict=True):
        np.testing.assert_allclose(parameter.asnumpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("operators", [pytest.param("standard", marks=pytest.mark.slow), "fused"])
def test_recalibration_is_exact_and_leaves_no_trace(graph_mode, operators):
    network = compiled(TINY, operators).set_train(True)
    batches = [(images(4, seed), labels(4), 4) for seed in (5, 6)]
    filled_up = (images(4, 7), labels(4), 3)
    scores = PathAccuracy(network, [*batches, filled_up], [*batches, filled_up])
    # Both go through one block: its statistics have to change between them in the compiled graph too.
    first, second = np.array([1, 2, 0, 1]), np.array([3, 2, 4, 2])
    before = {name: value.asnumpy().copy() for name, value in network.parameters_and_names()}
    a, b, again = scores.hits(first), scores.hits(second), scores.hits(first)
    assert a == again
    assert 0 <= b <= scores.total == 11
    assert scores.calibration_images == 8
    after = {name: value.asnumpy() for name, value in network.parameters_and_names()}
    assert [name for name in before if not np.array_equal(before[name], after[name])] == []
    assert all(cell.training for _, cell in network.cells_and_names())
    stem = network.features.stem
    with scores.recalibration.of_path(first):
        logits = network(batches[0][0]).asnumpy()
        outputs = [stem.conv(batch).asnumpy() for batch, _, _ in batches]
        mean = np.mean([output.mean((0, 2, 3)) for output in outputs], axis=0)
        variance = np.mean([output.var((0, 2, 3), ddof=1) for output in outputs], axis=0)
        np.testing.assert_allclose(stem.norm.moving_mean.asnumpy(), mean, atol=1e-5)
        np.testing.assert_allclose(stem.norm.moving_variance.asnumpy(), variance, rtol=1e-4)
    for genes in (second, first):
        with scores.recalibration.of_path(genes):
            found = network(batches[0][0]).asnumpy()
            ms.set_context(mode=ms.PYNATIVE_MODE)
            alone = stand_alone(network, TINY, from_genes(genes[None])[0])(batches[0][0]).asnumpy()
            ms.set_context(mode=ms.GRAPH_MODE)
        np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(logits, found)


class Photos(list):
    """Batches as `EvalData` gives them."""

    total = 16


class Witness:
    """Stands for an evaluator: notes the path and a statistic it finds, and gives each path another accuracy."""

    def __init__(self, network):
        self.network, self.seen = network, []

    def run(self, data, before_batch):
        before_batch()
        mean = self.network.features.stem.norm.moving_mean.asnumpy().copy()
        self.seen.append((self.network.path.asnumpy().tolist(), mean))
        top1 = len(self.seen) / 10
        return Evaluation(1.0 - top1, top1, 1.0, images=13, total=13, images_per_second=1.0, confusion=None)


def test_epochs_are_compared_on_the_same_five_paths_with_statistics_of_their_own(eager_mode, capsys):
    network = disturbed(Supernet(TINY, 10)).set_train(True)
    calibration = Photos([(images(8, seed), labels(8), 8) for seed in (5, 6)])
    domain = Domain.of(TINY, channel_range=(1, 4))
    before = arrays(network)

    witness = Witness(network)

    def evaluator(seed):
        return SupernetEvaluator(witness, network, calibration, domain, seed)

    first = evaluator(1)
    with logged():
        result = first.run(None)
    seen, paths, said = witness.seen, first.paths, capsys.readouterr().out.splitlines()
    assert list(paths) == ["smallest", "largest", "random 1", "random 2", "random 3"]
    flops = cost_tables(TINY)["flops"]
    assert [flops.totals(paths[name][None])[0] for name in ("smallest", "largest")] == list(flops.range(domain))
    assert [path for path, _ in seen] == [genes.tolist() for genes in paths.values()]
    assert result.top1 == pytest.approx(0.3) and result.loss == pytest.approx(0.7)
    assert (result.images, result.total) == (13, 13)
    assert [line.partition(" (")[0] for line in said[:-1]] == [f"path {name}" for name in paths]
    assert said[-1] == "batch-norm statistics from 16 images for each path"

    stem = network.features.stem
    batches = [stem.conv(batch).asnumpy() for batch, _, _ in calibration]
    expected = np.mean([batch.mean((0, 2, 3)) for batch in batches], axis=0)
    for _, mean in seen:
        np.testing.assert_allclose(mean, expected, atol=1e-5)
    after = arrays(network)
    assert [name for name in before if not np.array_equal(before[name], after[name])] == []

    again, other = (np.stack(list(evaluator(seed).paths.values())) for seed in (1, 2))
    np.testing.assert_array_equal(again, np.stack(list(paths.values())))
    assert (other[:2] == again[:2]).all() and not (other[2:] == again[2:]).all()


def test_settings_without_effect_are_refused():
    for changes, message in (
        ({"path_constraints": {"flops": [190, 330]}}, "path_constraints is for --path_sampler random, not for uniform"),
        ({"stroll": {"cuts": 3}, "path_sampler": "fair"}, "stroll is for --path_sampler strolling, not for fair"),
    ):
        with pytest.raises(UsageError, match=message):
            sampler_of(configured(**changes), TINY)


def test_held_out_images_are_a_fixed_share_of_every_class_and_at_least_one(tmp_path):
    counts = (10, 20, 30)
    files = [(tmp_path / f"{label}" / f"{n}.png", label) for label, count in enumerate(counts) for n in range(count)]
    for path, _ in files:
        path.parent.mkdir(exist_ok=True)
        path.touch()

    def drawn(seed, share=0.2, checkpoint=None, files=files):
        return held_out_of(files, SupernetKeys(search_holdout=share), seed, checkpoint).parts(files)

    kept, held = drawn(1)
    assert [sum(label == k for _, label in held) for k in range(3)] == [2, 4, 6]
    assert sorted(kept + held) == sorted(files)
    assert drawn(1) == (kept, held) != drawn(2)
    assert [sum(label == k for _, label in drawn(1, share=0.01)[1]) for k in range(3)] == [1, 1, 1]
    with pytest.raises(UsageError, match="search_holdout: class 0 has a single image"):
        drawn(1, files=files[:1] + files[10:])
    held_out_of(files, SupernetKeys(search_holdout=0.2), 1, None).write(tmp_path / HELD_OUT_FILE)
    assert drawn(2, checkpoint=tmp_path / "checkpoints" / "net.ckpt") == (kept, held)


def test_space_from_the_options_of_a_network():
    def configured_by(model, **options):
        return load_config("", {"model": model, "model_options": options})

    space = space_of(configured_by("spos_oneshot", layout="digits", use_se=True, bn_momentum=0.1), 10, 64)
    assert (space.channels_layout, space.use_se, space.num_classes, space.input_size) == ("digits", True, 10, 64)
    space = space_of(configured_by("spos_oneshot_plus"), 1000)
    assert space == PUBLISHED["OneShot+"][0], "what the registered network is by default, its supernet is too"
    for model, options, message in (
        ("spos_oneshot", {"use_es": True}, "did you mean 'use_se'"),
        ("spos_oneshot", {"use_se": 3}, "use_se 3 does not exist"),
        ("spos_oneshot", {"layout": "Oneshot"}, "did you mean 'OneShot'"),
        ("mnasnet", {}, "mnasnet is no path of a search space"),
    ):
        with pytest.raises(UsageError, match=message):
            space_of(configured_by(model, **options), 10)
