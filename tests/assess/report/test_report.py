"""The report: its parts add up, and everything about the file is read back from the bytes."""

import copy
import dataclasses
import json
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
import torch
from problems import classifier
from scipy.special import log_softmax
from torch import nn

import pyro_sws as sws
from pyro_sws.assess.report.lengths import components_in_use
from pyro_sws.assess.report.report import Report
from pyro_sws.codec import container
from pyro_sws.codec.paper_accounting import csr_huffman_bits
from pyro_sws.inference.fit import complexity_cost
from pyro_sws.inference.joint import joint
from pyro_sws.inference.priors import SpikeAndSlabs
from pyro_sws.weights import load as loading
from pyro_sws.weights.group import Group

TAU = 0.1
# Even shares and narrow slabs, so that the file has several levels and some weights at zero.
SEVERAL = SpikeAndSlabs(slabs=4, zero_proportion=0.3, start_deviation=0.1)
NAMED = {  # what anyone may rely on
    "format",
    "date",
    "data",
    "parameters",
    "score",
    "nonzero_percent",
    "file_bytes",
    "ratio",
    "bits",
    "ratio_paper",
    "bounds",
    "description",
    "certificate",
    "negative_elbo_nats",
    "error_cost_nats",
    "complexity_cost_nats",
    "seconds",
    "seed",
    "versions",
}


def compressed(net, inputs, targets, prior=SEVERAL, **keys):
    train = sws.Batches(inputs, targets, 20)
    return sws.compress(net, train, prior=prior, **{"tau": TAU, "epochs": 3, "seed": 4} | keys)


@pytest.fixture(scope="module")
def trained():
    """The classifier, with its own labels: it makes no mistake before compression."""
    net, inputs, _ = classifier()
    return net, inputs, net(inputs).argmax(1)


@pytest.fixture(scope="module")
def result(trained):
    net, inputs, targets = trained
    return compressed(net, inputs, targets, test=[(inputs[:20], targets[:20])])


@pytest.fixture(scope="module")
def partial(trained):
    """Only the weights are covered: both biases are stored raw."""
    return compressed(*trained, prior=[sws.Rule(SEVERAL, "*.weight", "weights")])


def mistakes(net, inputs, targets):
    return int((net(inputs).argmax(1) != targets).sum())


def test_it_has_all_that_anyone_may_rely_on(result):
    report = result.report.to_dict()
    assert report.keys() >= NAMED
    assert {"name", "unit", "before", "posterior", "quantized", "decoded"} <= report["score"].keys()
    assert report["versions"].keys() >= {"python", "pyro-sws", "torch", "pyro-ppl", "numpy"}
    assert report["seed"] == 4 and report["tau"] == TAU
    assert sum(report["seconds"].values()) > 0


@pytest.mark.parametrize("which", ["result", "partial"])
def test_it_is_json_without_nan_and_reads_back_the_same(which, request):
    report = request.getfixturevalue(which).report.to_dict()
    text = json.dumps(report, allow_nan=False)
    assert json.loads(text) == report


@pytest.mark.parametrize("which", ["result", "partial"])
def test_the_bits_add_up_to_the_file(which, request):
    result = request.getfixturevalue(which)
    assert sum(result.report.bits.values()) == 8 * len(result.data) == 8 * result.report.file_bytes


def test_the_ratio_counts_every_byte_of_the_file(result):
    report = result.report
    assert report.parameters == 67 and report.parameter_bytes == 4 * 67
    assert report.ratio == 4 * 67 / len(result.data)


def test_the_ratio_of_2017_is_of_the_network_before_its_units_are_rewritten(trained):
    """The papers that count so drop weights alone."""
    _, inputs, targets = trained
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 40), nn.ReLU(), nn.Linear(40, 3))
    with torch.no_grad():
        net[2].weight[:, ::2] = 0  # half of the units are seen by nothing
    result = compressed(net, inputs, targets, fit=sws.Fitting(rates=sws.Rates(weights=0.0)))
    assert result.report.rewriting["dropped"] >= 20
    whole = 32 * 323 / csr_huffman_bits(sws.quantize(result.packed))
    assert result.report.ratio_paper == pytest.approx(whole)
    assert whole < 0.7 * 32 * 323 / csr_huffman_bits(result.quantized)


