"""Every trial as a run of Weights & Biases:  WANDB_MODE=offline harness run SUITE --plugin wandb_tracker.py

A trial that was stopped goes on as the same run, since the run's id is the trial's.
"""

import wandb

from harness import hookimpl
from harness.trial import flatten


@hookimpl
def harness_trial_start(trial):
    wandb.init(
        project="noisy-labels", id=trial.id, resume="allow", config=flatten(trial.identity), reinit="finish_previous"
    )


@hookimpl
def harness_epoch_end(record):
    told = {**record, **record.get("diagnostics", {})}
    wandb.log({name: value for name, value in told.items() if isinstance(value, (int, float))}, step=record["epoch"])


@hookimpl
def harness_trial_finish(record):
    wandb.finish(exit_code=0 if record["status"] in ("done", "diverged") else 1)
