"""How the density is computed, as a value: what it takes, and what it refuses."""

import math

import pytest
import torch

from pyro_sws.inference.density import Density


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"way": "fast"}, "unknown density 'fast'; choose from auto, portable, compiled"),
        *(
            (
                {"prior_subsample": fraction},
                rf"prior_subsample must be a fraction .* in \(0, 1\], got {fraction}",
            )
            for fraction in (0.0, -0.5, 1.5, math.inf, math.nan)
        ),
        # Which would need its loss scaled; and a dtype of torch's is no value for TOML.
        ({"autocast": "float16"}, "autocast must be 'bfloat16' or None, got 'float16'"),
        ({"autocast": torch.bfloat16}, "autocast must be 'bfloat16' or None, got torch.bfloat16"),
    ],
)
def test_a_density_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Density(**fields)


@pytest.mark.parametrize("way", ["auto", "portable", "compiled"])
def test_the_ends_of_the_ranges_belong_to_them(way):
    assert Density(way, prior_subsample=1).autocast_dtype is None
    assert Density(way, 1e-9, "bfloat16").autocast_dtype == torch.bfloat16
