"""What a trial replays of another run: order of batches, split, noisy labels and initial weights, read from files.

| file | array | shape |
|---|---|---|
| ``order`` | one array, or ``order`` | (epochs or more, N) positions in the training part, a permutation for each epoch |
| ``split`` | ``train`` and ``validation`` (may be absent) | positions in the data set's training data, each at most once |
| ``labels`` | one array, or ``labels`` | noisy targets of all of the data set's training data, in its order |
| ``init`` | the model's ``state_dict()`` | as the transformed model has them; a further network's keys follow ``NAME/``, |
|  | | per-sample states are ``samples/NAME``, (N, width) |
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import DataError
from harness.suite.replay import sha256_of
from harness.trial import Trial

SAMPLES = "samples/"
REMEDY = "see the page of the training loop for what a replayed file holds"


class Replay:
    """The replayed files of a trial; each method gives ``None`` where nothing is replayed."""

    def __init__(self, trial: Trial) -> None:
        self._digests: Mapping[str, str] = trial.identity.get("replay", {})
        self._paths: Mapping[str, str] = trial.options.get("replay", {})

    def split(self, samples: int) -> tuple[Tensor, Tensor] | None:
        """Positions of training and validation samples among ``samples``, in the file's order."""
        arrays = self._arrays("split")
        if arrays is None:
            return None
        if "train" not in arrays:
            raise self._fault("split", "holds no array 'train'")
        parts = [_positions(arrays.get(name, torch.empty(0, dtype=torch.int64))) for name in ("train", "validation")]
        if any(part is None for part in parts):
            raise self._fault("split", "should hold integer arrays of one dimension")
        train, validation = (part for part in parts if part is not None)
        together = torch.cat([train, validation])
        if len(together) and not (int(together.min()) >= 0 and int(together.max()) < samples):
            raise self._fault("split", f"has positions outside [0, {samples})")
        if len(together.unique()) != len(together):
            raise self._fault("split", "names a sample twice")
        return train, validation

    def labels(self, clean: Tensor, num_classes: int | None) -> Tensor | None:
        """Noisy targets of all training data, of the shape and type of the ``clean`` ones."""
        found = self._one("labels")
        if found is None:
            return None
        if found.shape != clean.shape:
            raise self._fault("labels", f"has shape {tuple(found.shape)}, the targets have {tuple(clean.shape)}")
        if num_classes is not None:
            if found.is_floating_point():
                raise self._fault("labels", "should hold integer classes")
            if len(found) and not (int(found.min()) >= 0 and int(found.max()) < num_classes):
                raise self._fault("labels", f"has classes outside [0, {num_classes})")
        return found.to(clean.dtype)

    def order(self, epochs: int, samples: int) -> Tensor | None:
        """(epochs, samples) positions of the training samples."""
        found = self._one("order")
        if found is None:
            return None
        if found.is_floating_point() or found.ndim != 2 or found.shape[1] != samples or len(found) < epochs:
            raise self._fault(
                "order", f"is {found.dtype} of shape {tuple(found.shape)}, not integer ({epochs} or more, {samples})"
            )
        found = found[:epochs].long()
        wrong = (found.sort(1).values != torch.arange(samples)).any(1)
        if bool(wrong.any()):
            raise self._fault("order", f"row {int(wrong.nonzero()[0])} is no permutation of 0 to {samples - 1}")
        return found

    def initialise(self, model: nn.Module, network: str = "") -> None:
        """Load the initial weights of a network into its model."""
        arrays = self._arrays("init")
        if arrays is None:
            return
        prefix = f"{network}/" if network else ""
        given = {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}
        if not network:
            given = {key: array for key, array in given.items() if "/" not in key}
        whose = f"network {network!r}" if network else "model"
        own = model.state_dict()
        for key in own.keys() ^ given.keys():
            missing = key in own
            raise self._fault(
                "init", f"lacks {key!r} of the {whose}" if missing else f"holds {key!r}, unknown to the {whose}"
            )
        for key, array in given.items():
            if array.shape != own[key].shape:
                raise self._fault(
                    "init", f"{key!r} has shape {tuple(array.shape)}, the {whose}'s {tuple(own[key].shape)}"
                )
        model.load_state_dict(given)

    def sample_states(self) -> dict[str, Tensor]:
        """Initial per-sample states by name."""
        arrays = self._arrays("init") or {}
        return {key.removeprefix(SAMPLES): a for key, a in arrays.items() if key.startswith(SAMPLES)}

    def check(self, networks: Iterable[str], states: Mapping[str, Tensor]) -> None:
        """Refuse initial values that no part of the stack has taken, or of another shape than its own."""
        given = self.sample_states()
        for key in self._arrays("init") or ():
            owner, slash, _ = key.rpartition("/")
            if slash and owner not in networks and key.removeprefix(SAMPLES) not in states:
                raise self._fault("init", f"holds {key!r}, which no part of the method has")
        for name, array in given.items():
            if array.shape != states[name].shape:
                raise self._fault("init", f"{name!r} has shape {tuple(array.shape)}, not {tuple(states[name].shape)}")

    def _one(self, what: str) -> Tensor | None:
        arrays = self._arrays(what)
        if arrays is None:
            return None
        if what in arrays:
            return arrays[what]
        if len(arrays) != 1:
            raise self._fault(what, f"holds {len(arrays)} arrays and none called {what!r}")
        return next(iter(arrays.values()))

    def _arrays(self, what: str) -> dict[str, Tensor] | None:
        if what not in self._digests:
            return None
        path = Path(self._paths[what])
        try:
            changed = sha256_of(path) != self._digests[what]
        except OSError as error:
            raise self._fault(what, f"cannot be read ({error.strerror})") from None
        if changed:
            raise DataError(f"{path} has changed since the plan was made", f"replay.{what}", "run the suite again")
        try:
            return read_arrays(path)
        except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
            first = (str(error) or type(error).__name__).splitlines()[0]
            raise self._fault(what, f"cannot be read: {first}") from None

    def _fault(self, what: str, words: str) -> DataError:
        return DataError(f"{self._paths[what]} {words}", f"replay.{what}", REMEDY)


def _positions(array: Tensor) -> Tensor | None:
    return array.long() if array.ndim == 1 and not array.is_floating_point() else None


def read_arrays(path: Path) -> dict[str, Tensor]:
    """The arrays of a file by name; a single one without a name has the name ``""``. Nothing is unpickled but tensors.

    Raises:
        OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile: for what is no such file.
    """
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise ValueError(str(error)) from None
    if path.suffix in (".npy", ".npz"):
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {"": torch.from_numpy(found)}
        with found:
            return {key: torch.from_numpy(found[key]) for key in found.files}
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(loaded, Tensor):
        return {"": loaded}
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ValueError("it holds neither a tensor nor a dictionary of tensors")
    return {str(key): value for key, value in loaded.items()}
