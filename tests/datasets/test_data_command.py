"""`harness data` lists, fetches and verifies data sets, whoever registered them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.data import app
from harness.errors import HarnessError

PLUGIN = '''
import hashlib
import torch
from harness import DataSplits, Declares, LabelledData, hookimpl

def tiny():
    """Three zeros."""
    data = LabelledData(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), 1)
    return DataSplits(data, data)

def fetch(folder):
    (folder / "tiny.bin").write_bytes(b"tiny")

tiny.declares = Declares(files=("tiny.bin",))
tiny.fetch = fetch
tiny.md5 = {"tiny.bin": hashlib.md5(b"tiny").hexdigest()}

def stubborn():
    """Cannot be fetched."""

stubborn.declares = Declares(files=("stubborn.bin",))

@hookimpl
def harness_register_datasets(register):
    register("tiny", tiny)
    register("stubborn", stubborn)
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty HARNESS_DATA, with a plugin file beside it."""
    (tmp_path / "plug.py").write_text(PLUGIN)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def states(*arguments: str) -> dict[str, str]:
    listed = json.loads(call("list", "--json", *arguments))
    return {line["name"]: line["state"] for line in listed["datasets"]}


def test_the_list_tells_what_is_built_in_what_is_there_and_what_is_missing(folder: Path) -> None:
    found = states()
    assert found["digits"] == found["linear_regression"] == "built in"
    assert found["mnist"] == found["cifar10n"] == "missing"
    assert found["image_folder"] == "needs root"
    (folder).mkdir()
    (folder / "cal_housing_py3.pkz").write_bytes(b"")
    assert states()["california_housing"] == "present"
    assert "mnist5k" in call("list")


def test_a_plugin_s_data_set_is_fetched_and_verified_through_its_factory(folder: Path) -> None:
    plugin = ("--plugin", str(folder.parent / "plug.py"))
    assert states(*plugin)["tiny"] == "missing"
    with pytest.raises(HarnessError, match=r"tiny\.bin is not under HARNESS_DATA"):
        call("verify", "tiny", *plugin)
    assert "tiny is in" in call("fetch", "tiny", *plugin)
    assert states(*plugin)["tiny"] == "present"
    checked = json.loads(call("verify", "tiny", "--json", *plugin))
    assert checked["files_checked"] == 1
    assert checked["train"]["samples"] == 3
    (folder / "tiny.bin").write_bytes(b"torn")
    with pytest.raises(HarnessError, match="has md5"):
        call("verify", "tiny", *plugin)


def test_what_cannot_be_fetched_is_told_in_one_line(folder: Path) -> None:
    with pytest.raises(HarnessError, match="cannot be downloaded automatically; copy"):
        call("fetch", "stubborn", "--plugin", str(folder.parent / "plug.py"))
    with pytest.raises(HarnessError, match="did you mean 'digits'"):
        call("fetch", "digts")
    assert "needs no download" in call("fetch", "digits")


def test_without_a_network_fetching_ends_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.request

    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    for name in ("cifar10", "cifar10n"):
        with pytest.raises(HarnessError, match="cannot be downloaded") as caught:
            call("fetch", name)
        assert "\n" not in str(caught.value)


def test_a_data_set_with_parameters_is_verified_with_them() -> None:
    text = call("verify", "linear_regression", "--set", "train=7", "--set", "outputs=2")
    assert "train: samples 7, inputs 36 float32, task regression" in text
    with pytest.raises(HarnessError, match="write key=value"):
        call("verify", "linear_regression", "--set", "train")


COLD = """
import sys
from harness.cli.data import app
app(["list"], standalone_mode=False)
sys.exit("torch" in sys.modules)
"""


def test_listing_on_a_warm_cache_imports_no_torch() -> None:
    call("list")
    done = subprocess.run([sys.executable, "-c", COLD], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
