"""A network's own curvature, against products that are run and densities that are known."""

import logging
import warnings

import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_sws as sws
from pyro_sws.inference.batch_reading import Read, Reading
from pyro_sws.inference.curvature_of import curvature, identity
from pyro_sws.inference.joint import joint

EXAMPLES = 20


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def of(net, inputs, likelihood="gaussian", **settings):
    model = joint(net, sws.SpikeAndSlabs(slabs=3), likelihood, len(inputs))
    return curvature(model, [(part, None) for part in inputs.split(7)], **settings)


def drawn(*shape, seed=1):
    return torch.randn(EXAMPLES, *shape, generator=torch.Generator().manual_seed(seed))


def of_any(net, inputs, **settings):
    """Of a network whose outputs are numbers of any shape."""
    return of(net, inputs, sws.FromDistribution(around), **settings)


def around(outputs):
    return dist.Normal(outputs, 1.0).to_event(outputs.dim() - 1)


def second(inputs):
    """The sum over positions of x x', the mean over examples; (B, ..., C) -> (C, C)."""
    flat = inputs.detach().reshape(-1, inputs.shape[-1])
    return flat.T @ flat / EXAMPLES


class Called(nn.Module):
    """A module of which ``function`` makes one tensor."""

    def __init__(self, module, function):
        super().__init__()
        self.inner, self._function = module, function

    def forward(self, inputs):
        return self._function(self.inner, inputs)


def moved_by_hand(net, name, inputs, seed=0):
    """A change of one tensor, and half the squared change of the outputs, the mean of examples."""
    generator = torch.Generator().manual_seed(seed)
    tensor = dict(net.named_parameters())[name].detach()
    changed = tensor + torch.randn(tensor.shape, generator=generator).to(tensor)
    with torch.no_grad():
        before = net(inputs)
        after = torch.func.functional_call(net, {name: changed}, inputs)
    return changed, (after - before).double().square().sum() / 2 / len(inputs)


PRODUCTS = {
    "linear": (nn.Linear(3, 4), (3,)),
    "double precision": (nn.Linear(3, 4).double(), (3,)),
    "linear of sequences": (nn.Linear(3, 4), (5, 3)),
    "linear of one output": (nn.Linear(3, 1), (3,)),
    "linear of one input": (nn.Linear(1, 4), (1,)),
    "without bias": (nn.Linear(3, 4, bias=False), (5, 3)),
    "conv1d": (nn.Conv1d(4, 6, 3, padding=2), (4, 9)),
    "conv2d": (nn.Conv2d(2, 3, (3, 2), stride=2, padding=(1, 0)), (2, 7, 6)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2, dilation=2), (4, 7, 6)),
    "depthwise": (nn.Conv2d(3, 6, 3, groups=3), (3, 5, 5)),
    "circular": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 5, 5)),
    "same": (nn.Conv1d(2, 3, 3, padding="same", dilation=2), (2, 6)),
    "1 x 1": (nn.Conv2d(4, 3, 1), (4, 3, 3)),
    "conv3d": (nn.Conv3d(2, 3, 2, stride=(1, 2, 1)), (2, 4, 5, 3)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1), (4, 4, 3)),
    "transposed in groups": (
        nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1, dilation=2, groups=2),
        (4, 5),
    ),
    "transposed and cropped": (nn.ConvTranspose1d(2, 3, 2, padding=2), (2, 7)),
}


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_change_costs_half_the_squared_change_of_the_products(product):
    net, shape = PRODUCTS[product]
    inputs = drawn(*shape).to(net.weight.dtype)
    found = of(net, inputs, rows=False)
    changed, expected = moved_by_hand(net, "weight", inputs)
    cost = found.cost({"weight": changed}).double()
    torch.testing.assert_close(cost, expected, rtol=1e-4, atol=1e-6)
    assert found.examples == EXAMPLES
    block = found.blocks["weight"]
    assert block.moments.dim() == 3
    assert block.bias == (None if net.bias is None else "bias")
    assert torch.equal(block.layout.tensor(block.layout.matrix(changed), changed.shape), changed)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("batch_first", [True, False])