def test_parameters_given_in_double_precision_count_twice_the_bytes(trained):
    net, inputs, targets = trained
    report = compressed(net.double(), inputs, targets, epochs=1).report
    net.float()
    assert report.parameter_bytes == 8 * 67


def test_scores_are_percentages_of_mistakes_on_the_test_data(trained, result):
    inputs, targets = trained[1][:20], trained[2][:20]
    score = result.report.score
    assert (score["name"], score["unit"], score["data"]) == ("error", "percent", "test")
    assert score["examples"] == 20 and score["before"] == 0
    assert score["decoded"] == 100 * mistakes(result.decoded, inputs, targets) / 20


@pytest.mark.parametrize("which", ["result", "partial"])
def test_the_decoded_file_scores_what_the_quantised_weights_do(which, request):
    score = request.getfixturevalue(which).report.score
    assert score["decoded"] == score["quantized"]


def test_without_test_data_scores_are_on_validation_or_else_training_data(trained):
    net, inputs, targets = trained
    report = compressed(net, inputs, targets, epochs=1, validation=[(inputs[:5], targets[:5])])
    assert (report.report.score["data"], report.report.score["examples"]) == ("validation", 5)
    report = compressed(net, inputs, targets, epochs=1).report
    assert (report.score["data"], report.score["examples"]) == ("training", 60)


def test_negative_elbo_is_error_cost_and_tau_times_complexity_cost(trained, result):
    report = result.report
    total = report.error_cost_nats + TAU * report.complexity_cost_nats
    assert report.negative_elbo_nats == pytest.approx(total)
    # Each against what is not the report: numpy on the fitted weights, and the model's density.
    net, inputs, targets = trained
    own = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    own.load_state_dict(result.posterior.weights)
    log_chances = log_softmax(own(inputs).detach().double().numpy(), axis=1)
    error = -log_chances[np.arange(60), targets].sum()
    assert report.error_cost_nats == pytest.approx(error, rel=1e-5)
    model = joint(net, SEVERAL, "categorical", 60, tau=TAU)
    complexity = complexity_cost(model, result.posterior.point)
    assert report.complexity_cost_nats == pytest.approx(complexity, rel=1e-6)


def test_the_certificate_is_that_of_the_decoded_network_on_all_training_data(trained, result):
    _, inputs, targets = trained
    wrong = mistakes(result.decoded, inputs, targets)
    expected = sws.certificate_of_counts(
        len(result.data), wrong, 60, classes=3, side=sws.SideInformation()
    )
    found = {key: value for key, value in result.report.certificate.items() if key != "assumes"}
    assert found == {**dataclasses.asdict(expected), "vacuous": expected.vacuous}
    assert result.report.certificate_reason is None


def test_scored_in_bits_the_certificate_is_of_mistakes_still(trained):
    net, inputs, targets = trained
    result = compressed(net, inputs, targets, likelihood=sws.Categorical(score="bits"))
    report = result.report
    own = log_softmax(net(inputs).detach().double().numpy(), 1)[np.arange(60), targets]
    before = -own.mean() / np.log(2)
    assert (report.score["name"], report.score["unit"]) == ("bits", "bits")
    assert report.score["before"] == pytest.approx(before, rel=1e-5)
    wrong = mistakes(result.decoded, inputs, targets)
    expected = sws.certificate_of_counts(
        len(result.data), wrong, 60, classes=3, side=sws.SideInformation()
    )
    assert report.certificate["training_mistakes"] == wrong
    assert report.certificate["bound_percent"] == expected.bound_percent
    assert f"perplexity: {2**before:.4g} before" in report.text()


