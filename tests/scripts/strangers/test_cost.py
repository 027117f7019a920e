"""The script that times a walk beside plain training: the whole line on made data."""

import sys

import pytest
import torch


@pytest.mark.integration
@pytest.mark.slow
def test_both_are_timed_on_made_data(script, monkeypatch, capsys, tmp_path):
    cost, threads = script("strangers.cost"), torch.get_num_threads()
    arguments = ["--smoke", "--names", "diabetes", "--cache", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["cost.py", *arguments])
    try:
        cost.main()
    finally:
        torch.set_num_threads(threads)
    told = capsys.readouterr().out
    assert told.startswith("diabetes: ") and "'training': [" in told and "'walk': [" in told
