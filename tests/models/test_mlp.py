"""Perceptrons: sizes, the short names of the one for digits, their arithmetic."""

import torch


def size(net):
    return sum(p.numel() for p in net.parameters())


def test_the_perceptron_has_50610_parameters_under_short_names(mlp):
    net = mlp.digits_mlp()
    assert size(net) == 50_610
    names = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias", "fc3.weight", "fc3.bias"]
    assert list(net.state_dict()) == names


def test_layers_are_rectified_between_and_not_at_the_end(mlp):
    net, rows = mlp.digits_mlp(), torch.rand(5, 64)
    hidden = torch.relu(
        torch.relu(rows @ net.fc1.weight.T + net.fc1.bias) @ net.fc2.weight.T + net.fc2.bias
    )
    torch.testing.assert_close(net(rows), hidden @ net.fc3.weight.T + net.fc3.bias)


def test_hidden_sizes_may_come_as_a_list(mlp):
    assert size(mlp.digits_mlp(hidden=[7])) == 64 * 7 + 7 + 7 * 10 + 10


def test_without_hidden_layers_it_is_linear(mlp):
    net, rows = mlp.digits_mlp(hidden=()), torch.rand(5, 64)
    torch.testing.assert_close(net(rows), rows @ net.fc1.weight.T + net.fc1.bias)


def test_dropout_acts_in_training_alone(mlp):
    net, rows = mlp.digits_mlp(dropout=0.5), torch.rand(5, 64)
    assert not torch.equal(net(rows), net(rows))
    net.eval()
    assert torch.equal(net(rows), net(rows))


def test_a_perceptron_has_the_layers_that_its_sizes_say(mlp):
    net, rows = mlp.perceptron([3, 5, 2]), torch.rand(4, 3)
    assert size(net) == 3 * 5 + 5 + 5 * 2 + 2
    hidden = torch.relu(rows @ net[0].weight.T + net[0].bias)
    torch.testing.assert_close(net(rows), hidden @ net[2].weight.T + net[2].bias)
