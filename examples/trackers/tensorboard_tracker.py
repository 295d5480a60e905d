"""Curves of every trial in TensorBoard:  harness run SUITE --plugin tensorboard_tracker.py && tensorboard --logdir runs

`TENSORBOARD_DIR` names the folder; a run is named by its trial's id, and its text tells what the trial is.
"""

import json
import os

from torch.utils.tensorboard import SummaryWriter

from harness import hookimpl


def writer(trial):
    return SummaryWriter(os.path.join(os.environ.get("TENSORBOARD_DIR", "runs"), trial.id))


@hookimpl
def harness_trial_start(trial):
    with writer(trial) as board:
        board.add_text("trial", f"```json\n{json.dumps(dict(trial.identity), indent=1)}\n```")


@hookimpl
def harness_epoch_end(trial, record):
    with writer(trial) as board:
        for name, value in {**record, **record.get("diagnostics", {})}.items():
            if isinstance(value, (int, float)) and name != "epoch":
                board.add_scalar(name, value, record["epoch"])
