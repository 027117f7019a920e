"""The compiled density against the portable one and double precision; what happens without one."""

import copy
import logging

import pytest
import torch

from pyro_sws.weights.density import compiled as compiled_density
from pyro_sws.weights.density import log_density as density
from pyro_sws.weights.density.log_density import (
    density_backend,
    log_densities,
    log_density,
    select_backend,
)

ROW = compiled_density.ROW
N = 6 * ROW + 77


def problem(components, dtype, n=N, deviation=0.05, offsets=False):
    generator = torch.Generator().manual_seed(0)
    w = 0.2 * torch.randn(n, generator=generator, dtype=torch.float64)
    means = torch.linspace(-0.5, 0.5, components, dtype=torch.float64)
    deviations = deviation * torch.linspace(0.5, 2, components, dtype=torch.float64)
    log_proportions = torch.linspace(1, 2, components, dtype=torch.float64).log_softmax(0)
    values = [w, means, deviations**-2, log_proportions]
    if offsets:
        values.append(2 * torch.randn(n, generator=generator, dtype=torch.float64))
    return [v.to(dtype).requires_grad_() for v in values]


def gradients(way, values, function=log_density):
    with density_backend(way):
        total = function(*values).sum()
    return total, torch.autograd.grad(total, values)


def assert_ways_agree(components, dtype, tolerance, **options):
    values = problem(components, dtype, **options)
    if chosen_name(components, dtype) != "compiled":
        pytest.skip("no working compiler")
    total, found = gradients("compiled", values)
    portable_total, portable = gradients("portable", values)
    exact_total, exact = gradients("portable", problem(components, torch.float64, **options))
    torch.testing.assert_close(total.double(), exact_total, rtol=tolerance, atol=0)
    torch.testing.assert_close(total, portable_total, rtol=tolerance, atol=0)
    for a, b, c in zip(found, portable, exact, strict=True):
        scale = c.abs().max()
        assert (a.double() - c).abs().max() <= 10 * tolerance * scale
        assert (a - b).abs().max() <= 10 * tolerance * scale


def chosen_name(components, dtype):
    with density_backend("compiled"):
        return select_backend(N, components, dtype, "cpu").name


@pytest.fixture
def calls(monkeypatch):
    """The rows that reach the compiled function."""
    rows, real = [], compiled_density._call
    monkeypatch.setattr(
        compiled_density, "_call", lambda r, *a, **k: rows.append(len(r)) or real(r, *a, **k)
    )
    return rows


@pytest.fixture
def uncompiled(monkeypatch, calls):
    """What would be compiled, as plain torch."""
    monkeypatch.setattr(compiled_density, "_compiled", set())
    monkeypatch.setattr(compiled_density, "_failures", {})
    monkeypatch.setattr(compiled_density, "_kernel", lambda device: compiled_density.row_sums)
    return calls


@pytest.fixture
def broken_compiler(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no compiler here\nand more lines")

    monkeypatch.setattr(compiled_density, "_compiled", set())
    monkeypatch.setattr(compiled_density, "_failures", {})
    monkeypatch.setattr(compiled_density, "_kernel", lambda device: fail)


@pytest.mark.integration
def test_compiled_portable_and_double_agree(calls):
    settings = [copy.deepcopy(m.config.get_config_copy()) for m in (torch._dynamo, inductor())]
    assert_ways_agree(3, torch.float32, 2e-6)
    assert sum(calls) >= 6, "the rows were compiled, the rest was not"
    # Another number of weights, in more than one call, needs no other kernel.
    kinds = len(compiled_density._compiled)
    assert_ways_agree(3, torch.float32, 2e-6, n=60 * ROW)
    assert len(compiled_density._compiled) == kinds
    assert settings == [m.config.get_config_copy() for m in (torch._dynamo, inductor())]


@pytest.mark.integration
def test_every_kind_is_compiled_once(monkeypatch):
    compilations = []

    def backend(graph, inputs):
        compilations.append(1)
        return graph.forward

    kernel = torch.compile(compiled_density.row_sums, fullgraph=True, backend=backend)
    monkeypatch.setattr(compiled_density, "_compiled", set())
    monkeypatch.setattr(compiled_density, "_kernel", lambda device: kernel)
    for components in range(1, 11):  # more than torch compiles of one function by itself
        values = problem(components, torch.float32)
        gradients("compiled", values)
        held = [values[0], *(v.detach() for v in values[1:])]
        with density_backend("compiled"):  # hyperparameters that are held in a step
            torch.autograd.grad(log_density(*held), values[0])
        assert len(compilations) == components
    assert compiled_density._failures == {}


def test_running_out_of_memory_is_no_word_on_the_compiler(broken_compiler, monkeypatch):
    def no_memory(*_, **__):
        raise torch.OutOfMemoryError("no more")

    monkeypatch.setattr(compiled_density, "_kernel", lambda device: no_memory)
    with density_backend("compiled"), pytest.raises(torch.OutOfMemoryError):
        log_density(*problem(3, torch.float32))
    assert compiled_density._failures == {}


@pytest.mark.parametrize("rows", [1, 2, 3, 52, 53])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.float64, 1e-12)])
def test_offsets_go_through_the_rows_with_their_weights(uncompiled, rows, dtype, tolerance):
    chosen_name(2, dtype)
    uncompiled.clear()  # of the rows by which it is tried
    for more in (0, 1, -1):
        assert_ways_agree(2, dtype, tolerance, n=rows * ROW + more, offsets=True)
    whole = [count for count in (rows, rows, rows - 1) if count > 1]
    assert sum(uncompiled) == sum(whole), "a single row is left to the blocks"


