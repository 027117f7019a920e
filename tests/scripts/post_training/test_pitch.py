"""Tones for the pitch estimator: their pitch by their own period."""

import pytest
import torch


@pytest.fixture
def pitch(script):
    return script("post_training.pitch")


def test_a_tone_repeats_after_its_period(pitch):
    frames, cents = pitch.tones(40, seed=0)
    hertz = 10 * 2 ** (cents / 1200)
    assert frames.shape == (40, 1024) and 60 <= hertz.min() and hertz.max() <= 1360
    for frame, frequency in zip(frames, hertz, strict=True):
        periods = max(1, int(400 / (pitch.RATE / frequency)))  # whole ones, to round them less
        lag = round(float(periods * pitch.RATE / frequency))
        similar = torch.corrcoef(torch.stack([frame[lag:], frame[:-lag]]))[0, 1]
        assert similar > 0.5


def test_the_network_gives_a_logit_a_pitch(pitch):
    assert pitch.Crepe().eval()(torch.randn(3, pitch.SAMPLES)).shape == (3, pitch.BINS)