def test_the_certificate_is_of_the_examples_that_count(trained):
    net, inputs, targets = trained
    labels = targets.clone()
    labels[:15] = -100
    likelihood = sws.Categorical(ignore_index=-100)
    result = compressed(net, inputs, labels, likelihood=likelihood)
    wrong = mistakes(result.decoded, inputs[15:], targets[15:])
    found = result.report.certificate
    assert (found["training_mistakes"], found["training_examples"]) == (wrong, 45)
    expected = sws.certificate_of_counts(
        len(result.data), wrong, 45, classes=3, side=sws.SideInformation()
    )
    assert found["bound_percent"] == expected.bound_percent
    assert result.report.score["examples"] == 45 and result.report.data["training"] == 60


def test_regression_has_no_certificate_but_a_reason():
    inputs = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    targets, net = inputs[:, :1], nn.Linear(4, 1)
    report = compressed(net, inputs, targets, likelihood="gaussian", epochs=1).report
    assert report.certificate is None and "loss of 0 or 1" in report.certificate_reason
    assert (report.score["name"], report.score["unit"]) == ("rmse", "target units")
    rmse = (net(inputs) - targets).detach().square().mean().sqrt()
    assert report.score["before"] == pytest.approx(rmse.item(), rel=1e-5)
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_sequence_half_wrong_is_no_mistake_of_zero_or_one():
    inputs = torch.zeros(60, 2, 3)
    targets = torch.tensor([[0, 1]]).expand(60, 2).contiguous()  # one is right, whatever comes
    report = compressed(nn.Linear(3, 2), inputs, targets, epochs=1).report
    assert report.certificate is None


def test_uncovered_tensors_are_listed_warned_of_and_stored_raw(trained, partial):
    report, net = partial.report, trained[0]
    assert report.uncovered == ["0.bias", "2.bias"]
    assert report.warnings == [
        "no prior covers 0.bias, 2.bias: stored raw; add a rule that matches them"
    ]
    assert report.bits["raw"] == 16 * 11
    # The same biases, rounded; their units may stand in another order.
    assert sorted(partial.decoded[0].bias.tolist()) == sorted(net[0].bias.half().tolist())
    assert [row["name"] for row in report.tensors] == ["0.weight", "2.weight"]


def test_nonzero_weights_are_counted_raw_ones_too(partial):
    decoded = partial.decoded.state_dict()
    nonzero = sum(int((tensor != 0).sum()) for tensor in decoded.values())
    assert partial.report.nonzero_percent == pytest.approx(100 * nonzero / 67)


def test_a_covered_network_has_no_warning(result):
    assert result.report.warnings == [] and result.report.uncovered == []


def test_no_code_of_the_symbols_is_shorter_than_their_entropy(result):
    bounds = result.report.bounds
    # The empirical entropy is the shortest that any code with one table a tensor can be.
    codes = [bounds[f"{name}_bits"] for name in ("enumerative", "nml", "kt", "coder_ideal")]
    assert 0 < bounds["order0_entropy_bits"] <= min(codes)
    assert bounds["order0_entropy_bits"] < bounds["mixture_cross_entropy_bits"]
    # What the coder should need is what it needs, to the last bytes of its range.
    needed = result.report.bits["symbols"]
    assert bounds["coder_ideal_bits"] <= needed < bounds["coder_ideal_bits"] + 40


def test_tensors_and_groups_add_up(result):
    report = result.report
    assert sum(row["weights"] for row in report.tensors) == 67
    nonzero = sum(row["nonzero"] for row in report.tensors)
    assert report.nonzero_percent == pytest.approx(100 * nonzero / 67)
    (group,) = report.groups.values()
    assert group["weights"] == 67 and group["components_before_merging"] == 5
    assert sum(group["proportions"]) == pytest.approx(1)
    merged_away = sum(len(cluster) - 1 for cluster in group["merged"])
    assert group["components"] == 5 - merged_away


def test_the_description_is_the_file_and_what_its_network_leaves_to_be_said(trained, result):
    _, inputs, targets = trained
    outputs = result.decoded(inputs).detach().double().numpy()
    log_chances = log_softmax(outputs, axis=1)[np.arange(60), targets]
    label_bits = -log_chances.sum() / np.log(2)
    found = result.report.description
    assert found["file_bits"] == 8 * len(result.data)
    assert found["label_bits"] == pytest.approx(label_bits, rel=1e-5)
    assert found["total_bits"] == pytest.approx(8 * len(result.data) + label_bits, rel=1e-6)


