"""Passes over some samples, for one of several networks, beside others: in which order, by which hooks, and resumed anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness import Declares, Pass
from harness.errors import ComponentError, HarnessError, TrialInterrupted
from harness.testing.bench import difference
from harness.training import seeds
from harness.training.augment import Augmentation
from harness.training.data import ResidentSource
from harness.training.loop import Loop
from harness.training.networks import Network
from harness.training.passes import Laps
from harness.training.run import Run, Step
from harness.training.stack import Stack

N, K, WIDTH = 23, 3, 5


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Loss:
    declares = Declares(soft_targets=True)

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets, reduction="none")


class Unmeasured:
    """Stands for the evaluator."""

    def epoch(self, run: Run, *, last: bool) -> dict[str, float | None]:
        return {}


class Journal:
    """Keeps checkpoints, and stops when it is asked for the n-th time."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.left, self.state = stop_after, {}

    def epoch(self, record: Mapping[str, Any], timing: Mapping[str, Any]) -> None: ...

    def checkpoint(self, state: dict[str, Any]) -> None:
        self.state = state

    def should_stop(self) -> bool:
        if self.left is None:
            return False
        self.left -= 1
        return self.left == 0


def model(width: int = WIDTH) -> nn.Module:
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, K))


def make(
    *algorithms: Any,
    batch_size: int = 5,
    epochs: int = 3,
    make_model: Callable[[], nn.Module] = model,
    samples: int = N,
    **options: Any,
) -> Run:
    """A run on random samples, set up, with a cosine schedule for every network."""

    def network(name: str = "", *, head: nn.Module | None = None, epochs: int = epochs, **given: Any) -> Network:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.derive(0, "init", name))
            module = make_model() if head is None else head
        sgd = torch.optim.SGD(module.parameters(), lr=given.get("optimizer", {}).get("lr", 0.1), momentum=0.9)
        return Network(module, sgd, torch.optim.lr_scheduler.CosineAnnealingLR(sgd, epochs))

    generator = torch.Generator().manual_seed(7)
    targets = torch.randint(K, (samples,), generator=generator)
    inputs = torch.randn(samples, 4, generator=generator) + targets[:, None]
    run = Run(
        network=network(),
        stack=Stack(Loss(), algorithms, [type(part).__name__ for part in algorithms], "ce", False),
        source=ResidentSource(inputs, None, Augmentation(), torch.device("cpu")),
        targets=targets,
        num_classes=K,
        num_outputs=K,
        epochs=epochs,
        batch_size=batch_size,
        seed=0,
        device=torch.device("cpu"),
        build_network=network,
        **options,
    )
    if run.stack.setup is not None:
        run.stack.setup(run=run)
    return run


def loop(run: Run, stop_after: int | None = None, **options: Any) -> Loop:
    return Loop(run, Unmeasured(), Journal(stop_after), checkpoint_s=1e9, **options)  # type: ignore[arg-type]


class Walks:
    """Walks given passes in every epoch, and notes the batches."""

    def __init__(self, *passes: Pass) -> None:
        self.passes = passes
        self.seen: list[tuple[int, list[int], list[int] | None]] = []

    def next_pass(self, run: Run, number: int) -> Pass | None:
        return self.passes[number] if number < len(self.passes) else None

    def train_step(self, run: Run, step: Step) -> None:
        beside = None if step.beside is None else step.beside.index.tolist()
        self.seen.append((step.number, step.index.tolist(), beside))
        assert torch.equal(step.targets, run.targets[step.index])
        assert torch.equal(step.inputs, run.source.gather(step.index))


def order(size: int, *keys: object) -> Tensor:
    return torch.randperm(size, generator=seeds.torch_stream(0, "order", *keys))


def batches(positions: Tensor, size: int) -> list[list[int]]:
    return [part.tolist() for part in positions.split(size)]


# --- in which order ---------------------------------------------------------------------------------------------------


def test_one_pass_over_everything_is_an_epoch_as_it_always_was() -> None:
    plain, passing = make(), make(Walks(Pass()))
    histories = [loop(run).fit() for run in (plain, passing)]
    assert histories[0] == histories[1]
    assert difference(plain.network.state_dict(), passing.network.state_dict()) is None
    algorithm = passing.stack.parts["Walks"]
    assert [index for _, index, _ in algorithm.seen[:5]] == batches(order(N, 1), 5)


