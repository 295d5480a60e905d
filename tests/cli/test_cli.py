"""The command line as a user meets it: one line for bad input, exit codes, JSON for programs, nothing imported in vain."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.cli.main import entry_points, main
from harness.registry import function_summary

Write = Callable[..., Path]


def fresh(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "harness.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=cwd, check=False)


def call(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in this process, which has imported torch: what goes to its streams, and the exit status."""
    words = ["harness", *map(str, arguments)]
    code = 0
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        patch.setattr(sys, "argv", words)
        if cwd is not None:
            patch.chdir(cwd)
        kept = os.dup(1), os.dup(2)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            for number, was in enumerate(kept, 1):
                os.dup2(was, number)
                os.close(was)
        for stream in (out, err):
            stream.seek(0)
        return subprocess.CompletedProcess(words, code, out.read(), err.read())


def imported_by(*arguments: str) -> set[str]:
    code = (
        "import sys\n"
        f"sys.argv = ['harness', {', '.join(map(repr, arguments))}]\n"
        "from harness.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('MODULES', *sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    return set(done.stdout.rpartition("MODULES")[2].split())


def test_help_lists_every_command_with_its_summary() -> None:
    done = fresh("--help")
    assert done.returncode == 0
    for name in entry_points():
        line = next(line for line in done.stdout.splitlines() if line.split()[:1] == [name])
        assert len(line.split()) > 3, f"{name} has no summary"
    said = [function_summary(e.module, e.attr) for e in entry_points().values()]
    assert all(said) and len(set(said)) == len(said)  # publish says that it writes, not what the leaderboard does


def test_the_version_is_shown() -> None:
    from harness.plugins import harness_version

    assert fresh("--version").stdout.strip() == harness_version()


def test_listing_and_planning_import_no_torch(write_suite: Write, tmp_path: Path) -> None:
    path = str(write_suite())
    call("components")
    call("plan", path)
    assert not imported_by("--help") & {"torch", "numpy", "pydantic", "rich", "duckdb"}
    assert not imported_by("components") & {"torch", "numpy", "duckdb", "streamlit", "submitit"}
    assert not imported_by("plan", path, "--results", str(tmp_path / "r")) & {"torch", "duckdb", "scipy", "streamlit"}


def test_a_worker_imports_nothing_of_the_user_interface() -> None:
    code = "import sys, harness.execution.worker, harness.training.trial; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"duckdb", "typer", "rich", "streamlit", "submitit", "pandas", "pyarrow"}


def test_run_board_status_export_and_again(write_suite: Write, tmp_path: Path) -> None:
    path, results = (
        write_suite(methods='[[method]]\nname = "CE"\n[[method]]\nname = "GCE"\nloss = "gce"'),
        tmp_path / "r",
    )
    first = fresh("run", path, "--results", results, "--executor", "inline")
    assert first.returncode == 0, first.stderr
    assert "GCE" in first.stdout and "all 2 trials are done" in first.stdout
    again = call("run", path, "--results", results)
    assert again.returncode == 0 and "2 done" not in again.stderr
    board = json.loads(call("board", "--results", results, "--json").stdout)
    assert {row["method"] for row in board["rows"]} == {"CE", "GCE"}
    plan = json.loads(call("plan", path, "--results", results, "--json").stdout)
    assert plan["counts"]["done"] == 2 and plan["remaining_seconds"] == 0
    status = json.loads(call("status", path, "--results", results, "--json").stdout)
    assert status["counts"]["done"] == 2
    markdown = call("export", "--results", results, "--format", "markdown").stdout
    assert markdown.startswith("| ") and "**" in markdown
    trial = plan["trials"][0]["id"]
    assert trial in call("logs", trial[:6], "--results", results).stdout
    assert call("run", path, "--results", results, "--select", "method=GCE", "--json").returncode == 0


def test_plan_estimates_the_rest_from_what_is_recorded(write_suite: Write, tmp_path: Path) -> None:
    path, results = write_suite(), tmp_path / "r"
    call("run", path, "--results", results, "--executor", "inline")
    plan = json.loads(call("plan", path, "--results", results, "--set", "suite.seeds=[0, 1, 2]", "--json").stdout)
    assert plan["counts"] == {"done": 1, "diverged": 0, "failed": 0, "running": 0, "missing": 2, "stale": 0}
    assert plan["remaining_seconds"] > 0


def test_failures_exit_with_one_and_retry_lets_them_run(write_suite: Write, tmp_path: Path) -> None:
    plugin = tmp_path / "sometimes.py"
    plugin.write_text(
        "from pathlib import Path\nfrom harness import hookimpl\n"
        "class Sometimes:\n    'Raises until a file is there.'\n"
        "    def setup(self, run):\n        if not (Path(__file__).parent / 'ok').exists():\n            raise ValueError('not yet')\n"
        "@hookimpl\ndef harness_register_algorithms(register):\n    register('sometimes', Sometimes)\n"
    )
    path = write_suite(methods='[[method]]\nname = "CE"\n[[method]]\nname = "S"\nalgorithms = ["sometimes"]')
    common = (path, "--results", tmp_path / "r", "--plugin", plugin)
    failed = call("run", *common, "--executor", "inline")
    assert failed.returncode == 1 and "ValueError: not yet" in failed.stdout
    (tmp_path / "ok").touch()
    assert call("run", *common, "--executor", "inline").returncode == 1, "an exception is final"
    assert "1 trial will run again" in call("retry", *common, "--failed").stdout
    assert call("run", *common, "--executor", "inline").returncode == 0


def test_an_edited_plugin_makes_its_results_stale(write_suite: Write, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    source = (
        "from harness import hookimpl\nfrom torch.nn import functional\n"
        "class Mine:\n    'Cross entropy times a factor.'\n"
        "    def __call__(self, outputs, targets, index=None):\n        return FACTOR * functional.cross_entropy(outputs, targets, reduction='none')\n"
        "@hookimpl\ndef harness_register_losses(register):\n    register('mine', Mine)\n"
    )
    plugin.write_text(source + "FACTOR = 1.0\n")
    path = write_suite(methods='[[method]]\nname = "M"\nloss = "mine"', suite='plugins = ["./mine.py"]')
    common = (path, "--results", tmp_path / "r", "--executor", "inline")
    assert call("run", *common).returncode == 0
    plugin.write_text(source + "FACTOR = 0.5\n")
    kept = call("run", *common)
    assert kept.returncode == 0 and "1 stale" in kept.stdout
    rerun = call("run", *common, "--stale", "rerun")
    assert rerun.returncode == 0 and "stale" not in rerun.stdout
    assert json.loads(call("plan", path, "--results", tmp_path / "r", "--json").stdout)["counts"]["done"] == 1


def test_a_rerun_that_fails_exits_with_one_and_says_why(write_suite: Write, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    source = (
        "from harness import hookimpl\nclass Mine:\n    'A part.'\n    def setup(self, run):\n        {}\n"
        "@hookimpl\ndef harness_register_algorithms(register):\n    register('mine', Mine)\n"
    )
    plugin.write_text(source.format("pass"))
    path = write_suite(methods='[[method]]\nname = "M"\nalgorithms = ["mine"]', suite='plugins = ["./mine.py"]')
    common = (path, "--results", tmp_path / "r", "--executor", "inline")
    assert call("run", *common).returncode == 0
    plugin.write_text(source.format("raise ValueError('broken now')"))
    failed = call("run", *common, "--stale", "rerun")
    assert failed.returncode == 1 and "ValueError: broken now" in failed.stdout and "are done" not in failed.stdout
    assert call("run", *common, "--stale", "rerun").returncode == 1, "a failure is final"
    plugin.write_text(source.format("return"))
    assert "1 trial will run again" in call("retry", *common[:3], "--failed").stdout
    mended = call("run", *common, "--stale", "rerun")
    assert mended.returncode == 0 and "the trial is done" in mended.stdout


def test_json_holds_nothing_that_a_component_prints(write_suite: Write, tmp_path: Path) -> None:
    plugin = tmp_path / "chatty.py"
    plugin.write_text(
        "from harness import hookimpl\nclass Chatty:\n    'Prints.'\n    def setup(self, run):\n        print('hello')\n"
        "@hookimpl\ndef harness_register_algorithms(register):\n    register('chatty', Chatty)\n"
    )
    path = write_suite(methods='[[method]]\nname = "M"\nalgorithms = ["chatty"]', epochs=1)
    common = (path, "--results", tmp_path / "r", "--executor", "inline", "--plugin", plugin)
    done = call("run", *common, "--json")
    assert json.loads(done.stdout)["counts"]["done"] == 1 and "hello" in done.stderr
    checked = call("plugin", "check", plugin, "--json", "--only", "deterministic")
    assert json.loads(checked.stdout)["faults"] == 0, checked


def test_trials_left_to_another_process_are_told_and_exit_with_one(write_suite: Write, tmp_path: Path) -> None:
    from harness.results.records import claim, open_results, submit_trials
    from harness.suite.load import load_suite

    path, results = write_suite(epochs=1), open_results(tmp_path / "r")
    (entry,) = load_suite(path).entries()
    submit_trials(results, [entry.trial])
    attempt = claim(results, entry.trial.id)  # by this test's process, which lives
    assert attempt is not None
    command = ("run", path, "--results", results, "--executor", "inline")
    left = call(*command)
    assert left.returncode == 1 and "1 trial is left, 1 of them at work in another process" in left.stdout
    attempt.release()
    assert call(*command).returncode == 0


def test_a_search_that_chose_nothing_exits_with_one(write_suite: Write, tmp_path: Path) -> None:
    path = write_suite(
        suite="tuning_seeds = [100]", training="validation = 1e-5", epochs=1,  # a share of no sample
        methods='[[method]]\nname = "CE"\nsearch = { "optimizer.lr" = [0.01, 0.1] }',
    )  # fmt: skip
    done = call("run", path, "--results", tmp_path / "r", "--executor", "inline", "--json")
    assert done.returncode == 1 and "chose nothing" in json.loads(done.stdout)["notes"][0]


def test_a_search_runs_then_compares_what_it_chose(write_suite: Write, tmp_path: Path) -> None:
    path = write_suite(
        suite="tuning_seeds = [100]",
        methods='[[method]]\nname = "CE"\nsearch = { "optimizer.lr" = [1e-6, 0.1] }',
        epochs=3,
    )
    done = call("run", path, "--results", tmp_path / "r", "--executor", "inline")
    assert done.returncode == 0 and re.search(r"│ CE +│ +2 │", done.stdout), done.stdout
    plan = json.loads(call("plan", path, "--results", tmp_path / "r", "--json").stdout)
    assert plan["counts"]["done"] == 3 and plan["waiting"] == 0
    assert "optimizer.lr = 0.1" in call("plan", path, "--results", tmp_path / "r").stdout


BAD = [
    (("run", "absent.toml"), "no such suite file"),
    (("run", "{suite}", "--select", "method=Nope"), "selects none"),
    (("run", "{suite}", "--select", "metod=CE"), "did you mean 'method'"),
    (("run", "{suite}", "--set", "trainig.epochs=1"), "did you mean 'training'"),
    (("run", "{suite}", "--executor", "lokal"), "did you mean 'local'"),
    (("run", "{suite}", "--results", "{suite}/r"), "Not a directory"),
    (("run", "{suite}", "--plugin", "absent.py"), "no such plugin file"),
    (("run", "suite:nothing"), "unknown suite"),
    (("board",), "nothing has been collected"),
    (("logs", "abc"), "no trial's id begins with"),
    (("retry", "{suite}"), "add --failed, --lost or --quarantined"),
    (("components", "lss"), "did you mean 'loss'"),
    (("components", "loss", "gec"), "did you mean 'gce'"),
    (("components", "algorithm", "--needs", "speed"), "choose among two_networks, rate, matrix"),
    (("components", "--without", "rates"), "unknown need 'rates'"),
    (("rnu",), "did you mean 'run'"),
    (("run", "{suite}", "--stale", "x"), "--stale"),
    (("plan", "~no-such-user/suite.toml"), "no such suite file"),
    (("board", "--results", "~no-such-user/results"), "nothing has been collected"),
    (("run", "{suite}", "--set", "evaluation.fgsm=[inf]"), "evaluation.fgsm"),
    (("evaluate", "{suite}", "--fgsm", "inf"), "finite"),
]


@pytest.mark.parametrize(
    ("arguments", "words"), BAD, ids=lambda value: " ".join(value) if isinstance(value, tuple) else None
)
def test_bad_input_is_one_line_and_exit_status_two(
    write_suite: Write, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    filled = [argument.replace("{suite}", str(write_suite())) for argument in arguments]
    done = call(*filled, cwd=tmp_path)
    assert done.returncode == 2, done
    assert words in done.stderr and len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Any, str, str]]:
    """Runs a command in this process: exit status, standard output, standard error."""

    def run(*arguments: object) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["harness", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


def test_a_place_that_cannot_be_written_is_one_line(
    write_suite: Write, tmp_path: Path, inside: Callable[..., tuple[Any, str, str]]
) -> None:
    harness.run(write_suite(epochs=1), tmp_path / "r")
    file, folder = tmp_path / "file", tmp_path / "folder.png"
    file.write_text("kept")
    (folder / "inner").mkdir(parents=True)
    from_results = [
        *(("export", "-f", form, "-o", at) for form in ("csv", "latex", "parquet", "records") for at in (file / "x", folder)),
        *(("plot", "curves", "--out", at) for at in (file / "x.png", folder)),
        *(("publish", at) for at in (file, file / "site", folder)),
    ]  # fmt: skip
    new = [("plugin", "new", name, "--into", file) for name in ("mine", "mine.py")]
    for command in [*((*words, "--results", tmp_path / "r") for words in from_results), *new]:
        status, _, said = inside(*command)
        assert status == 2 and said.startswith("harness: ") and len(said.splitlines()) == 1, (command, said)
    assert file.read_text() == "kept" and [path.name for path in folder.iterdir()] == ["inner"]
    assert not list(tmp_path.glob(".*"))


def test_what_is_merged_is_known_by_what_it_is_and_not_by_its_name(
    write_suite: Write, tmp_path: Path, inside: Callable[..., tuple[Any, str, str]]
) -> None:
    records, table, results = tmp_path / "records", tmp_path / "table.parquet", tmp_path / "r.parquet"
    harness.run(write_suite(epochs=1), results)
    assert inside("export", "-f", "records", "-o", records, "--results", results)[0] == 0
    assert inside("export", "-f", "parquet", "-o", table, "--results", results)[0] == 0
    for number, source in enumerate((records, results)):
        status, said, _ = inside("merge", source, "--results", tmp_path / str(number))
        assert status == 0 and "1 trial taken" in said
    os.mkfifo(tmp_path / "fifo")
    for source, words in (
        (table, "no packed records"),
        (write_suite(), "no packed records"),
        (table / "x", "no such"),
        (tmp_path / "fifo", "neither a results folder nor"),
    ):
        status, _, said = inside("merge", source, "--results", tmp_path / "2")
        assert status == 2 and words in said and len(said.splitlines()) == 1
        assert not (tmp_path / "2").exists(), "nothing came, so nothing was made"
    before = sorted((tmp_path / "0").rglob("*"))
    assert inside("merge", table, "--results", tmp_path / "0")[0] == 2
    assert sorted((tmp_path / "0").rglob("*")) == before


def test_a_data_set_that_is_not_on_disk_names_the_command(
    write_suite: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "nothing"))
    path = write_suite()
    path.write_text(path.read_text().replace('"digits"', '"mnist"'))
    done = call("run", path, "--results", tmp_path / "r")
    assert done.returncode == 2 and "harness data fetch mnist" in done.stderr and len(done.stderr.splitlines()) == 1


def test_cuda_asked_for_and_absent(write_suite: Write, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    done = call("run", write_suite(), "--results", tmp_path / "r", "--device", "cuda")
    assert done.returncode == 2 and "execution.device" in done.stderr


def test_the_schema_knows_every_component() -> None:
    schema = json.loads(call("schema").stdout)
    names = [option.get("properties", {}).get("name", {}).get("const") for option in schema["$defs"]["loss"]["anyOf"]]
    assert {"ce", "gce", "sce", "mae"} <= set(names)
    assert "validation" in schema["properties"]["training"]["properties"]


def test_a_named_trial_runs_again_whatever_it_came_to(write_suite: Write, tmp_path: Path) -> None:
    plugin = tmp_path / "sometimes.py"
    plugin.write_text(
        "from pathlib import Path\nfrom harness import hookimpl\n"
        "class Sometimes:\n    'Raises until a file is there.'\n"
        "    def setup(self, run):\n        if not (Path(__file__).parent / 'ok').exists():\n            raise ValueError('not yet')\n"
        "@hookimpl\ndef harness_register_algorithms(register):\n    register('sometimes', Sometimes)\n"
    )
    path = write_suite(methods='[[method]]\nname = "CE"\n[[method]]\nname = "S"\nalgorithms = ["sometimes"]', epochs=1)
    results = tmp_path / "r"
    common = ("run", path, "--results", results, "--plugin", plugin, "--executor", "inline")
    assert call(*common).returncode == 1
    plan = json.loads(call("plan", path, "--results", results, "--plugin", plugin, "--json").stdout)
    ids = {trial["method"]: trial["id"] for trial in plan["trials"]}
    (tmp_path / "ok").touch()
    previewed = json.loads(call(*common, "--rerun", ids["S"], "--dry-run", "--json").stdout)
    assert json.dumps(previewed).count(ids["S"]) >= 1
    again = call(*common, "--rerun", ids["CE"][:8], "--rerun", ids["S"])
    assert again.returncode == 0, again.stderr
    for trial in ids.values():
        assert len(list((results / "trials" / trial).glob("attempt-*"))) == 2
    before, after = ((results / "trials" / ids["CE"] / f"attempt-00{n}" / "result.json").read_text() for n in (1, 2))
    assert json.loads(before)["metrics"] == json.loads(after)["metrics"]
    assert call(*common).returncode == 0 and len(list((results / "trials" / ids["CE"]).glob("attempt-*"))) == 2
    unknown = call(*common, "--rerun", "nosuch")
    assert unknown.returncode == 2 and "no trial's id begins with 'nosuch'" in unknown.stderr


def test_export_and_plot_take_a_suite_by_position_as_board_does(write_suite: Write, tmp_path: Path) -> None:
    path, results = write_suite(epochs=1), tmp_path / "r"
    call("run", path, "--results", results, "--executor", "inline")
    name = json.loads(call("board", "--results", results, "--json").stdout)["suite"]
    for given in (path, name):
        assert call("export", given, "--results", results).stdout == call("export", "--results", results).stdout
        for words in ((given,), (given, "curves"), ("curves",)):
            picture = tmp_path / "p.png"
            drawn = call("plot", *words, "--results", results, "-o", picture)
            assert drawn.returncode == 0 and picture.stat().st_size > 1000, drawn.stderr
            picture.unlink()
    told = call("plot", "curvse", "--results", results)
    assert told.returncode == 2 and "curves" in told.stderr
    assert call("plot", "a", "b", "c", "--results", results).returncode == 2
    assert call("export", name, "--suite", "other", "--results", results).returncode == 2


def test_an_error_is_an_object_for_those_who_ask_for_json(tmp_path: Path) -> None:
    told = call("plan", tmp_path / "absent.toml", "--json")
    assert told.returncode == 2 and told.stdout == ""
    assert json.loads(told.stderr)["error"]["what"] in call("plan", tmp_path / "absent.toml").stderr


@pytest.mark.parametrize(
    ("words", "offered"), [("harness sta", "status"), ("harness run --sc", "--scale"), ("harness plugin ch", "check")]
)
def test_a_shell_completes_commands_and_their_options(words: str, offered: str) -> None:
    environment = {
        **os.environ,
        "_HARNESS_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['harness']; from harness.cli.main import main; main()"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert offered in done.stdout.split(), done.stderr
