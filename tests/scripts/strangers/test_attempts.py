"""The scripts about networks that were once destroyed, and about a walk's choices, on made data."""

import sys

import pytest
import torch


def told_by(main, monkeypatch, capsys, *arguments):
    """What a script prints that is called like this."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["script.py", *arguments])
    try:
        main()
    finally:
        torch.set_num_threads(threads)
    return capsys.readouterr().out


@pytest.mark.integration
@pytest.mark.slow
def test_attempts_are_compressed_and_told(script, monkeypatch, capsys):
    attempts = script("strangers.attempts")
    told = told_by(attempts.main, monkeypatch, capsys, "--smoke", "--names", "digits_one_batch")
    assert "| MLP 64-32-10, one batch | 6.11 -> 23.89 % |" in told
    listed = told_by(attempts.main, monkeypatch, capsys, "--list").splitlines()
    assert len(listed) == len(attempts.ATTEMPTS)


def test_an_attempt_has_its_data_in_the_form_that_was_tried(script):
    attempts = script("strangers.attempts")
    splits = {"train": (torch.arange(50.0)[:, None], torch.arange(50))}
    for attempt in attempts.ATTEMPTS:
        batches = list(attempt.train(splits))
        assert sum(len(targets) for _, targets in batches) == 50
        assert (len(batches) == 1) == (attempt.one_batch or attempt.stranger.batch_size > 50)


@pytest.mark.slow
def test_an_ablation_has_a_row_a_choice(script, monkeypatch, capsys):
    ablation = script("strangers.walk_ablation")
    choices = "as it is,labels alone"
    told = told_by(
        ablation.main,
        monkeypatch,
        capsys,
        "--smoke",
        "--names",
        "digits_demo",
        "--choices",
        choices,
    )
    rows = [line for line in told.splitlines() if line.startswith("| as it") or "| labels" in line]
    assert len(rows) == 2 and all(" bytes" not in row and " at " in row for row in rows)
