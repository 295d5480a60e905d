"""Records: what an attempt leaves on disk, how it is claimed, and what a trial's folder says of its standing.

Workers write records and nothing else; everything that is shown of a trial comes from them.
"""

from harness.files import append_line, read_json, read_lines, write_bytes, write_json
from harness.results.records.claims import (
    Attempt,
    cancel,
    cancelled_since,
    claim,
    forgive,
    let_go,
    make_claim,
    set_aside,
)
from harness.results.records.environment import environment_facts
from harness.results.records.folder import (
    ENDED,
    RESULTS_SCHEMA,
    attempts,
    done_marker,
    drop_checkpoints,
    evaluated_quantities,
    final_attempt,
    known_trials,
    latest_attempt,
    latest_checkpoint,
    open_results,
    read_evaluations,
    read_trial,
    submit_trials,
    trial_folder,
    write_evaluations,
)
from harness.results.records.liveness import DEAD_AFTER_S, HEARTBEAT_S, boot_id, is_alive, process_start
from harness.results.records.record import FINISHED, Record, read_record, seal
from harness.results.records.standing import (
    STATUSES,
    UNFINISHED,
    Standing,
    Status,
    Verdicts,
    rerun_failed,
    standing,
    status_of,
)
from harness.source import code_commit

__all__ = [
    "DEAD_AFTER_S",
    "ENDED",
    "FINISHED",
    "HEARTBEAT_S",
    "RESULTS_SCHEMA",
    "STATUSES",
    "UNFINISHED",
    "Attempt",
    "Record",
    "Standing",
    "Status",
    "Verdicts",
    "append_line",
    "attempts",
    "boot_id",
    "cancel",
    "cancelled_since",
    "claim",
    "code_commit",
    "done_marker",
    "drop_checkpoints",
    "environment_facts",
    "evaluated_quantities",
    "final_attempt",
    "forgive",
    "is_alive",
    "known_trials",
    "latest_attempt",
    "latest_checkpoint",
    "let_go",
    "make_claim",
    "open_results",
    "process_start",
    "read_evaluations",
    "read_json",
    "read_lines",
    "read_record",
    "read_trial",
    "rerun_failed",
    "seal",
    "set_aside",
    "standing",
    "status_of",
    "submit_trials",
    "trial_folder",
    "write_bytes",
    "write_evaluations",
    "write_json",
]