def test_later_passes_and_some_samples_have_orders_of_their_own() -> None:
    some = torch.tensor([20, 3, 5, 7, 11, 0, 1])
    algorithm = Walks(Pass(), Pass(batch_size=10), Pass(some, batch_size=4))
    loop(make(algorithm, epochs=2)).fit()
    for epoch, seen in ((1, algorithm.seen[:10]), (2, algorithm.seen[10:])):
        expected = [
            *batches(order(N, epoch), 5),
            *batches(order(N, epoch, 1, 0), 10),
            *batches(some[order(7, epoch, 2, 0)], 4),
        ]
        assert [index for _, index, _ in seen] == expected
        assert [number for number, _, _ in seen] == [*range(5), *range(3), *range(2)]


def test_a_pass_of_more_steps_starts_over_and_so_do_the_samples_beside() -> None:
    some, other = torch.arange(8), torch.arange(10, 17)
    algorithm = Walks(Pass(some, batch_size=3, beside=other, beside_size=2, steps=9))
    loop(make(algorithm, epochs=1)).fit()
    main = [part for lap in range(3) for part in batches(some[order(8, 1, 0, lap)], 3)]
    beside = [part for lap in range(3) for part in batches(other[order(7, 1, 0, "beside", lap)], 2)]
    assert len(main) == 9 and [seen[1] for seen in algorithm.seen] == main
    assert [seen[2] for seen in algorithm.seen] == beside[:9]  # the last sample of a lap stands alone


def test_a_pass_that_is_not_shuffled_is_in_the_order_given_in_every_lap() -> None:
    some, other = torch.tensor([20, 3, 5, 7, 11, 0, 1]), torch.arange(10, 17)
    algorithm = Walks(Pass(some, batch_size=3, beside=other, steps=5, shuffle=False), Pass(shuffle=False))
    loop(make(algorithm, epochs=1)).fit()
    assert [index for _, index, _ in algorithm.seen[:5]] == [*batches(some[:6], 3), *batches(some[:6], 3), [20, 3, 5]]
    beside = [part for lap in range(2) for part in batches(other[order(7, 1, 0, "beside", lap)], 3)]
    assert [drawn for _, _, drawn in algorithm.seen[:5]] == beside[:5]
    assert [index for _, index, _ in algorithm.seen[5:]] == batches(torch.arange(N), 5)


@pytest.mark.parametrize(("drop", "sizes", "others"), [(False, [4, 4, 2], [3, 3, 1]), (True, [4, 4], [3, 3])])
def test_a_short_last_batch_is_kept_or_dropped_in_both_streams(drop: bool, sizes: list[int], others: list[int]) -> None:
    algorithm = Walks(Pass(torch.arange(10), batch_size=4, beside=torch.arange(7), beside_size=3, drop_last=drop))
    loop(make(algorithm, epochs=1)).fit()
    assert [len(seen[1]) for seen in algorithm.seen] == sizes
    assert [len(seen[2]) for seen in algorithm.seen] == others


@pytest.mark.parametrize(
    ("count", "size", "drop", "keep", "steps", "samples"),
    [(9, 4, False, False, 2, 8), (9, 4, False, True, 3, 9), (1, 4, False, False, 1, 1), (3, 4, True, False, 1, 3)],
)
def test_a_last_batch_of_one_is_left_out_of_a_lap_that_has_others(
    count: int, size: int, drop: bool, keep: bool, steps: int, samples: int
) -> None:
    laps = Laps.over(count, size, drop_last=drop, keep_single=keep)
    assert (laps.steps, laps.samples) == (steps, samples)


def test_passes_of_no_samples_have_no_steps_and_none_beside_is_none() -> None:
    nothing = torch.empty(0, dtype=torch.int64)
    algorithm = Walks(Pass(nothing, steps=3), Pass(torch.arange(4), beside=nothing))
    history = loop(make(algorithm, epochs=1)).fit()
    assert [(len(index), beside) for _, index, beside in algorithm.seen] == [(4, None)]
    assert history[0]["train_loss"] > 0