def test_the_format_comes_first_and_the_report_is_read_back_whole(result, partial):
    for report in (result.report, partial.report):
        table = json.loads(json.dumps(report.to_dict()))
        assert next(iter(table)) == "format" and table["format"] == 1
        assert Report.from_dict(table) == report


def older(report, *without):
    table = json.loads(json.dumps(report.to_dict()))
    return {key: value for key, value in table.items() if key not in without}


def test_a_report_from_before_there_were_formats_is_read(result):
    table = older(result.report, "format", "date", "command", "data", "refinement")
    found = Report.from_dict(table)
    assert found == dataclasses.replace(result.report, date=None, data=None)
    assert found.score["decoded"] == result.report.score["decoded"]


@pytest.mark.parametrize("key", ["description", "score", "tau"])
def test_a_report_that_lacks_what_it_must_have_is_refused_with_the_remedy(result, key):
    with pytest.raises(ValueError, match=rf"no {key}: .* make the run again"):
        Report.from_dict(older(result.report, key))


def test_a_group_without_its_effective_components_is_refused_by_its_path(result):
    table = older(result.report)
    del table["groups"]["all"]["effective_components"]
    with pytest.raises(ValueError, match=r"no groups\.all\.effective_components: "):
        Report.from_dict(table)


@pytest.mark.parametrize("number", [3, 0, "1", None])
def test_a_format_of_another_build_is_refused(result, number):
    with pytest.raises(ValueError, match=f"report is format {number}; this build reads up to 1"):
        Report.from_dict(older(result.report) | {"format": number})


def test_the_report_says_when_from_what_and_how_it_was_made(trained, result):
    made = datetime.fromisoformat(result.report.date)
    assert made.utcoffset() == timedelta(0)
    assert timedelta(0) <= datetime.now(timezone.utc) - made < timedelta(hours=1)
    assert result.report.command is None
    counts = {"name": None, "training": 60, "validation": None, "test": 20}
    assert result.report.data == counts
    net, inputs, _ = trained
    report = again(trained, result, sws.Batches(inputs, trained[2], 20), command="by hand")
    assert report.command == "by hand"
    dataset = {"name": "irises", "training": 60, "validation": 7, "test": None}
    report = again(trained, result, [(inputs, trained[2])], dataset=dataset)
    assert report.data == dataset
    zone = timezone(timedelta(hours=2))
    noon = datetime(2026, 1, 2, 12, tzinfo=zone)
    report = again(trained, result, [(inputs, trained[2])], date=noon)
    assert report.date == "2026-01-02T10:00:00+00:00"


def again(trained, result, train, **more):
    """The report on the same file, measured anew."""
    net = trained[0]
    model = joint(net, SEVERAL, "categorical", 60, tau=TAU)
    snapped = sws.quantize(result.packed)
    arguments = {"merged": result.packed, **more}
    return sws.report(net, model, result.posterior, snapped, result.data, train, **arguments)


class Counted(list):
    """Batches that count how often they are walked through."""

    walks = 0

    def __iter__(self):
        self.walks += 1
        return super().__iter__()


def test_each_split_is_walked_through_once(trained, result):
    _, inputs, targets = trained
    train, test = (Counted([(inputs[:n], targets[:n])]) for n in (60, 20))
    report = again(trained, result, train, test=test)
    assert (train.walks, test.walks) == (1, 1)
    assert report.score == result.report.score
    alone = again(trained, result, train)
    assert train.walks == 2 and alone.score["examples"] == 60
    assert alone.error_cost_nats == report.error_cost_nats
    assert alone.certificate == report.certificate  # of pieces: what they assume is not known


