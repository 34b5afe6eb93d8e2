"""Upstream's pickled data sets come in; a pickle that does anything else does nothing."""

from __future__ import annotations

import ast
import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kronos_trainer
from kronos_trainer.data.commands.importing import import_bars
from kronos_trainer.data.commands.legacy import load_pickle
from kronos_trainer.data.reading.readers import read_frame
from kronos_trainer.errors import DataError, InputMissing

# Written by pandas 2.2.2 with numpy 1.26, protocol 4, as upstream finetune/qlib_data_preprocess.py does.
OLD = Path(__file__).parent / "fixtures" / "upstream_train_data.pkl"


def frame(rows: int, first: float, start: str = "2020-01-02") -> pd.DataFrame:
    price = first + np.arange(rows) / 4
    columns = {"open": price, "high": price + 1, "low": price - 1, "close": price + 0.5}
    columns |= {"vol": np.arange(rows) * 100.0, "amt": price * 100}
    return pd.DataFrame(columns, index=pd.date_range(start, periods=rows, freq="B", name="datetime"))


def dump(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def test_a_pickle_of_an_older_pandas_is_read(tmp_path: Path) -> None:
    found = load_pickle(OLD)
    assert list(found) == ["SH600000", "SZ000001"]
    for (_, table), first in zip(found.items(), (10.0, 11.0), strict=True):
        pd.testing.assert_frame_equal(
            table, frame(6, first), check_freq=False, check_index_type=False, check_column_type=False
        )


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_overlapping_sets_become_one_file_per_symbol(tmp_path: Path, protocol: int, kind: str) -> None:
    train = dump(tmp_path / "train_data.pkl", {"SH1": frame(10, 10.0), "SH2": frame(4, 5.0)}, protocol)
    later = frame(15, 10.0).iloc[7:]
    validation = dump(tmp_path / "val_data.pkl", {"SH1": later}, protocol)
    done = import_bars([validation, train], tmp_path / "out", kind)  # type: ignore[arg-type]
    assert done.rows == {"SH1": 15, "SH2": 4}
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [f"SH1.{kind}", f"SH2.{kind}"]
    bars, notes = read_frame(tmp_path / "out" / f"SH1.{kind}")
    assert notes == []
    expected = frame(15, 10.0)
    assert bars["timestamps"].tolist() == expected.index.tolist()
    np.testing.assert_array_equal(bars.drop(columns="timestamps").to_numpy(), expected.to_numpy())


def test_a_malicious_pickle_is_refused_by_name_and_runs_nothing(tmp_path: Path) -> None:
    class Attack:
        def __init__(self, call: object, *arguments: object) -> None:
            self.call, self.arguments = call, arguments

        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return self.call, self.arguments

    mark = tmp_path / "mark"
    for attack, name in (
        (Attack(os.system, f"touch {mark}"), "posix.system"),
        (Attack(eval, f"open({str(mark)!r}, 'w')"), "builtins.eval"),
        (Attack(open, str(mark), "w"), "io.open"),
        (Attack(getattr, "x", "upper"), "builtins.getattr"),
        (Attack(pd.read_pickle, str(OLD)), "pandas.read_pickle"),
        (Attack(np.load, str(OLD)), "numpy.load"),
    ):
        for content in ({"A": attack}, {"A": frame(3, 1.0), "B": attack}, attack):
            path = dump(tmp_path / "evil.pkl", content)
            with pytest.raises(DataError, match=f"it would call {name}, which a table of bars does not need"):
                load_pickle(path)
    # an allowed module opens no way to what it imports
    path.write_bytes(b"\x80\x04\x8c\x06pandas\x8c\x09io.common\x93.")
    with pytest.raises(DataError, match=r"pandas\.io\.common"):
        load_pickle(path)
    assert not mark.exists()


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    bars = frame(3, 10.0)
    for content, message in (
        ([1, 2], "holds list, not a dict of symbol to DataFrame"),
        ({"A": 3}, "'A' is int, not a DataFrame of bars"),
        ({"A": bars.reset_index()}, "symbol A: the index is not a DatetimeIndex"),
        ({"../A": bars}, r"symbol '\.\./A' cannot be a file name"),
    ):
        with pytest.raises(DataError, match=message):
            import_bars([dump(tmp_path / "x.pkl", content)], tmp_path / "out", "csv")
    with pytest.raises(DataError, match="no column for close"):
        import_bars([dump(tmp_path / "x.pkl", {"A": bars.drop(columns="close")})], tmp_path / "out", "csv")
    with pytest.raises(
        DataError, match=r"y\.pkl: row 1, .* 2020-01-02 00:00:00 of symbol A was already given in .*x\.pkl"
    ):
        import_bars(
            [dump(tmp_path / "x.pkl", {"A": bars}), dump(tmp_path / "y.pkl", {"A": bars + 1})], tmp_path / "out", "csv"
        )
    with pytest.raises(InputMissing):
        load_pickle(tmp_path / "absent.pkl")
    (tmp_path / "x.pkl").write_bytes(b"not a pickle")
    with pytest.raises(DataError, match="not a data set of upstream's finetune scripts"):
        load_pickle(tmp_path / "x.pkl")
    assert not (tmp_path / "out").exists()


def test_a_training_unpickles_no_file() -> None:
    """Bars, weights and checkpoints are data: only this import, a user's own command, reads pickles."""
    package = Path(kronos_trainer.__file__).parent
    readers = {"pickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}
    calls = {"torch.load", "torch.jit.load", "torch.package", "torch.hub", "np.load", "numpy.load", "pd.read_pickle"}
    found = {}
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text())
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        arrays = {  # numpy's own files, read without the pickles that they may hold
            node.func
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and "allow_pickle=False" in map(ast.unparse, node.keywords)
        }
        used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node not in arrays}
        run = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & {"eval", "exec", "__import__"}
        module = str(path.relative_to(package))
        found[module] = {name.split(".")[0] for name in imported} & readers | used & calls | run
        found[module] |= {
            name for name in ("legacy", "importing") if f"kronos_trainer.data.commands.{name}" in imported
        }
    assert {name: what for name, what in found.items() if what} == {
        "data/commands/legacy.py": {"pickle"},
        "data/commands/importing.py": {"legacy"},
        "data/__main__.py": {"importing"},
    }