def test_the_training_loss_is_the_mean_over_all_that_was_walked() -> None:
    class Flat(Walks):
        def compute_losses(self, step: Step) -> bool:
            assert step.outputs is not None
            step.losses = 0 * step.outputs.sum(1) + 2.0
            return True

    history = loop(make(Flat(Pass(), Pass(torch.arange(7), batch_size=2, steps=9)), epochs=1)).fit()
    assert history[0]["train_loss"] == pytest.approx(2.0)


# --- what next_pass may return ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (torch.arange(3), "next_pass returned (3,) int64 on cpu"),
        (Pass(torch.arange(3.0)), "next_pass gave a pass with index as (3,) float32"),
        (Pass(torch.tensor([N])), f"next_pass gave a pass with index outside [0, {N})"),
        (Pass(beside=torch.tensor([[0]])), "next_pass gave a pass with beside as (1, 1) int64"),
        (Pass(network="peer"), "next_pass gave a pass with network 'peer', which run.new_network has not made"),
        (Pass(batch_size=0), "next_pass gave a pass with batch_size = 0, not a whole number from 1"),
        (Pass(steps=1.5), "next_pass gave a pass with steps = 1.5"),  # type: ignore[arg-type]
        (Pass(label=None), "next_pass gave a pass with label as a value of type NoneType"),  # type: ignore[arg-type]
        (Pass(drop_last=1), "next_pass gave a pass with drop_last as"),  # type: ignore[arg-type]
        (Pass(shuffle=None), "next_pass gave a pass with shuffle as"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_pass_is_refused_in_the_name_of_its_algorithm(given: Any, words: str) -> None:
    with pytest.raises(ComponentError) as caught:
        loop(make(Walks(given))).fit()
    assert words in str(caught.value) and "algorithms.Walks" in str(caught.value)


def test_an_epoch_that_never_ends_is_refused() -> None:
    class Endless:
        def next_pass(self) -> Pass:
            return Pass(torch.empty(0, dtype=torch.int64))

    with pytest.raises(ComponentError, match="next_pass gave 10000 passes"):
        loop(make(Endless())).fit()


# --- a method of several networks, interrupted anywhere ---------------------------------------------------------------


class Both:
    """Uses all of the contract: two networks, an average of each kind, heads of each kind, passes beside each other."""

    declares = Declares(own_step=True, descends=True)

    def __init__(self, warmup: int = 1) -> None:
        self.warmup = warmup

    def setup(self, run: Run) -> None:
        run.new_network("peer", optimizer={"name": "sgd", "lr": 0.05}, epochs=2)
        self.averages = [run.average("mean"), run.average("teacher", of="peer", start="fresh")]
        run.new_head("shared", "", lambda features: nn.Linear(features, K))
        run.new_head("free", "peer", lambda features: nn.Linear(features, K), optimizer="own")
        self.chosen = torch.arange(run.num_samples)

    def next_pass(self, run: Run, number: int) -> Pass | None:
        if run.epoch <= self.warmup:
            return Pass() if number == 0 else None
        if number == 2:
            return None
        network = ("", "peer")[number]
        losses = run.examine(network).losses
        self.chosen = losses.argsort()[: run.num_samples // 2 + number]
        rest = losses.argsort()[run.num_samples // 2 :]
        return Pass(self.chosen, network, beside=rest, beside_size=3, steps=4, label="pair")

    def train_step(self, run: Run, step: Step) -> bool | None:
        if step.label != "pair":
            return None
        assert step.beside is not None
        lam = float(torch.rand((), generator=run.generator("algorithm")))
        name = step.network
        mixed = torch.cat([step.inputs, lam * run.view(step.index, "weak")])
        outputs, features = run.forward(mixed, run.of(name).model, features=True)
        targets = torch.cat([step.targets, step.targets])
        step.index = torch.cat([step.index, step.index])
        step.divisor = len(step.index)
        head = run.heads["free" if name else "shared"]
        step.losses = functional.cross_entropy(outputs, targets, reduction="none")
        step.losses = step.losses + functional.cross_entropy(head(features), targets, reduction="none")
        with torch.no_grad():
            guesses = run.forward(step.beside.inputs, self.averages[1].model).softmax(1)
        step.penalty = (run.forward(step.beside.inputs, run.of(name).model).softmax(1) - guesses).square().mean()
        run.descend(step, ("peer", "free") if name else None)
        self.averages[bool(name)].update(0.9, buffers=not name)
        return True

    def predict(self, run: Run, inputs: Tensor) -> Tensor:
        return (run.forward(inputs) + run.forward(inputs, run.of("peer").model)).log_softmax(1)


def test_a_method_of_several_networks_resumes_to_the_same_bits_wherever_it_stops() -> None:
    def whole(state: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in state.items() if key != "epoch_seconds"}

    undisturbed = loop(make(Both()))
    expected = undisturbed.fit()
    stops = 5 + 1 + 8 + 1 + 8  # batches, and the ends of two epochs
    for stop in range(1, stops):
        first = loop(make(Both()), stop)
        with pytest.raises(TrialInterrupted):
            first.fit()
        again = loop(make(Both()))
        again.load_state_dict(first.journal.state, list(first.history))  # type: ignore[attr-defined]
        assert again.fit() == expected, stop
        assert difference(whole(undisturbed.state_dict()), whole(again.state_dict())) is None, stop


def test_schedules_step_after_epochs_in_which_their_network_was_trained() -> None:
    run = make(Both(), epochs=3)
    loop(run).fit()
    rates = [network.schedule.last_epoch for network in run.nets.trainees().values()]  # type: ignore[union-attr]
    assert list(run.nets.trainees()) == ["", "peer", "free"] and rates == [3, 2, 2]
    assert run.of("peer").optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)  # its two epochs are over
    assert run.trained == {"", "peer"}


# --- what a step of a method's own passes through ---------------------------------------------------------------------


class Rows:
    """Trains on two rows for each sample: its own loss, and twice the loss of another view."""

    declares = Declares(own_step=True, descends=True)

    def __init__(self, networks: tuple[str, ...] | None = None) -> None:
        self.networks = networks

    def setup(self, run: Run) -> None:
        run.new_network("peer")

    def next_pass(self, run: Run, number: int) -> Pass | None:
        passes = ("", "peer") if self.networks is None else ("",)
        return Pass(network=passes[number]) if number < len(passes) else None

    def train_step(self, run: Run, step: Step) -> bool:
        outputs = run.forward(torch.cat([step.inputs, -step.inputs]), run.of(step.network).model)
        if self.networks is not None:
            outputs = outputs + run.forward(torch.cat([step.inputs, -step.inputs]), run.of("peer").model)
        targets = step.targets.repeat(2)
        step.losses = functional.cross_entropy(outputs, targets, reduction="none")
        step.index, step.divisor = step.index.repeat(2), len(targets)
        step.penalty = 0.01 * outputs.square().mean()
        run.descend(step, self.networks)
        return True


class Listener:
    """Notes the hooks that fire and what they are given."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int]] = []

    def after_losses(self, run: Run, step: Step) -> None:
        assert step.losses is not None and step.losses.shape == step.index.shape
        self.seen.append(("after_losses", step.network, len(step.index)))

    def after_backward(self, run: Run, step: Step) -> None:
        assert all(p.grad is not None for p in run.of(step.network).parameters)
        self.seen.append(("after_backward", step.network, len(step.index)))

    def after_step(self, run: Run, step: Step) -> None:
        self.seen.append(("after_step", step.network, len(step.index)))


def test_a_descending_step_fires_the_hooks_from_its_losses_on_for_its_network() -> None:
    listener = Listener()
    run = make(Rows(), listener, epochs=1, samples=10)
    loop(run).fit()
    assert listener.seen == [
        (hook, network, 10)
        for network in ("", "peer")
        for _ in range(2)
        for hook in ("after_losses", "after_backward", "after_step")
    ]
    assert run.trained == {"", "peer"}


def test_gradients_of_every_network_that_takes_the_step_can_be_changed() -> None:
    listener = Listener()
    run = make(Rows(("", "peer")), listener, epochs=1, samples=5)
    loop(run).fit()
    assert [seen[:2] for seen in listener.seen[:4]] == [
        ("after_losses", ""), ("after_backward", ""), ("after_backward", "peer"), ("after_step", ""),
    ]  # fmt: skip


def test_a_descending_step_is_the_step_written_out() -> None:
    class Double:
        """Weights rows by their samples."""

        def after_losses(self, step: Step) -> None:
            step.weights = step.weights * (1 + step.index.to(step.weights.dtype))

    run = make(Rows(), Double(), make_model=lambda: nn.Linear(4, K), epochs=1, samples=6, batch_size=6)
    run.clip = 0.5
    bare = nn.Linear(4, K)
    bare.load_state_dict(run.model.state_dict())
    sgd = torch.optim.SGD(bare.parameters(), lr=0.1, momentum=0.9)
    inputs = run.source.gather(torch.arange(6))
    index = order(6, 1)
    outputs = bare(torch.cat([inputs[index], -inputs[index]]))
    losses = functional.cross_entropy(outputs, run.targets[index].repeat(2), reduction="none")
    loss = ((1 + index.repeat(2)) * losses).sum() / 12 + 0.01 * outputs.square().mean()
    loss.backward()
    nn.utils.clip_grad_norm_(bare.parameters(), 0.5)
    sgd.step()
    history = loop(run, clip=0.5).fit()
    assert history[0]["train_loss"] > 0
    for ours, theirs in zip(run.model.parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda step: setattr(step, "losses", None), "train_step set no losses"),
        (lambda step: setattr(step, "losses", step.losses[:3]), "train_step gave losses of shape (3,)"),
        (lambda step: setattr(step, "index", step.index + 1000), "train_step left step.index outside"),
        (lambda step: setattr(step, "losses", step.losses.detach()), "without a gradient, so that nothing is learnt"),
        (lambda step: setattr(step, "losses", step.losses * float("nan")), "train_step left step.losses not finite"),
    ],
)
def test_what_a_descending_step_leaves_wrong_is_named_for_what_it_is(change: Any, words: str) -> None:
    class Wrong(Rows):
        def train_step(self, run: Run, step: Step) -> bool:
            outputs = run.forward(step.inputs)
            step.losses = functional.cross_entropy(outputs, step.targets, reduction="none")
            change(step)
            run.descend(step)
            return True

    run = make(Wrong(), Listener())
    with pytest.raises(ComponentError) as caught:
        loop(run).fit()
    assert words in str(caught.value)
    place = run.stack.watch.marker.origin(caught.value)
    assert place is not None and place.source.component == "algorithms.Wrong"


# --- looking without changing -----------------------------------------------------------------------------------------


def everything(run: Run) -> dict[str, Any]:
    """A copy of all state, with every generator."""
    from harness.training.run import copied

    state = copied({"run": run.state_dict(), "globals": seeds.global_state()})
    modes = [module.training for model in run.nets.models() for module in model.modules()]
    return {**state, "modes": modes, "phase": run.phase}


def test_an_examination_is_a_plain_forward_pass_and_changes_nothing() -> None:
    run = make(Both())
    loop(run).fit()
    run.nets.train(True)
    run.averages["mean"].model.eval()
    before = everything(run)
    some = torch.tensor([7, 2, 2, 19])
    for name in ("", "peer", "mean", "teacher"):
        found = run.examine(name, ("losses", "outputs", "features"), some, batch_size=3)
        average = run.averages.get(name)
        net: Any = run.of(name).model if average is None else average.model
        training = net.training
        net.eval()
        inputs = run.source.gather(some)
        outputs = net(inputs)
        torch.testing.assert_close(found.outputs, outputs, rtol=0, atol=1e-6)
        torch.testing.assert_close(found.features, net[:3](inputs), rtol=0, atol=1e-6)
        losses = functional.cross_entropy(outputs, run.targets[some], reduction="none")
        torch.testing.assert_close(found.losses, losses, rtol=0, atol=1e-6)
        net.train(training)
        assert not any(part.requires_grad for part in (found.losses, found.outputs, found.features))
    torch.testing.assert_close(run.examine(index=some).losses, run.examine().losses[some])
    assert difference(before, everything(run)) is None


def test_what_was_not_examined_is_said() -> None:
    run = make()
    with pytest.raises(HarnessError, match=r'features were not examined; ask for run.examine\(what=\("features",\)\)'):
        _ = run.examine().features
    with pytest.raises(HarnessError, match="unknown part 'logits'"):
        run.examine(what=("logits",))  # type: ignore[arg-type]
    with pytest.raises(HarnessError, match="unknown network 'peer'"):
        run.examine("peer")


class Rowed:
    """Keeps a state row for each sample, moved with every training step."""

    def setup(self, run: Run) -> None:
        self.rows = run.sample_state("rows", 1, 0.5, 0.1)
        self.calls: list[str] = []

    def before_forward(self, step: Step) -> None:
        self.calls.append(f"before {step.phase}")

    def after_losses(self, run: Run, step: Step) -> None:
        self.calls.append(step.phase)
        assert step.losses is not None
        step.losses = step.losses * self.rows[step.index].squeeze(1)
        if step.phase == "train":
            step.weights = step.weights * 3


@pytest.mark.parametrize("statistics", [False, True])
def test_a_step_taken_again_is_at_the_weights_as_they_are_and_touches_no_state(statistics: bool) -> None:
    class Climbs:
        def after_backward(self, run: Run, step: Step) -> None:
            with torch.no_grad():
                for p in run.model_parameters:
                    p.add_(0.1)
            before = everything(run)
            again = run.again(step, statistics=statistics)
            after = everything(run)
            moved = difference(before, after)
            assert (moved is None) is not statistics, moved
            outputs = run.model(step.inputs)  # batch statistics
            losses = functional.cross_entropy(outputs, step.targets, reduction="none") * 0.5
            torch.testing.assert_close(again.losses, losses)
            torch.testing.assert_close(run.reduce(again), 3 * losses.sum() / 5)
            torch.autograd.grad(run.reduce(again), run.model_parameters)
            with torch.no_grad():
                for p in run.model_parameters:
                    p.sub_(0.1)

    rowed = Rowed()
    run = make(rowed, Climbs(), epochs=1, samples=5)
    loop(run).fit()
    assert rowed.calls == ["before train", "train", "again"]
    gradient = run.sample_states["rows"].data - 0.5
    assert bool((gradient != 0).all())  # by the step itself, once


# --- averages, heads, networks of their own kind ----------------------------------------------------------------------


def test_an_average_moves_by_its_decay_and_takes_over_buffers_only_when_told() -> None:
    run = make()
    mean = run.average("mean")
    fresh = run.average("fresh", start="fresh")
    for ours, theirs in zip(mean.model.parameters(), run.model.parameters(), strict=True):
        assert torch.equal(ours, theirs) and ours is not theirs and not ours.requires_grad
    assert not torch.equal(fresh.model[0].weight, run.model[0].weight)  # type: ignore[index]
    with torch.no_grad():
        for p in run.model.parameters():
            p.add_(1.0)
        run.model[1].running_mean.fill_(7.0)  # type: ignore[index]
    start = [p.clone() for p in mean.model.parameters()]
    mean.update(0.75)
    for ours, old, theirs in zip(mean.model.parameters(), start, run.model.parameters(), strict=True):
        torch.testing.assert_close(ours, 0.75 * old + 0.25 * theirs)
    assert float(mean.model[1].running_mean.max()) == 0.0  # type: ignore[index]
    mean.update(1.0, buffers=True)
    assert float(mean.model[1].running_mean.min()) == 7.0  # type: ignore[index]
    assert len(run.model_parameters) == 6 and "mean" not in run.nets.trainees()


def test_names_of_networks_averages_and_heads_are_taken_once() -> None:
    run = make()
    run.average("one")
    for add in (run.new_network, run.average, lambda name: run.new_head(name, "", lambda n: nn.Linear(n, K))):
        with pytest.raises(HarnessError, match="two parts of the stack add a network 'one'"):
            add("one")
    with pytest.raises(HarnessError, match="unknown network 'none'"):
        run.of("none")


def test_a_shared_head_follows_the_networks_optimizer_and_an_own_one_its_own() -> None:
    run = make(epochs=4)
    shared = run.new_head("shared", "", lambda features: nn.Linear(features, 2))
    own = run.new_head("own", "", lambda features: nn.Linear(features, 2), optimizer={"name": "sgd", "lr": 0.5})
    assert shared.in_features == own.in_features == WIDTH
    assert not torch.equal(shared.weight, own.weight)
    before = [p.detach().clone() for p in (shared.weight, own.weight, run.model_parameters[0])]
    index = torch.arange(5)
    step = Step(index, run.source.gather(index), run.targets[index])
    _, features = run.forward(step.inputs, features=True)
    step.losses = shared(features).square().sum(1) + own(features.detach()).square().sum(1)
    run.descend(step, ("", "own"))
    for start, p, rate in zip(
        before, (shared.weight, own.weight, run.model_parameters[0]), (0.1, 0.5, 0.1), strict=True
    ):
        assert p.grad is not None
        torch.testing.assert_close(p, start - rate * p.grad)
    assert run.trained == {""} and run.nets.stepped == {"", "own"}


def test_a_head_is_made_by_a_stream_of_its_own() -> None:
    torch.manual_seed(11)
    first = make().new_head("head", "", lambda features: nn.Linear(features, 2))
    state = torch.get_rng_state()
    second = make().new_head("head", "", lambda features: nn.Linear(features, 2))
    assert torch.equal(first.weight, second.weight) and torch.equal(state, torch.get_rng_state())


def test_features_are_the_inputs_of_the_last_linear_layer_of_the_classes() -> None:
    run = make(make_model=lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, K)))
    inputs = run.source.gather(torch.arange(3))
    outputs, features = run.forward(inputs, features=True)
    assert torch.equal(outputs, run.model(inputs)) and torch.equal(features, run.model[:2](inputs))  # type: ignore[index]
    assert not run.model[2]._forward_pre_hooks  # type: ignore[index]
    without = make(make_model=lambda: nn.Sequential(nn.Unflatten(1, (4, 1)), nn.Conv1d(4, K, 1), nn.Flatten()))
    with pytest.raises(HarnessError, match="no linear layer of 3 outputs, so it has no features"):
        without.forward(inputs, features=True)


def test_extra_passes_of_a_hook_are_those_of_the_network_that_is_trained() -> None:
    class Probes:
        """Perturbs inputs by the gradient of the loss, as FGSM does."""

        def __init__(self) -> None:
            self.gradients: list[Tensor] = []

        @torch.enable_grad()
        def before_forward(self, run: Run, step: Step) -> None:
            inputs = step.inputs.clone().requires_grad_(True)
            losses = run.losses(inputs, step.targets, step.index, "probe")
            plain = step.inputs.clone().requires_grad_(True)
            own = functional.cross_entropy(run.of(step.network).model(plain), step.targets, reduction="none")
            (found,), (expected,) = (torch.autograd.grad(v.sum(), x) for v, x in ((losses, inputs), (own, plain)))
            torch.testing.assert_close(found, expected)
            self.gradients.append(found)

    class Alternates(Walks):
        def setup(self, run: Run) -> None:
            run.new_network("peer")

    probes = Probes()
    algorithm = Alternates(Pass(), Pass(network="peer"))
    run = make(algorithm, probes, make_model=lambda: nn.Linear(4, K), epochs=1)
    loop(run).fit()
    assert len(probes.gradients) == 10 and run.trained == {"", "peer"}  # before a pass that scores
    torch.testing.assert_close(
        run.score_losses(network="peer"),
        functional.cross_entropy(
            run.of("peer").model(run.source.gather(torch.arange(N))), run.targets, reduction="none"
        ),
    )


def test_a_state_with_everything_is_the_same_after_it_was_put_back() -> None:
    run, other = make(Both()), make(Both())
    loop(run).fit()
    other.load_state_dict(run.state_dict())
    assert difference(run.state_dict(), other.state_dict()) is None
    third = make(Both())
    third.load_prediction_state(run.prediction_state())
    run.nets.train(False)
    third.nets.train(False)
    inputs = run.source.gather(torch.arange(4))
    assert torch.equal(run.predict(inputs), third.predict(inputs))
    assert torch.equal(run.averages["mean"].model(inputs), third.averages["mean"].model(inputs))


def test_a_checkpoint_of_an_earlier_harness_goes_on() -> None:
    plain = loop(make())
    expected = plain.fit()
    for stop in (3, 5, 6, 9):
        first = loop(make(), stop)
        with pytest.raises(TrialInterrupted):
            first.fit()
        state = dict(first.journal.state)  # type: ignore[attr-defined]
        for key in ("pass", "pass_number", "samples"):
            del state[key]
        state["run"] = {
            k: v for k, v in state["run"].items() if k not in ("averages", "heads", "head_optimizers", "trained")
        }
        again = loop(make())
        again.load_state_dict(state, list(first.history))
        assert again.fit() == expected