def test_the_file_is_decoded_once_the_network_copied_once_and_nothing_encoded(
    trained, result, monkeypatch
):
    net, inputs, targets = trained
    model = joint(net, SEVERAL, "categorical", 60, tau=TAU)
    snapped, done = sws.quantize(result.packed), []

    def counted(module, name, of=object):
        own = getattr(module, name)

        def call(first, *rest, **keys):
            if isinstance(first, of):
                done.append(name)
            return own(first, *rest, **keys)

        monkeypatch.setattr(module, name, call)

    counted(loading, "decode")
    counted(container.Stream, "finish")  # how each encoding ends, and each decoding
    counted(copy, "deepcopy", nn.Module)
    sws.report(net, model, result.posterior, snapped, result.data, [(inputs, targets)])
    assert sorted(done) == ["decode", "deepcopy", "finish"]


@pytest.mark.parametrize("fingerprint", [True, False])
def test_the_other_kind_of_file_is_as_long_as_it_would_be(trained, fingerprint):
    result = compressed(*trained, packing=sws.Packing(fingerprint=fingerprint), epochs=1)
    shapes = sws.architecture(trained[0])
    assert result.report.variants == {
        "self_contained": len(sws.encode(result.quantized)),
        "fingerprint": len(sws.encode(result.quantized, architecture=shapes)),
    }


def quantized_as(counts):
    """Two tensors of one codebook, in which each value occurs so often."""
    symbols = np.repeat(np.arange(len(counts)), list(counts.values())).astype(np.uint8)
    half = len(symbols) // 2
    parts = {"a": symbols[:half], "b": symbols[half:]}
    book = {"all": np.array(list(counts), np.float16)}
    group = Group("all", {name: part.shape for name, part in parts.items()})
    return sws.Quantized(parts, book, dict.fromkeys(parts, "all")), group


@pytest.mark.parametrize(
    ("counts", "used", "effective"),
    [
        ({0.0: 50, 0.5: 7, -0.5: 7}, 3, 2.0),  # two that are equally common, however many zeros
        ({0.5: 6, -0.5: 6, 0.25: 6, 1.0: 6}, 4, 4.0),
        ({0.0: 9, 0.5: 8, 0.25: 0}, 2, 1.0),  # a value that no weight takes is none
        ({0.0: 9}, 1, 0.0),
        ({0.5: 1, 0.25: 3}, 2, 4 / 27**0.25),  # exp(log(4) / 4 + 3/4 log(4/3))
    ],
)
def test_effective_components_are_exp_of_the_entropy_of_the_values_in_use(counts, used, effective):
    found = components_in_use(*quantized_as(counts))
    assert found["used_components"] == used
    assert found["effective_components"] == pytest.approx(effective, rel=1e-12)


def test_values_of_two_codebooks_count_as_one_where_they_are_equal():
    symbols = {"a": np.zeros(4, np.uint8), "b": np.zeros(4, np.uint8), "c": np.ones(4, np.uint8)}
    books = {"x": np.array([0.5], np.float16), "y": np.array([0.5, 2.0], np.float16)}
    quantized = sws.Quantized(symbols, books, {"a": "x", "b": "y", "c": "y"})
    found = components_in_use(quantized, Group("g", {name: (4,) for name in symbols}))
    assert found["used_components"] == 2
    assert found["effective_components"] == pytest.approx(3 / 4 ** (1 / 3))  # shares 2/3 and 1/3


def test_the_report_has_the_components_in_use_by_group(result, partial):
    for report in (result.report, partial.report):
        (group,) = report.groups.values()
        assert 1 <= group["used_components"] <= group["components"]
        assert group["effective_components"] <= group["used_components"]


def test_the_report_says_how_the_density_was_computed(result):
    (group,) = result.report.groups.values()
    assert group["density"] == {
        "name": "portable",
        "reason": "67 weights, and compiling pays from 100000",
        "prior_subsample": None,
    }


def test_the_text_says_the_main_numbers(result, partial):
    text = result.report.text()
    assert f"file: {len(result.data):,} bytes" in text and "67 parameters" in text
    assert "\ncertificate: " in text and "\nwarning" not in text
    assert "warning: no prior covers 0.bias" in partial.report.text()