@pytest.mark.parametrize("where", range(5))
def test_what_is_not_a_number_stays_so_in_rows(uncompiled, where):
    values = [v.detach() for v in problem(3, torch.float32, offsets=True)]
    values[where][1] = torch.nan
    with density_backend("compiled"):
        assert log_density(*[v.requires_grad_() for v in values]).isnan()
    assert uncompiled


@pytest.mark.slow
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.float64, 1e-12)])
def test_offsets_are_compiled_too(calls, dtype, tolerance):
    assert_ways_agree(3, dtype, tolerance, offsets=True)
    assert sum(calls) >= 6
    # Another number of weights needs no other kernel.
    kinds = len(compiled_density._compiled)
    assert_ways_agree(3, dtype, tolerance, n=60 * ROW, offsets=True)
    assert len(compiled_density._compiled) == kinds


@pytest.mark.slow
def test_one_component_is_a_normal_density():
    assert_ways_agree(1, torch.float32, 2e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "components, dtype, tolerance",
    [(3, torch.float64, 1e-12), (17, torch.float32, 2e-6), (17, torch.float64, 1e-12)],
)
@pytest.mark.parametrize("deviation", [0.01, 0.25])
def test_every_kind_agrees_with_double(components, dtype, tolerance, deviation):
    assert_ways_agree(components, dtype, tolerance, deviation=deviation)


@pytest.mark.slow
@pytest.mark.parametrize("offsets", [False, True])
def test_each_weights_density_is_compiled_too(calls, offsets):
    values = problem(3, torch.float32, offsets=offsets)
    _, found = gradients("compiled", values, log_densities)
    assert calls
    _, expected = gradients("portable", values, log_densities)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= 2e-5 * b.abs().max()


def test_many_components_are_not_compiled():
    with density_backend("compiled"):
        way = select_backend(10**7, 65, torch.float32, "cpu")
    assert way.name == "portable" and "65 components" in (way.reason or "")


def test_without_a_compiler_the_portable_way_answers_and_says_so_once(broken_compiler, caplog):
    values = problem(3, torch.float64)
    expected_total, expected = gradients("portable", values)
    with caplog.at_level(logging.WARNING, logger="pyro_sws"):
        for _ in range(2):
            total, found = gradients("compiled", values)
            torch.testing.assert_close([total, *found], [expected_total, *expected])
    assert len(caplog.records) == 1
    with density_backend("compiled"):
        way = select_backend(N, 3, torch.float64, "cpu")
    assert way == density.Backend("portable", "RuntimeError: no compiler here")


def test_a_compiler_that_fails_later_costs_nothing_but_the_speed(broken_compiler, monkeypatch):
    kind = (3, True, torch.float64, "cpu")
    monkeypatch.setattr(compiled_density, "_compiled", {kind})  # it worked before
    values = problem(3, torch.float64)
    total, found = gradients("compiled", values)
    expected_total, expected = gradients("portable", values)
    torch.testing.assert_close([total, *found], [expected_total, *expected])


@pytest.mark.parametrize("rows", [0, 1, 2, 52, 53, 105, 260])
def test_no_group_is_a_single_row(rows):
    groups = compiled_density._groups(torch.zeros(rows, 4))
    assert sum(len(g) for g in groups) == rows
    assert all(min(rows, 2) <= len(g) <= 52 for g in groups) and bool(groups) == (rows > 0)


def inductor():
    from torch import _inductor

    return _inductor