def test_recurrent_weights_multiply_inputs_and_the_states_before(kind, batch_first):
    module = kind(3, 4, num_layers=2, bidirectional=True, batch_first=batch_first)
    order = (0, 1, 2) if batch_first else (1, 0, 2)

    def run(inner, inputs):
        return inner(inputs.permute(order))[0].permute(order)

    inputs = drawn(5, 3)
    found = of_any(Called(module, run), inputs, rows=False).blocks
    below = kind(3, 4, bidirectional=True, batch_first=batch_first)
    below.load_state_dict({n: w for n, w in module.state_dict().items() if "_l0" in n})
    given = {0: inputs, 1: run(below, inputs)}
    after = {0: given[1], 1: run(module, inputs)}
    for layer, back in ((0, ""), (0, "_reverse"), (1, ""), (1, "_reverse")):
        states = after[layer][..., 4:] if back else after[layer][..., :4]
        start = torch.zeros(EXAMPLES, 1, 4)
        parts = (states[:, 1:], start) if back else (start, states[:, :-1])
        expected = {"ih": second(given[layer]), "hh": second(torch.cat(parts, 1))}
        for place, moments in expected.items():
            block = found[f"inner.weight_{place}_l{layer}{back}"]
            torch.testing.assert_close(block.moments[0], moments, rtol=1e-4, atol=1e-5)
            assert block.bias == f"inner.bias_{place}_l{layer}{back}"


