"""Tables: what is standardised by what, which rows are held out, and CSV files of one's own."""

import gzip
import sys

import numpy as np
import pytest
import torch


@pytest.fixture
def tables(load_model):
    return load_model("tables")


def rank(values):
    """Scaling keeps the order."""
    return values.flatten().argsort().argsort().tolist()


@pytest.mark.parametrize("reader", ["breast_cancer", "diabetes"])
def test_a_table_is_standardised_by_what_is_trained_on(tables, reader):
    splits = getattr(tables, reader)()
    inputs, targets = splits["train"]
    numbers = [inputs] if targets.dtype == torch.int64 else [inputs, targets]
    for values in numbers:
        torch.testing.assert_close(values.mean(0), torch.zeros(values.shape[1]), atol=1e-5, rtol=0)
        deviations = values.std(0, correction=0)
        torch.testing.assert_close(deviations, torch.ones(values.shape[1]), atol=1e-5, rtol=0)
    sizes = {name: len(inputs) for name, (inputs, _) in splits.items()}
    wanted = {"breast_cancer": (364, 91, 114), "diabetes": (283, 71, 88)}[reader]
    assert sizes == dict(zip(("train", "validation", "test"), wanted, strict=True))
    rows = torch.cat([inputs for inputs, _ in splits.values()])
    assert len(rows.unique(dim=0)) == len(rows)  # each once


def test_wine_is_standardised_by_all_its_training_rows(tables):
    splits = tables.wine()
    inputs, targets = splits["train"]
    assert splits.keys() == {"train", "test"} and set(targets.tolist()) == {0, 1, 2}
    assert inputs.mean(0).abs().max() < 1e-5 and (inputs.std(0) - 1).abs().max() < 0.01


def test_without_scikit_learn_the_extra_is_named(tables, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install 'pyro-sws\[digits\]'"):
        tables.diabetes()


@pytest.fixture
def protein_folder(tmp_path):
    """A table of 5,000 rows, each column of which says which row it is, and ten splits of it."""
    folder, n = tmp_path / "uci", 5000
    folder.mkdir()
    rows = np.arange(n)[:, None] * np.arange(1, 11)
    masks = np.zeros((n, 10), int)
    masks[::10, 0] = masks[:, 1] = 1
    for name, table in {"protein": rows, "protein_test_mask": masks}.items():
        text = "\n".join(",".join(map(str, row)) for row in table)
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
    return tmp_path


def test_protein_is_split_as_the_masks_first_column_says(tables, protein_folder):
    splits = tables.protein(data_dir=protein_folder)
    assert [len(splits[name][0]) for name in ("train", "validation", "test")] == [500, 4000, 500]
    ranks = rank(torch.cat([splits[name][0][:, 0] for name in ("test", "validation", "train")]))
    assert sorted(ranks[:500]) == list(range(0, 5000, 10))
    assert ranks[500:] != sorted(ranks[500:])  # what is held out is a sample
    assert all(torch.allclose(inputs[:, :1], targets) for inputs, targets in splits.values())


def test_a_split_that_is_not_published_is_refused(tables, protein_folder):
    with pytest.raises(ValueError, match=r"split=10: give 0 to 9"):
        tables.protein(split=10, data_dir=protein_folder)


def test_protein_is_looked_for_where_it_is_said_to_be(tables, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"no protein\.csv .* in {tmp_path}"):
        tables.protein(data_dir=tmp_path)
    with pytest.raises(ConnectionError, match=r"uci_datasets/protein/data\.csv\.gz"):
        tables.protein()


# CSV files.

ROWS = [[10 * i, i % 3, i] for i in range(20)]
PLAIN = "\n".join(",".join(map(str, row)) for row in ROWS)


def test_a_column_of_a_csv_file_is_the_target_and_all_others_are_inputs(tables, tmp_path):
    (tmp_path / "own.csv").write_text(PLAIN)
    splits = tables.csv("own.csv", data_dir=tmp_path, test=4, validation=3)
    assert {name: len(y) for name, (_, y) in splits.items()} == {
        "train": 13,
        "validation": 3,
        "test": 4,
    }
    inputs, targets = (torch.cat([splits[name][i] for name in splits]) for i in (0, 1))
    assert inputs.shape == (20, 2) and targets.shape == (20, 1)
    assert rank(inputs[:, 0]) == rank(targets)
    assert tables.csv("own.csv", data_dir=tmp_path).keys() == {"train"}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_columns_may_have_names_and_targets_be_labels(tables, tmp_path, monkeypatch, pack):
    name = "own.csv" if pack is bytes else "own.csv.gz"
    (tmp_path / name).write_bytes(pack(f'"x","kind",z\n{PLAIN}'.encode()))
    monkeypatch.setenv("PYRO_SWS_DATA", str(tmp_path))
    inputs, labels = tables.csv("own.csv", target="kind", labels=True)["train"]
    assert labels.dtype == torch.int64
    assert labels.tolist() == [row % 3 for row in rank(inputs[:, 1])]


def test_a_constant_column_is_nothing_to_divide_by(tables, tmp_path):
    (tmp_path / "own.csv").write_text("1,7,0\n2,7,1\n3,7,0\n")
    inputs, _ = tables.csv("own.csv", data_dir=tmp_path)["train"]
    assert inputs[:, 1].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (PLAIN, {"target": "kind"}, "target='kind': the columns are unnamed"),
        (f"a,b,c\n{PLAIN}", {"target": "kind"}, "target='kind': the columns are a, b, c"),
        (PLAIN, {"target": 3}, "target=3: the table has 3 columns, 0 to 2"),
        ("0,0.5\n1,2\n", {"labels": True}, "labels must be whole numbers from 0"),
        ("1,2\n3,four\n", {}, "own.csv: not a table of numbers between commas"),
        ("1,2\n3,nan\n", {}, "own.csv: no rows, or values that are not finite"),
        ("a,b\n", {}, "own.csv: no rows"),
        (PLAIN, {"test": 20}, "test=20: give a whole number of rows from 0 to 19"),
        (PLAIN, {"test": 4, "validation": 16}, "validation=16: .* from 0 to 15"),
    ],
)
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_what_is_no_such_table_is_told(tables, tmp_path, text, arguments, message):
    (tmp_path / "own.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        tables.csv("own.csv", data_dir=tmp_path, **arguments)


def test_a_csv_file_that_is_not_there_is_named_with_its_folder(tables, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"no {tmp_path}/gone\.csv; paths are relative"):
        tables.csv("gone.csv", data_dir=tmp_path)
