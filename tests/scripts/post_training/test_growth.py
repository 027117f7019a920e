"""What is timed are checkpoints of the sizes that are told, and rates are turned into times."""

import subprocess
import sys

import pytest
import torch


@pytest.fixture
def growth(script):
    return script("post_training.growth")


@pytest.mark.parametrize("size", ["1e5", "1e6", "1e7", "1e8"])
def test_a_checkpoint_has_about_as_many_weights_as_it_says(growth, size, monkeypatch):
    monkeypatch.setattr(
        growth, "matrix", lambda rows, columns, _: torch.zeros(()).expand(rows, columns)
    )
    weights = sum(tensor.numel() for _, tensor in growth.tensors(growth.GPTS[size]))
    assert weights == pytest.approx(float(size), rel=0.05)


def test_weights_are_gaussian_but_for_scales_of_rows_and_outliers(growth):
    weights = growth.matrix(500, 400, torch.Generator().manual_seed(0)).double()
    scales = (weights / growth.SIZE).square().mean(1).sqrt().log()
    assert float(scales.std()) == pytest.approx(growth.SPREAD, rel=0.2)
    far = (weights.abs() > 6 * weights.square().mean(1, keepdim=True).sqrt()).double().mean()
    assert 0.3 * growth.OUTLIERS < float(far) <= 2 * growth.OUTLIERS


@pytest.mark.integration
def test_memory_is_that_of_a_process_and_its_children(growth):
    child = "import time; held = b'x' * 100_000_000; time.sleep(1)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent]) as process:
        seen = 0
        while process.poll() is None:
            seen = max(seen, sum(map(growth.resident, growth.family(process.pid))))
    assert 100e6 < seen < 160e6


@pytest.mark.slow
def test_a_small_checkpoint_is_measured(growth, tmp_path):
    row = growth.measured("1e5", 1, tmp_path)
    assert row["weights"] == 104544 and 0.004 < row["largest_error"] <= 0.005
    assert row["bytes"] < row["given_bytes"] / 3 and row["memory_mb"] > 100


def test_a_larger_checkpoint_is_arithmetic(script):
    ones = ("given_bytes", "bytes", "bits", "largest_error", "seconds", "processor_seconds")
    row = dict.fromkeys((*ones, "expand_processor_seconds", "memory_mb", "baseline_mb", "load"), 1)
    row |= {"weights": 10**8, "workers": 2, "weights_per_processor_second": 1_000_000}
    told = script("post_training.tables").growth_tables({"rows": [row]}, "source")
    assert "7,000,000,000 / (16 x 2 x 1,000,000) = 219 s, 4 minutes: by arithmetic" in told
