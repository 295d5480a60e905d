"""Passes over some samples, for one of several networks, beside others: in which order, by which hooks, and resumed anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness import Declares, Pass
from harness.errors import ComponentError, TrialInterrupted
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
    rates = [network.schedule.last_epoch for network in run.trainees().values()]  # type: ignore[union-attr]
    assert list(run.trainees()) == ["", "peer", "free"] and rates == [3, 2, 2]
    assert run.of("peer").optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)  # its two epochs are over
    assert run.trained == {"", "peer"}
