"""What people write of their own data: which sample is of which class, in a label file or by folders. It imports no torch,
so that a plan can take the digest of their content."""

from __future__ import annotations

import csv as csv_format
import dataclasses
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.content import content_of
from harness.errors import DataError, writing
from harness.paths import data_folder

PARTS = ("train", "test")
IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
UNKNOWN = -1


@dataclasses.dataclass(frozen=True)
class Samples:
    """What is said of the samples of a data set, row by row.

    Attributes:
        labels: given class of each, as a word.
        clean: true class of each, empty where nobody knows it; ``None`` where nothing says so.
        tests: whether each is for testing; ``None`` where nothing says so.
        names: their files; empty for rows of a table.
        first: number of the first row, as messages and users count.
        unit: how messages call a row.
    """

    labels: Sequence[str]
    clean: Sequence[str] | None = None
    tests: Sequence[bool] | None = None
    names: Sequence[str] = ()
    first: int = 1
    unit: str = "row"

    def row(self, position: int) -> str:
        """How a message names one."""
        named = f" ({self.names[position]})" if self.names else ""
        return f"{self.unit} {self.first + position}{named}" if self.unit else self.names[position]


@dataclasses.dataclass(frozen=True)
class Classes:
    """Labels as numbers: ``names`` of the K classes, ``given`` and ``clean`` ones of N samples; -1 where nobody knows it."""

    names: tuple[str, ...]
    given: list[int]
    clean: list[int] | None


def classes_of(samples: Samples, where: str) -> Classes:
    """The classes of some samples, which are the sorted words of their labels.

    Raises:
        DataError: naming the row, for a sample without a label, a class of one sample where none is for testing by name, a
            clean label that is no class; and for a division that leaves a part empty.
    """
    if not samples.labels:
        raise DataError("has no rows", where, "write a row for each sample")
    for position, label in enumerate(samples.labels):
        if not label:
            raise DataError(f"{samples.row(position)} lacks a label", where, "complete or remove it")
    if samples.tests is not None and (all(samples.tests) or not any(samples.tests)):
        raise DataError("the division leaves train or test empty", where, "remove the column 'split'")
    counts = Counter(samples.labels)
    if len(counts) < 2:
        raise DataError(f"all samples are of the class {next(iter(counts))!r}", where, "give two classes or more")
    for label, count in counts.items():
        if count == 1 and samples.tests is None:
            place = samples.row(list(samples.labels).index(label))
            raise DataError(f"class {label!r} has one sample: {place}", where, "remove it, or give more of the class")
    names = tuple(sorted_names(counts))
    number = {name: k for k, name in enumerate(names)}
    clean = None
    if samples.clean is not None:
        clean = []
        for position, word in enumerate(samples.clean):
            if word and word not in number:
                known = ", ".join(names[:10])
                what = f"{samples.row(position)}: clean {word!r} is none of the classes ({known})"
                raise DataError(what[:300], where, "write it as in the labels, or leave it empty")
            clean.append(number[word] if word else UNKNOWN)
    return Classes(names, [number[label] for label in samples.labels], clean)


def sorted_names(names: Iterable[str]) -> list[str]:
    """Class names in order: as numbers where all are."""
    names = list(names)
    numeric = all(name.removeprefix("-").isdecimal() for name in names)
    return sorted(names, key=int) if numeric else sorted(names)


def test_of(word: str, row: str, where: str) -> bool:
    """Whether a word of the column ``split`` says ``test``.

    Raises:
        DataError: for a word that is neither ``train`` nor ``test``.
    """
    if word not in PARTS:
        raise DataError(f"{row}: split {word!r} is neither 'train' nor 'test'", where, "mend the line")
    return word == "test"


def read_label_file(path: Path, where: str) -> Samples:
    """A CSV file with the columns ``file`` and ``label``, and perhaps ``split`` and ``clean``.

    Raises:
        DataError: for a file that is no such CSV, naming the line, and for a file that is named twice.
    """
    columns: dict[str, list[str]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv_format.reader(file)
            header = next(reader, [])
            for column in ("file", "label"):
                if column not in header:
                    raise DataError(f"has no column {column!r}", where, "write the columns file,label[,split][,clean]")
            columns = {column: [] for column in ("file", "label", "split", "clean") if column in header}
            places = {column: header.index(column) for column in columns}
            for number, row in _lines(reader):
                for column, place in places.items():
                    columns[column].append(row[place].strip() if place < len(row) else "")
                if not (columns["file"][-1] and columns["label"][-1]):
                    raise DataError(f"line {number} lacks a file or a label", where, "complete or remove it")
                if "split" in columns:
                    test_of(columns["split"][-1], f"line {number}", where)
    except (UnicodeDecodeError, csv_format.Error) as error:
        raise DataError(f"is no CSV file: {error}", where, "save it as UTF-8 text") from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where, "check its path") from None
    if not columns["file"]:
        raise DataError("has no rows", where, "write a row for each image")
    seen: dict[str, int] = {}
    for position, name in enumerate(columns["file"]):
        if (earlier := seen.setdefault(name, position)) != position:
            what = f"lines {earlier + 2} and {position + 2} both name {name}"
            raise DataError(what, where, "remove one of them")
    tests = [word == "test" for word in columns["split"]] if "split" in columns else None
    return Samples(columns["label"], columns.get("clean"), tests, columns["file"], 2, "line")


