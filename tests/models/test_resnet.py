"""ResNet-20: its published size, and its shortcut by hand."""

import pytest
import torch


@pytest.fixture
def resnet(load_model):
    return load_model("resnet")


def test_it_has_the_published_number_of_parameters(resnet):
    # He et al. 2016, table 6, say 0.27 M; Idelbayev 269,722.
    assert sum(p.numel() for p in resnet.ResNet20().parameters()) == 269_722


def test_a_shortcut_takes_every_second_pixel_and_adds_channels_of_zeros(resnet):
    block = resnet.Block(2, 4).eval()
    torch.nn.init.zeros_(block.conv2.weight)  # nothing but the shortcut is left
    inputs = torch.arange(32.0).reshape(1, 2, 4, 4)
    wanted = torch.zeros(1, 4, 2, 2)
    wanted[0, 1], wanted[0, 2] = (
        torch.tensor([[0.0, 2.0], [8.0, 10.0]]),
        torch.tensor([[16.0, 18.0], [24.0, 26.0]]),
    )
    torch.testing.assert_close(block(inputs), wanted)