def test_projected_states_are_what_is_multiplied():
    module = nn.LSTM(3, 4, proj_size=2, batch_first=True)
    net, inputs = Called(module, lambda inner, x: inner(x)[0]), drawn(5, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oneDNN has none
        found = of_any(net, inputs, rows=False).blocks["inner.weight_hh_l0"]
        states = net(inputs)
    before = torch.cat([torch.zeros(EXAMPLES, 1, 2), states[:, :-1]], 1)
    torch.testing.assert_close(found.moments[0], second(before), rtol=1e-4, atol=1e-5)


def queries_only(x):
    return x, x, x


def same_keys_and_values(x):
    other = x + 1
    return x, other, other


def all_different(x):
    return x, x + 1, x.flip(-1)


@pytest.mark.parametrize("given", [queries_only, same_keys_and_values, all_different])
def test_attention_has_the_moments_of_queries_keys_and_values(given):
    attention, inputs = nn.MultiheadAttention(4, 2, batch_first=True), drawn(5, 4)
    net = Called(attention, lambda inner, x: inner(*given(x))[0])
    found = of_any(net, inputs, rows=False)
    moments = found.blocks["inner.in_proj_weight"].moments.expand(3, 4, 4)  # one, where all are
    expected = torch.stack([second(each) for each in given(inputs)])
    torch.testing.assert_close(moments, expected, rtol=1e-4, atol=1e-5)
    changed, expected = moved_by_hand(net, "inner.out_proj.weight", inputs)
    cost = found.cost({"inner.out_proj.weight": changed}).double()
    torch.testing.assert_close(cost, expected, rtol=1e-4, atol=1e-6)


def test_the_fused_encoder_layer_is_seen_all_the_same():
    net = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    found = of_any(net, drawn(5, 4)).blocks
    products = ("self_attn.in_proj_weight", "self_attn.out_proj.weight")
    for name in (*products, "linear1.weight", "linear2.weight"):
        assert found[name].moments.dim() == 3
    assert found["linear1.weight"].bias == "linear1.bias"


def test_an_embedding_counts_how_often_it_is_looked_up():
    net, inputs = nn.Embedding(7, 3), torch.randint(0, 6, (EXAMPLES, 4))
    found = of_any(net, inputs, rows=False)
    counts = torch.bincount(inputs.reshape(-1), minlength=7) / EXAMPLES
    torch.testing.assert_close(found.blocks["weight"].moments[0], counts)
    changed, expected = moved_by_hand(net, "weight", inputs)
    cost = found.cost({"weight": changed}).double()
    torch.testing.assert_close(cost, expected, rtol=1e-4, atol=1e-6)


def test_an_embedding_that_is_the_last_layer_too_has_the_moments_of_both():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.last = nn.Embedding(7, 3), nn.Linear(3, 7, bias=False)
            self.last.weight = self.words.weight

        def forward(self, inputs):
            return self.last(self.words(inputs).tanh())

    net, inputs = Tied(), torch.randint(0, 7, (EXAMPLES, 4))
    (block,) = of_any(net, inputs, rows=False).blocks.values()
    expected = second(net.words(inputs).tanh()) + 4 / 7 * torch.eye(3)  # 4 words of 7 an example
    torch.testing.assert_close(block.moments[0], expected, rtol=1e-4, atol=1e-5)


def test_a_matrix_that_inputs_are_multiplied_by_from_the_left_has_columns_as_rows():
    transformers = pytest.importorskip("transformers")
    net, inputs = transformers.pytorch_utils.Conv1D(5, 3), drawn(4, 3)
    found = of_any(net, inputs, rows=False)
    changed, expected = moved_by_hand(net, "weight", inputs)
    torch.testing.assert_close(
        found.cost({"weight": changed}).double(), expected, rtol=1e-4, atol=0
    )
    assert found.blocks["weight"].bias == "bias"


class Experts(nn.Module):
    """Matrices in one tensor, each of which multiplies inputs of its own."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4, 2))

    def forward(self, inputs):
        return torch.einsum("bpec,ecr->bper", inputs, self.weight)


class ExpertsInTurn(Experts):
    def forward(self, inputs):
        each = [inputs[:, :, at] @ self.weight[at] for at in (0, 2)]
        return torch.stack(each, 2)


class LeftProduct(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 4))

    def forward(self, inputs):
        return self.weight @ inputs


@pytest.mark.parametrize(
    "net, shape", [(Experts(), (5, 3, 4)), (ExpertsInTurn(), (5, 3, 4)), (LeftProduct(), (4, 3))]
)
def test_products_of_parts_of_a_tensor_are_seen(net, shape):
    inputs = drawn(*shape)
    found = of_any(net, inputs, rows=False)
    assert found.blocks["weight"].moments.dim() == 3
    changed, expected = moved_by_hand(net, "weight", inputs)
    torch.testing.assert_close(
        found.cost({"weight": changed}).double(), expected, rtol=1e-4, atol=0
    )


class RoutedExperts(nn.Module):
    """A third of the positions go to the first expert, none to the second."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 8, 4))

    def forward(self, inputs):
        flat, turned = inputs.reshape(-1, 4), self.weight.transpose(1, 2)
        ends = torch.tensor([len(flat) // 3, len(flat) // 3, len(flat)], dtype=torch.int32)
        return torch._grouped_mm(flat, turned, offs=ends).reshape(len(inputs), 5, 8)


@pytest.mark.skipif(not hasattr(torch, "_grouped_mm"), reason="this torch has no grouped product")
def test_experts_multiply_the_positions_that_are_routed_to_them():
    net, inputs = RoutedExperts(), drawn(5, 4)[:7]  # one part: of more each is routed by itself
    found = of_any(net, inputs, rows=False)
    assert found.blocks["weight"].moments.shape == (3, 4, 4)
    changed, expected = moved_by_hand(net, "weight", inputs)
    cost = found.cost({"weight": changed}).double()
    torch.testing.assert_close(cost, expected, rtol=1e-4, atol=0)
    assert not found.blocks["weight"].moments[1].any()


class OfSparse(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 2))

    def forward(self, inputs):
        return torch.sparse.mm(inputs.to_sparse(), self.weight)


def test_what_sparse_inputs_are_multiplied_by_has_the_fisher_matrix_alone():
    block = of(OfSparse(), drawn(3)).blocks["weight"]
    assert block.rows.shape == (1, 1)
    assert (block.moments > 0).all()


def test_on_linear_regression_the_cost_is_the_difference_of_log_densities():
    inputs, targets = drawn(3), drawn(2, seed=2)
    net = nn.Linear(3, 2, bias=False)
    net.weight.data = torch.linalg.lstsq(inputs, targets).solution.T.contiguous()
    found, likelihood = of(net, inputs, rows=False), sws.Gaussian()
    changed, _ = moved_by_hand(net, "weight", inputs)
    before, after = (
        -likelihood(inputs @ weight.T).log_prob(targets).mean() for weight in (net.weight, changed)
    )
    cost = found.cost({"weight": changed})
    torch.testing.assert_close(cost, (after - before).detach(), rtol=1e-4, atol=0)


def test_rows_of_a_linear_softmax_are_those_of_its_fisher_matrix(runs=120):
    inputs, net = drawn(3), nn.Linear(3, 4)
    found = [of(net, inputs, "categorical", seed=seed).blocks for seed in range(runs)]
    p = net(inputs).softmax(-1).detach()
    variances = p * (1 - p)  # the diagonal of diag(p) - p p'
    squares = inputs.square()
    expected = {
        "rows": (variances.T @ squares).sum(1) / squares.sum(),
        "bias": variances.mean(0),
    }
    draws = {
        "rows": torch.stack([each["weight"].rows[0] for each in found]),
        "bias": torch.stack([each["bias"].moments[0] for each in found]),
    }
    for name, value in expected.items():
        error = draws[name].std(0) / runs**0.5
        assert ((draws[name].mean(0) - value).abs() < 5 * error).all()
        assert (error < 0.1 * value).all()  # or the line above says little


def fisher_traces(net, inputs):
    """Of each tensor, the mean over examples of sum_k p_k |d log p_k / d tensor|^2."""
    traces = {name: 0.0 for name, _ in net.named_parameters()}
    for log_probs in net(inputs).log_softmax(-1):
        for log_prob in log_probs:
            scores = torch.autograd.grad(log_prob, list(net.parameters()), retain_graph=True)
            for name, score in zip(traces, scores, strict=True):
                traces[name] += (log_prob.exp() * score.square().sum()).item() / len(inputs)
    return traces


def test_blocks_have_the_trace_of_the_fisher_matrix_in_every_layer(runs=60):
    convolution = nn.Conv1d(2, 4, 3, groups=2)
    net = nn.Sequential(convolution, nn.Tanh(), nn.Flatten(), nn.Linear(16, 5), nn.Linear(5, 3))
    inputs = drawn(2, 6)
    found = [of(net, inputs, "categorical", seed=seed).blocks for seed in range(runs)]
    for name, expected in fisher_traces(net, inputs).items():
        blocks = [each[name] for each in found]
        draws = torch.stack([(b.rows * b.diagonal.sum(-1, keepdim=True)).sum() for b in blocks])
        error = draws.std() / runs**0.5
        assert abs(draws.mean() - expected) < 5 * error
        assert error < 0.1 * expected


def test_rows_of_regression_are_the_precision_of_its_noise(runs=60):
    inputs, net = drawn(3), nn.Linear(3, 2)
    noise = sws.Gaussian(noise_precision=4.0)
    rows = torch.stack([of(net, inputs, noise, seed=s).blocks["weight"].rows for s in range(runs)])
    error = rows.std(0) / runs**0.5
    assert ((rows.mean(0) - 4).abs() < 5 * error).all()
    assert (error < 0.4).all()


@pytest.mark.parametrize(
    "likelihood",
    [
        sws.Categorical(ignore_index=0, label_smoothing=0.1),
        sws.Categorical(class_dim=1),
        sws.Distilled(),
        sws.SoftCategorical(),
        sws.Bernoulli(),
        sws.Gaussian(noise_precision=sws.Gamma(2.0, 1.0)),
        sws.HeteroscedasticGaussian(),
        sws.StudentT(),
        sws.Laplace(),
        sws.Poisson(),
        sws.Taught(sws.Gaussian()),
    ],
)
def test_targets_can_be_drawn_of_every_likelihood(likelihood, caplog):
    found = of(nn.Linear(3, 2), drawn(4, 3), likelihood)
    assert not caplog.records
    assert all((block.rows > 0).all() for block in found.blocks.values())


def test_what_is_added_behind_a_relu_in_place_is_no_bias():
    class Added(nn.Module):
        def __init__(self, inplace):
            super().__init__()
            self.product = nn.Linear(3, 2, bias=False)
            self.activation = nn.ReLU(inplace=True) if inplace else nn.Identity()
            self.added = nn.Parameter(torch.randn(2))

        def forward(self, inputs):
            return self.activation(self.product(inputs)) + self.added

    assert of(Added(True), drawn(3)).blocks["product.weight"].bias is None
    assert of(Added(False), drawn(3)).blocks["product.weight"].bias == "added"


def test_a_loss_has_no_targets_to_draw_and_changes_count_relative_to_the_weights(caplog):
    net = nn.Linear(3, 2)
    with caplog.at_level(logging.WARNING, "pyro_sws"):
        found = of(net, drawn(3), sws.Loss(nn.MSELoss(reduction="none")))
    assert "relative to their own size: no targets can be drawn" in caplog.text
    for name in ("weight", "bias"):
        nothing = torch.zeros_like(found.blocks[name].at)
        assert found.blocks[name].cost(nothing).item() == pytest.approx(0.5)


def test_without_data_changes_count_relative_to_the_weights():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    found = identity(joint(net, sws.SpikeAndSlabs(slabs=3), "gaussian", 1))
    assert set(found.blocks) == {name for name, _ in net.named_parameters()}
    for name, tensor in net.named_parameters():
        changed = {name: 1.1 * tensor.detach()}
        size = 0.01 if tensor.any() else 0.0
        assert found.cost(changed).item() == pytest.approx(size / 2, rel=1e-3)


class Awkward(nn.Module):
    """What is unused, complex or empty; a scalar; a weight under weight norm."""

    def __init__(self):
        super().__init__()
        self.first = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
        self.unused = nn.Parameter(torch.ones(3))
        self.imaginary = nn.Parameter(torch.ones(3, dtype=torch.complex64))
        self.empty = nn.Parameter(torch.ones(0, 3))
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, inputs):
        return self.factor * self.first(inputs)


def test_what_multiplies_nothing_has_the_fisher_matrix_alone(runs=60):
    net, inputs = Awkward(), drawn(3)
    found = [of(net, inputs, seed=seed).blocks for seed in range(runs)]
    assert not {"imaginary", "empty"} & set(found[0])
    assert not found[0]["unused"].moments.any()
    factors = torch.stack([each["factor"].moments.reshape(()) for each in found])
    expected = net.first(inputs).square().sum(1).mean().item()  # the square of d outputs / d factor
    assert abs(factors.mean() - expected) < 5 * factors.std() / runs**0.5
    for part in ("original0", "original1"):
        block = found[0][f"first.parametrizations.weight.{part}"]
        assert block.rows.shape == (1, 1) and (block.moments > 0).all()


def test_dead_inputs_and_few_examples_cost_nothing_infinite():
    inputs = drawn(30)[:, :30]
    inputs[:, :5] = 0
    found = of(nn.Linear(30, 2), inputs[:4]).blocks["weight"]
    assert not found.diagonal[:, :5].any()
    assert found.rows.isfinite().all() and (found.rows > 0).all()
    silent = of(nn.Linear(3, 2), torch.zeros(4, 3)).blocks["weight"]
    assert silent.cost(torch.zeros(2, 3)) == 0


def test_what_is_not_finite_is_refused_by_name():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        net[0].weight.fill_(1e38)
    inputs = drawn(3).abs() + 10
    with pytest.raises(ValueError, match="what '2.weight' multiplies is not finite"):
        of(net, inputs)
    with torch.no_grad():
        net[0].weight.fill_(1e15)
        net[2].weight.fill_(1e38)
    with pytest.raises(ValueError, match="outputs are not finite"):
        of(net, inputs)


def test_half_precision_is_summed_in_float32():
    net, inputs = nn.Conv1d(3, 4, 2).bfloat16(), drawn(3, 5)
    found = of(net, inputs.bfloat16(), rows=False).blocks["weight"]
    same = of(nn.Conv1d(3, 4, 2), inputs.bfloat16().float(), rows=False).blocks["weight"]
    assert found.moments.dtype == torch.float32
    torch.testing.assert_close(found.moments, same.moments)


@pytest.mark.parametrize("form", ["inputs", "pairs", "lists", "without targets", "mappings"])
def test_targets_are_not_needed(form):
    inputs, net = drawn(3), nn.Linear(3, 2)
    forms = {
        "inputs": lambda x: x,
        "pairs": lambda x: (x, torch.zeros(len(x), 2)),
        "lists": lambda x: [x, torch.zeros(len(x), 2)],
        "without targets": lambda x: (x, None),
        "mappings": lambda x: {"input": x},
    }
    model = joint(net, sws.SpikeAndSlabs(slabs=3), "gaussian", EXAMPLES)
    found = curvature(model, [forms[form](x) for x in inputs.split(8)], examples=12)
    assert found.examples == 12
    expected = second(inputs[:12]) * EXAMPLES / 12
    torch.testing.assert_close(found.blocks["weight"].moments[0], expected)


def test_functions_that_read_batches_need_no_targets():
    inputs, net = drawn(3), nn.Linear(3, 2)
    model = joint(net, sws.SpikeAndSlabs(slabs=3), "gaussian", EXAMPLES)
    expected = curvature(model, [inputs]).blocks["weight"]
    batch = {"x": inputs, "ignored": torch.zeros(EXAMPLES)}
    for reading in (
        Reading(forward=lambda net, batch: net(batch["x"])),
        Reading(targets="ignored"),
    ):
        found = curvature(model, Read([batch], reading)).blocks["weight"]
        assert torch.equal(found.moments, expected.moments)
        assert torch.equal(found.rows, expected.rows)


@pytest.mark.parametrize(
    "batches, error, said",
    [
        ([], ValueError, "no examples"),
        (torch.zeros(4, 3), TypeError, "must be a re-iterable"),
        ([3], TypeError, r"batches\[0\] must be a pair"),
    ],
)
def test_what_is_no_data_is_refused(batches, error, said):
    model = joint(nn.Linear(3, 2), sws.SpikeAndSlabs(slabs=3), "gaussian", 4)
    with pytest.raises(error, match=said):
        curvature(model, batches)
    with pytest.raises(ValueError, match="examples must be at least 1"):
        curvature(model, [torch.zeros(4, 3)], examples=0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_gradient_mode_makes_no_difference(mode):
    net, inputs = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), drawn(5, 3)
    expected = of_any(net, inputs)
    model = joint(net, sws.SpikeAndSlabs(slabs=3), "gaussian", EXAMPLES)
    with mode():
        found = of_any(net, inputs.clone())
        free = identity(model)
    for name, block in found.blocks.items():
        torch.testing.assert_close(block.rows, expected.blocks[name].rows)
        torch.testing.assert_close(block.moments, expected.blocks[name].moments)
        assert not block.moments.is_inference() and not free.blocks[name].rows.is_inference()


def test_nothing_of_the_callers_changes_and_a_seed_repeats():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(27, 2))
    net.train()
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    generator, inputs, told = torch.get_rng_state(), drawn(2, 5, 5), []
    found = of(net, inputs, "categorical", callback=told.append)
    again = of(net, inputs, "categorical")
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(state[name], tensor) for name, tensor in net.state_dict().items())
    assert net.training and all(p.grad is None for p in net.parameters())
    assert [progress.done for progress in told] == [7, 14, 20]
    for name, block in found.blocks.items():
        assert torch.equal(block.rows, again.blocks[name].rows)
        assert not block.moments.requires_grad and not block.at.requires_grad
