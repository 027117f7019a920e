"""Contexts of use: in each the same bytes come out, or one line says why not."""

import asyncio
import os
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager, redirect_stdout
from functools import cache

import pyro
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import pyro_sws as sws

pytestmark = pytest.mark.integration


def made():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 4, generator=generator)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return net, inputs, inputs[:, :3].argmax(1)


def fitted(net, inputs, labels):
    batches, refinement = sws.Batches(inputs, labels, 20), sws.Refinement(epochs=1)
    return sws.compress(net, batches, tau=0.1, epochs=2, refinement=refinement).data


def walked(net, inputs, labels):
    batches, budget = sws.Batches(inputs, labels, 20), sws.Budget(passes=6)
    return sws.compress(net, batches, budget=budget, tolerance=90.0).data


def post_trained(net, inputs, labels):
    return sws.compress(net, inputs, fit=sws.PostTraining(files=2), tolerance=1.0).data


JOBS = {job.__name__: job for job in (fitted, walked, post_trained)}


@cache
def usual(name):
    """The bytes that come of a job."""
    return JOBS[name](*made())


LONG = "walked", "post_trained"


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in JOBS]
)
def job(request):
    """A job, and the bytes that come of it."""
    return JOBS[request.param], usual(request.param)


@contextmanager
def changed(get, change, value):
    before = get()
    change(value)
    try:
        yield
    finally:
        change(before)


@contextmanager
def warnings_as_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


INSIDE = {
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "a default device": lambda: torch.device("meta"),
    "double precision": lambda: changed(
        torch.get_default_dtype, torch.set_default_dtype, torch.float64
    ),
    "deterministic algorithms": lambda: changed(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
    ),
    "warnings as errors": warnings_as_errors,
    "Pyro's validation": lambda: pyro.validation_enabled(True),
    "no terminal": lambda: redirect_stdout(None),
}


@pytest.mark.parametrize("context", INSIDE)
def test_inside_a_context_the_bytes_are_the_same(job, context):
    net, inputs, labels = made()
    with INSIDE[context]():
        assert job[0](net, inputs, labels) == job[1]


@pytest.mark.slow  # a step takes ten times as long
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_where_anomalies_are_looked_for_the_bytes_are_the_same(job):
    with torch.autograd.detect_anomaly():
        assert job[0](*made()) == job[1]


HANDLERS = {
    "TraceMessenger": pyro.poutine.trace,
    "plate": lambda: pyro.plate("outer", 2),
    "ConditionMessenger": lambda: pyro.poutine.condition(data={"all.weights": torch.zeros(2)}),
    "MaskMessenger": lambda: pyro.poutine.mask(mask=torch.tensor(False)),
    "BlockMessenger": pyro.poutine.block,
}


@pytest.mark.parametrize("handler", HANDLERS)
def test_inside_pyros_handlers_it_is_refused(job, handler):
    with HANDLERS[handler](), pytest.raises(RuntimeError, match=f"inside Pyro's {handler}; call"):
        job[0](*made())


def test_what_was_made_in_inference_mode_will_do(job):
    with torch.inference_mode():
        net, inputs, labels = made()
    assert job[0](net, inputs, labels) == job[1]


def frozen(net):
    return net.requires_grad_(False)


def hooked(net):
    net[0].register_forward_hook(lambda module, given, outputs: outputs)
    net[0].weight.register_hook(lambda gradient: 2 * gradient)
    return net


def compiled(net):
    return torch.compile(net, backend="eager")


@pytest.mark.parametrize("change", [frozen, hooked, compiled])
def test_a_network_of_another_make_gives_the_same(job, change):
    net, inputs, labels = made()
    assert job[0](change(net), inputs, labels) == job[1]


def test_threads_take_turns(job):
    """The caller's generator is as it was once all have ended."""
    given, before, found = [made() for _ in range(3)], torch.get_rng_state(), []
    threads = [threading.Thread(target=lambda g=g: found.append(job[0](*g))) for g in given]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [job[1]] * 3
    assert torch.equal(torch.get_rng_state(), before)


def test_in_a_running_loop_and_beside_one(job):
    async def both():
        return job[0](*made()), await asyncio.to_thread(job[0], *made())

    assert asyncio.run(both()) == (job[1], job[1])


def test_an_interrupt_leaves_the_callers_state(job):
    def interrupt(progress):
        raise KeyboardInterrupt

    net, inputs, labels = made()
    before = torch.get_rng_state(), {n: p.clone() for n, p in net.named_parameters()}
    with pytest.raises(KeyboardInterrupt):
        sws.compress(net, sws.Batches(inputs, labels, 20), epochs=3, tau=0.1, callback=interrupt)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(torch.equal(p, before[1][n]) for n, p in net.named_parameters())
    assert not pyro.poutine.runtime._PYRO_STACK and not pyro.get_param_store().keys()
    assert job[0](net, inputs, labels) == job[1]


@pytest.mark.parametrize("name", ["n" * 251 + ".sw", "ünï cödé", "-o", "a\nb", "%s{x}"])
def test_a_folder_may_have_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    run = sws.compress(*made()[:1], [made()[1:]], tau=0.1, epochs=1)
    run.save(name)
    assert sws.Run.open(name).data == run.data


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_of_a_loader_give_what_one_process_gives(context):
    net, inputs, labels = made()
    data = TensorDataset(inputs, labels)
    alone = DataLoader(data, batch_size=20)
    several = DataLoader(data, batch_size=20, num_workers=2, multiprocessing_context=context)
    files = [sws.compress(net, each, tau=0.1, epochs=2).data for each in (alone, several)]
    assert files[0] == files[1]


PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
from test_contexts import JOBS, made
import multiprocessing

def told(name):
    return JOBS[name](*made()).hex()

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        spawned = pool.map(told, JOBS)
    assert spawned == [told(name) for name in JOBS]
    print(*spawned)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "environment"),
    [
        (["-O"], {}),
        (["-W", "error"], {}),
        ([], {"PYTHONHASHSEED": "7"}),
        ([], {"HOME": None, "MPLBACKEND": "TkAgg"}),
        ([], {"HOME": "/nowhere", "XDG_CACHE_HOME": "/nowhere"}),
        ([], {"OMP_NUM_THREADS": "2"}),
    ],
)
def test_a_fresh_process_and_one_that_it_spawns_give_the_same(tmp_path, options, environment):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(folder=os.path.dirname(__file__)))
    variables = {**os.environ, **environment}
    done = subprocess.run(
        [sys.executable, *options, str(program)],
        env={name: value for name, value in variables.items() if value is not None},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == [usual(name).hex() for name in JOBS]
