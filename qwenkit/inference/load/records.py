"""Write a load's requests to a file: CSV, JSON or Parquet, by its ending; read JSON again."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

from qwenkit.errors import InvalidValue, QwenkitError
from qwenkit.inference.results import LoadRequest, LoadResult

_COLUMNS = [field.name for field in fields(LoadRequest)]
_BATCH = 2000
ENDINGS = (".csv", ".json", ".parquet")


def check_ending(path: Path) -> None:
    """Refuse a file that cannot be written, before the load.

    Raises:
        InvalidValue: the ending is another, or the folder does not exist.
        QwenkitError: Parquet needs a package that is not installed.
    """
    if path.suffix not in ENDINGS:
        raise InvalidValue("--records", str(path), f"must end in {', '.join(ENDINGS)}")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InvalidValue("--records", str(path), "must be a file in a folder that exists")
    if path.suffix == ".parquet":
        _parquet()


def write_records(result: LoadResult, path: Path) -> None:
    """Write one row a request, with the columns of ``LoadRequest``.

    In CSV the token times are one column of numbers with blanks between. JSON has the clock
    beside the rows, Parquet in its metadata.

    Raises:
        InvalidValue: see ``check_ending``.
        QwenkitError: the file cannot be written.
    """
    check_ending(path)
    try:
        {".csv": _csv, ".json": _json, ".parquet": _write_parquet}[path.suffix](result, path)
    except OSError as error:
        what = f"{path} cannot be written"
        raise QwenkitError(what, str(error), "name another file with --records") from None


def requests_of(records: Mapping[str, Any], path: Path) -> tuple[list[LoadRequest], float]:
    """Return the requests of a JSON file that ``write_records`` wrote, and the clock.

    Raises:
        InvalidValue: it is not as that writes it.
    """
    try:
        requests = [LoadRequest(**row) for row in records["requests"]]
        return sorted(requests, key=lambda one: one.number), float(records["clock"])
    except (KeyError, TypeError, ValueError) as error:
        rule = f"records of `qwenkit load --records FILE.json`: {error}"
        raise InvalidValue("--load-results", str(path), rule) from None


def _rows(result: LoadResult) -> Iterator[dict[str, Any]]:
    """Yield the rows one by one: token times as lists take four times the memory."""
    for one in result.requests:
        yield {name: getattr(one, name) for name in _COLUMNS} | {"token_s": list(one.token_s)}


def _csv(result: LoadResult, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        for row in _rows(result):
            writer.writerow(row | {"token_s": " ".join(map(str, row["token_s"]))})


def _json(result: LoadResult, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{{"clock": {result.clock}, "requests": [')
        for number, row in enumerate(_rows(result)):
            file.write(",\n" * bool(number) + json.dumps(row))
        file.write("]}\n")


def _write_parquet(result: LoadResult, path: Path) -> None:
    parquet, arrow = _parquet()
    number = arrow.float64()
    types = {"int": arrow.int64(), "float": number, "float | None": number}
    types["Sequence[float]"] = arrow.list_(number)
    columns = [
        (each.name, types.get(str(each.type), arrow.string())) for each in fields(LoadRequest)
    ]
    schema = arrow.schema(columns, metadata={"clock": f"{result.clock:g}"})
    with parquet.ParquetWriter(path, schema) as writer:
        rows = _rows(result)
        while some := list(islice(rows, _BATCH)):
            writer.write_table(arrow.Table.from_pylist(some, schema))


def _parquet() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise QwenkitError(
            "Parquet files cannot be written",
            str(error),
            "pip install 'qwenkit[course]', or name a file that ends in .csv or .json",
        ) from None
    return pyarrow.parquet, pyarrow