def _lines(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Rows with something in them, numbered from the second line."""
    number = 1
    for row in reader:
        if row:
            number += 1
            yield number, row


def in_folders(root: Path, endings: frozenset[str]) -> Samples:
    """Files in a folder for each class: ``train/CLASS/...`` and ``test/CLASS/...``, or ``CLASS/...``; none where there are
    no such folders."""
    divided = all((root / part).is_dir() for part in PARTS)
    names, labels, tests = [], [], []
    for part in PARTS if divided else ("",):
        base = root / part
        for label in sorted(
            entry.name for entry in base.iterdir() if entry.is_dir() and not entry.name.startswith(".")
        ):
            for folder, folders, files in os.walk(base / label):
                folders.sort()
                for file in sorted(files):
                    if Path(file).suffix.lower() in endings and not file.startswith("."):
                        names.append((Path(folder) / file).relative_to(root).as_posix())
                        labels.append(label)
                        tests.append(part == "test")
    return Samples(labels, None, tests if divided else None, names, unit="")


def labelled_images(folder: Path, csv: str | None, where: str) -> Samples:
    """The images of a folder by its label file, or else by a folder for each class.

    Args:
        folder: of the images.
        csv: the label file, relative to it; ``None``: ``labels.csv`` where it is there.
        where: how errors name the data set.

    Raises:
        DataError: where neither is there.
    """
    labels = folder / (csv or "labels.csv")
    if labels.is_file():
        return read_label_file(labels, f"{where}: {labels}")
    samples = in_folders(folder, IMAGES) if csv is None else Samples(())
    if not samples.names:
        raise DataError(
            "there is no such label file" + (", and no folder for each class" if csv is None else ""),
            f"{where}: {labels}",
            "write one with the columns file,label[,split][,clean]",
        )
    return samples


def found_folder(root: str, where: str) -> Path:
    """A folder of the user's: absolute, or relative to the data folder, or else to the working directory.

    Raises:
        DataError: when there is none.
    """
    return _found(root, Path.is_dir, "folder", f"{where}.root")


def found_file(file: str, where: str) -> Path:
    """A file of the user's, looked for likewise.

    Raises:
        DataError: when there is none.
    """
    return _found(file, Path.is_file, "file", f"{where}.file")


def _found(name: str, is_there: Callable[[Path], bool], what: str, where: str) -> Path:
    path = Path(name).expanduser()
    for candidate in (path,) if path.is_absolute() else (data_folder() / path, path):
        if is_there(candidate):
            return candidate
    remedy = "give an absolute path, or one under HARNESS_DATA"
    raise DataError(f"{name!r} cannot be read: there is no {what} {name!r}", where, remedy)


# --- the digests of what they consist of -----------------------------------------------------------------------------


def of_images(values: Mapping[str, Any], *, exact: bool = False) -> str:
    """Of ``image_folder``: its label file, if it has one, and all images that it names."""
    where = "datasets.image_folder"
    folder = found_folder(values["root"], where)
    samples = labelled_images(folder, values["csv"], where)
    own = values["csv"] or "labels.csv"
    extra = [own] if (folder / own).is_file() else []
    try:
        return content_of(folder, [*samples.names, *extra], exact=exact)
    except OSError as error:
        place = list(samples.names).index(error.filename) if error.filename in samples.names else -1
        row = f"{samples.row(place)}: " if samples.unit and place >= 0 else ""
        why = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise DataError(f"{row}{error.filename} {why}", f"{where}: {folder}", "mend the row, or remove it") from None


def of_shards(values: Mapping[str, Any], *, exact: bool = False) -> str:
    """Of ``image_shards``: its tar files."""
    folder = found_folder(values["root"], "datasets.image_shards")
    return _of(folder, sorted(path.name for path in folder.glob("*.tar")), "datasets.image_shards", exact)


def of_file(values: Mapping[str, Any], *, exact: bool = False) -> str:
    """Of a data set in one ``file``."""
    path = found_file(values["file"], "datasets")
    return _of(path.parent, [path.name], "datasets", exact)


def of_texts(values: Mapping[str, Any], *, exact: bool = False) -> str:
    """Of ``text_folder``: its text files."""
    where = "datasets.text_folder"
    folder = found_folder(values["root"], where)
    return _of(folder, in_folders(folder, frozenset({".txt"})).names, where, exact)


def _of(folder: Path, names: Iterable[str], where: str, exact: bool) -> str:
    try:
        return content_of(folder, names, exact=exact)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}", f"{where}: {folder}") from None


def hugging_face_files(folder: Path, where: str) -> dict[str, list[Path]]:
    """The files of the splits ``train`` and, where there is one, ``test``, in order.

    Raises:
        DataError: for a folder that holds none.
    """
    found: dict[str, list[Path]] = {}
    for part in PARTS:
        files = sorted((folder / part).glob("*.arrow")) or sorted(
            path for path in folder.rglob("*.parquet") if path.name.startswith(part) or path.parent.name == part
        )
        if files:
            found[part] = files
    if "train" not in found:
        files = sorted(folder.glob("*.arrow")) or sorted(folder.glob("*.parquet"))
        if not files or found:
            remedy = "save_to_disk(DIR), or hf download --repo-type dataset OWNER/NAME --local-dir DIR"
            raise DataError("holds no *.arrow and no train*.parquet", where, remedy)
        found = {"train": files}
    return found


def of_hugging_face(values: Mapping[str, Any], *, exact: bool = False) -> str:
    """Of ``hugging_face``: its Arrow or Parquet files and what names its classes."""
    where = "datasets.hugging_face"
    folder = found_folder(values["root"], where)
    files = [path for paths in hugging_face_files(folder, where).values() for path in paths]
    files += folder.rglob("dataset_info.json")
    return _of(folder, [path.relative_to(folder).as_posix() for path in files], where, exact)


# --- data with corrected labels ---------------------------------------------------------------------------------------

Corrections = Mapping[str, tuple[str, str]]
"""Given and right label by sample: its file, or the number of its row, from 1."""


def correct_images(values: Mapping[str, Any], labels: Corrections, folder: Path) -> str:
    """Of ``image_folder``: the images, as links to the same files where the disk allows it, beside a label file.

    Raises:
        DataError: for a correction of an image that is not there, or that has another label.
    """
    where = "datasets.image_folder"
    root = found_folder(values["root"], where)
    samples = labelled_images(root, values["csv"], where)
    right = _right(samples.names, samples.labels, labels, where)
    columns: dict[str, Sequence[str]] = {"file": samples.names, "label": right}
    if samples.tests is not None:
        columns["split"] = ["test" if test else "train" for test in samples.tests]
    if samples.clean is not None:
        columns["clean"] = samples.clean
    with writing(folder):
        for name in samples.names:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.hardlink_to(root / name)
            except OSError:
                shutil.copyfile(root / name, target)
        with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv_format.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
    return f"{folder / 'labels.csv'} and {len(samples.names)} images"


def correct_file(values: Mapping[str, Any], labels: Corrections, folder: Path) -> str:
    """Of a data set in one ``file``: a file of the same name with another column of labels.

    Raises:
        DataError: for a correction of a row that is not there, or that has another label.
    """
    where = "datasets"
    path, column = found_file(values["file"], where), values["label"]
    target = folder / path.name
    with writing(target):
        folder.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npz":
            import numpy as np

            with np.load(path, allow_pickle=False) as kept:
                arrays = {name: kept[name] for name in kept.files}
            given = [str(value) for value in arrays["y"].tolist()]
            arrays["y"] = np.array(_right(_rows(given), given, labels, where))
            np.savez(target, **arrays)
        elif path.suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet

            table = pa.parquet.read_table(path)
            given = [str(value) for value in table.column(column).to_pylist()]
            right = pa.array(_right(_rows(given), given, labels, where))
            place = table.column_names.index(column)
            pa.parquet.write_table(table.set_column(place, column, right), target)
        else:
            with path.open(newline="", encoding="utf-8-sig") as file:
                header, *rows = [row for row in csv_format.reader(file) if row]
            place = header.index(column)
            given = [row[place] for row in rows]
            for row, label in zip(rows, _right(_rows(given), given, labels, where), strict=True):
                row[place] = label
            with target.open("w", newline="", encoding="utf-8") as file:
                writer = csv_format.writer(file, lineterminator="\n")
                writer.writerow(header)
                writer.writerows(rows)
    return str(target)


def _rows(labels: Sequence[str]) -> list[str]:
    return [str(row) for row in range(1, len(labels) + 1)]


def _right(ids: Sequence[str], given: Sequence[str], labels: Corrections, where: str) -> list[str]:
    """The labels with corrections.

    Raises:
        DataError: for corrections of other data.
    """
    known = dict(zip(ids, given, strict=True))
    for name, (was, _) in labels.items():
        if name not in known:
            raise DataError(f"there is no sample {name!r}", where, "give the corrections of these data")
        if known[name] != was:
            what = f"{name} has the label {known[name]!r}, and the correction is of {was!r}"
            raise DataError(what, where, "give the corrections of these data")
    return [labels[name][1] if name in labels else label for name, label in zip(ids, given, strict=True)]
