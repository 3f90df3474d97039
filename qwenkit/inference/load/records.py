"""Write a load's requests to a file: CSV, JSON or Parquet, by its ending."""

from __future__ import annotations

import csv
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from qwenkit.errors import InvalidValue, QwenkitError
from qwenkit.inference.results import LoadRequest, LoadResult

_COLUMNS = [field.name for field in fields(LoadRequest)]
ENDINGS = (".csv", ".json", ".parquet")


def check_ending(path: Path) -> None:
    """Refuse a file that cannot be written, before the load.

    Raises:
        InvalidValue: the ending is another, or the folder does not exist.
        QwenkitError: Parquet needs a package that is not installed.
    """
    if path.suffix not in ENDINGS:
        raise InvalidValue("--records", str(path), f"must end in {', '.join(ENDINGS)}")
    if not path.absolute().parent.is_dir():
        raise InvalidValue("--records", str(path), "must be in a folder that exists")
    if path.suffix == ".parquet":
        _parquet()


def write_records(result: LoadResult, path: Path) -> None:
    """Write one row a request, with the columns of ``LoadRequest``.

    In CSV the token times are one column of numbers with blanks between. Times are seconds since
    the load began; in Parquet the metadata hold that moment's clock too.

    Raises:
        InvalidValue: see ``check_ending``.
        QwenkitError: the file cannot be written.
    """
    check_ending(path)
    rows = [{name: getattr(one, name) for name in _COLUMNS} for one in result.requests]
    try:
        if path.suffix == ".parquet":
            parquet, arrow = _parquet()
            table = arrow.Table.from_pylist(rows)
            parquet.write_table(table.replace_schema_metadata({"clock": f"{result.clock:g}"}), path)
        elif path.suffix == ".json":
            for row in rows:
                row["token_s"] = list(row["token_s"])
            path.write_text(json.dumps({"clock": result.clock, "requests": rows}), "utf-8")
        else:
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, _COLUMNS)
                writer.writeheader()
                for row in rows:
                    writer.writerow(row | {"token_s": " ".join(map(str, row["token_s"]))})
    except OSError as error:
        what = f"{path} cannot be written"
        raise QwenkitError(what, str(error), "name another file with --records") from None


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
