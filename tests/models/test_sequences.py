"""Networks of sounds and text: their sizes in closed form, and what each output may depend on."""

import pytest
import torch


def size(net):
    return sum(p.numel() for p in net.parameters())


@pytest.fixture
def recurrent(load_model):
    return load_model("recurrent")


def test_a_gru_has_three_gates_of_two_matrices_and_two_vectors(recurrent):
    assert size(recurrent.SpokenGRU()) == 3 * 64 * (40 + 64 + 2) + 64 * 10 + 10
    assert size(recurrent.TextGRU()) == 65 * 32 + 3 * 128 * (32 + 128 + 2) + 128 * 65 + 65


def test_a_spoken_digit_is_named_by_the_mean_of_the_states(recurrent):
    net, sounds = recurrent.SpokenGRU(bands=4, classes=3, units=5), torch.randn(2, 4, 7)
    states = [net.gru(sounds[:, :, : t + 1].transpose(1, 2))[1][0] for t in range(7)]
    torch.testing.assert_close(net(sounds), net.linear(torch.stack(states).mean(0)))


def test_the_transformer_has_as_many_weights_as_its_layers_say(load_model):
    width, wide = 64, 256
    attention = 4 * (width * width + width)
    layer = attention + 2 * width * wide + wide + width + 4 * width
    wanted = 65 * width + 64 * width + 2 * layer + 2 * width + width * 65 + 65
    assert size(load_model("transformer").TextTransformer()) == wanted


@pytest.mark.parametrize("name", ["recurrent.TextGRU", "transformer.TextTransformer"])
def test_a_character_is_predicted_from_those_before_it_alone(load_model, name):
    module, _, kind = name.partition(".")
    torch.manual_seed(0)
    net = getattr(load_model(module), kind)().eval()
    inputs = torch.randint(65, (1, 64))
    changed = inputs.clone()
    changed[0, 40:] = (changed[0, 40:] + 1) % 65
    with torch.no_grad():
        same = net(changed)[0] - net(inputs)[0]
    torch.testing.assert_close(same[:40], torch.zeros(40, 65), rtol=0, atol=1e-5)
    assert same[40].abs().max() > 1e-3


@pytest.mark.parametrize("name", ["spoken_cnn", "spectrogram_cnn"])
def test_a_cnn_takes_spectrograms_of_any_length(load_model, name):
    net = getattr(load_model("spoken_cnn"), name)(bands=16, classes=3).eval()
    assert net(torch.randn(2, 16, 64)).shape == net(torch.randn(2, 16, 40)).shape == (2, 3)
