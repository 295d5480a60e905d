"""The public interface: its names, hooks that may gain arguments, and warnings before anything goes."""

from __future__ import annotations

import types
from typing import Any

import pluggy
import pytest
import torch

import harness
from harness import hookspecs
from harness.registry import inspect_hooks
from harness.training.stack import Stack


def test_the_public_names_are_these() -> None:
    assert set(harness.__all__) == {
        "DataSplits", "Declares", "HarnessError", "LabelledData", "NoiseReport", "Pass", "Plan", "Run", "Step", "Suite",
        "Trial", "board", "compare", "create", "drive",
        "hookimpl", "load_suite", "open_store", "plan", "run", "suspects",
    }  # fmt: skip
    assert all(getattr(harness, name) is not None for name in harness.__all__)


class OldStyle:
    """Written when ``after_losses`` had the single argument ``step``."""

    def after_losses(self, step: Any) -> None:
        step.append("old")


class NewStyle:
    """Takes the argument that the hook has gained since."""

    def after_losses(self, run: Any, step: Any, epoch_share: float) -> None:
        step.append(epoch_share)


def test_a_training_hook_may_gain_an_argument_without_breaking_old_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    @hookspecs.hookspec
    def after_losses(run: Any, step: Any, epoch_share: float) -> None: ...

    monkeypatch.setattr(hookspecs, "after_losses", after_losses)
    assert inspect_hooks(OldStyle) == (["after_losses"], [])
    assert inspect_hooks(NewStyle) == (["after_losses"], [])
    stack = Stack(lambda *_: torch.zeros(()), [OldStyle(), NewStyle()], ["old", "new"], "loss", False)
    assert stack.after_losses is not None
    told: list[Any] = []
    stack.after_losses(run=None, step=told, epoch_share=0.5)
    assert told == ["old", 0.5]


def test_a_host_hook_may_gain_an_argument_without_breaking_old_plugins() -> None:
    specs = types.ModuleType("specs")

    @hookspecs.hostspec
    def harness_trial_start(trial: Any, attempt: int) -> None: ...

    specs.harness_trial_start = harness_trial_start  # type: ignore[attr-defined]
    manager = pluggy.PluginManager("harness")
    manager.add_hookspecs(specs)
    told = []

    class Old:
        @harness.hookimpl
        def harness_trial_start(self, trial: Any) -> None:
            told.append(trial)

    manager.register(Old())
    manager.check_pending()
    manager.hook.harness_trial_start(trial="t", attempt=2)
    assert told == ["t"]


def test_a_hook_argument_that_goes_warns_the_plugin_that_takes_it() -> None:
    words = "the argument 'step' is deprecated since 0.3 and goes in 0.5; use 'batch'"
    specs = types.ModuleType("specs")

    @hookspecs.hookspec(warn_on_impl_args={"step": FutureWarning(words)})
    def after_losses(run: Any, step: Any, batch: Any) -> None: ...

    specs.after_losses = after_losses  # type: ignore[attr-defined]
    manager = pluggy.PluginManager("harness_training")
    manager.add_hookspecs(specs)

    class Old:
        @pluggy.HookimplMarker("harness_training")
        def after_losses(self, step: Any) -> None: ...

    with pytest.warns(FutureWarning, match=words):
        manager.register(Old())
