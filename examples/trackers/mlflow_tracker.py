"""Every attempt of a trial as a run of MLflow:  MLFLOW_TRACKING_URI=sqlite:///mlflow.db harness run SUITE --plugin mlflow_tracker.py

A run carries the trial's id as a tag, and its configuration as parameters.
"""

import mlflow

from harness import hookimpl
from harness.trial import flatten


@hookimpl
def harness_trial_start(trial):
    mlflow.set_experiment("noisy-labels")
    mlflow.end_run()
    mlflow.start_run(run_name=trial.id, tags={"trial": trial.id})
    mlflow.log_params({key: str(value)[:500] for key, value in flatten(trial.identity).items()})


@hookimpl
def harness_epoch_end(record):
    told = {**record, **record.get("diagnostics", {})}
    mlflow.log_metrics(
        {name: float(value) for name, value in told.items() if isinstance(value, (int, float))}, step=record["epoch"]
    )


@hookimpl
def harness_trial_finish(record):
    mlflow.end_run("FINISHED" if record["status"] in ("done", "diverged") else "FAILED")
