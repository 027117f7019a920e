"""The page holds the report's numbers, needs no other file, and takes whatever report it gets."""

import json
import re
from html.parser import HTMLParser

import pytest

from pyro_sws.assess.report.page import page

REPORT = {
    "network": "LeNet300100",
    "parameters": 266_610,
    "parameter_bytes": 1_066_440,
    "file_bytes": 16_742,
    "ratio": 63.6984,
    "score": {
        "name": "error",
        "unit": "percent",
        "data": "test",
        "examples": 10_000,
        "before": 1.89,
        "posterior": 1.80,
        "quantized": 1.95,
        "decoded": 1.94,
    },
    "nonzero_percent": 2.97,
    "bits": {"header": 1696, "codebooks": 272, "symbols": 131_936, "raw": 0, "checksum": 32},
    "ratio_paper": 52.3,
    "bounds": {
        "order0_entropy_bits": 133_064.0,
        "enumerative_bits": 133_100.0,
        "nml_bits": 133_200.0,
        "coder_ideal_bits": 131_904.0,
        "mixture_cross_entropy_bits": 152_088.0,
    },
    "description": {"file_bits": 133_936, "label_bits": 2567.25, "total_bits": 136_503.25},
    "certificate": {
        "bound_percent": 23.4,
        "training_mistakes": 612,
        "training_examples": 60_000,
        "description_bits": 133_968.0,
        "delta": 0.05,
        "vacuous": False,
    },
    "certificate_reason": None,
    "tau": 0.03,
    "negative_elbo_nats": -31_234.5,
    "error_cost_nats": 1234.5,
    "complexity_cost_nats": -1_082_300.0,
    "seconds": {"fit": 312.4},
    "seed": 7,
    "versions": {"torch": "2.13.0"},
    "groups": {
        "all": {
            "family": "SpikeAndSlabs",
            "weights": 266_610,
            "tensors": ["0.weight"],
            "components": 10,
            "components_before_merging": 17,
            "used_components": 9,
            "effective_components": 6.25,
            "merged": [[1, 2, 3]],
        }
    },
    "tensors": [
        {
            "name": "0.weight",
            "shape": [300, 784],
            "weights": 235_200,
            "nonzero": 5100,
            "bits": 78_400.0,
        }
    ],
    "raw": [
        {
            "name": "bn.running_var",
            "shape": [300],
            "given": "float32",
            "stored": "float32",
            "coding": "logarithmic grid",
            "bytes": 304,
            "largest_error": 0.0123,
            "largest_relative_error": 0.0078,
        }
    ],
    "uncovered": ["bn.weight"],
    "warnings": ["no prior covers bn.weight"],
}


class Reader(HTMLParser):
    """Collects the text, the tags and every attribute's value; checks that tags are closed."""

    VOID = {"meta", "img", "br", "link"}

    def __init__(self, html):
        super().__init__()
        self.words, self.tags, self.attributes, self.open = [], [], [], []
        self.feed(html)
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


PNG = b"\x89PNG\r\n\x1a\n"


def test_the_page_says_bytes_ratio_and_both_scores():
    text = Reader(page(REPORT, {})).text
    for said in ("16,742 bytes", "1,066,440 bytes", "63.7×", "1.89% → 1.94%", "+0.05 points"):
        assert said in text


def test_the_bits_add_up_to_the_file():
    text = Reader(page(REPORT, {})).text
    assert re.search(r"symbols 16,492 98\.5%", text)
    assert "checksum 4 < 0.1%" in text
    assert "whole file 16,742 100.0%" in text
    assert "stored raw" in text and "raw 0" not in text


def test_the_bar_is_as_wide_as_the_shares():
    styles = [value for name, value in Reader(page(REPORT, {})).attributes if name == "style"]
    widths = [float(m[1]) for s in styles if (m := re.match(r"width:([\d.]+)%", s))]
    assert sum(widths) == pytest.approx(100, abs=1e-3)
    assert widths[0] == pytest.approx(100 * 131_936 / 133_936, abs=1e-3)


def test_the_page_needs_no_other_file():
    reader = Reader(page(REPORT, {"curves": (PNG, "Costs by epoch")}, 'url = "http://x.org"'))
    links = [v for name, v in reader.attributes if name in {"src", "href", "srcset", "data"}]
    assert [link[:22] for link in links] == ["data:image/png;base64,"]
    assert not {"script", "link", "iframe", "object"} & set(reader.tags)
    style = page(REPORT, {}).split("<style>")[1].split("</style>")[0]
    assert "url(" not in style and "@import" not in style


def test_a_figure_has_alternative_text_and_a_caption():
    reader = Reader(page(REPORT, {"curves": (PNG, 'Costs by "epoch"')}))
    assert ("alt", 'Costs by "epoch"') in reader.attributes
    assert 'Costs by "epoch"' in reader.text


@pytest.mark.parametrize("where", ["network", "warning", "tensor", "group", "recipe", "caption"])
def test_hostile_text_is_only_text(where):
    hostile = '"><script>alert(1)</script>'
    report = json.loads(json.dumps(REPORT))
    recipe, caption = (hostile if where == key else "" for key in ("recipe", "caption"))
    if where == "network":
        report["network"] = hostile
    if where == "warning":
        report["warnings"] = [hostile]
    if where == "tensor":
        report["tensors"][0]["name"] = hostile
    if where == "group":
        report["groups"] = {hostile: REPORT["groups"]["all"]}
    reader = Reader(page(report, {"f": (PNG, caption)}, recipe))
    assert "script" not in reader.tags
    assert hostile in reader.text


def test_the_order_0_bound_is_called_what_it_is():
    text = Reader(page(REPORT, {})).text
    assert "memoryless (order-0) bound 16,633" in text
    assert "can go below it, and so can the file" in text


def test_what_the_file_spends_on_its_symbols_is_one_row():
    text = Reader(page(REPORT, {})).text
    assert text.count("symbols in this file 16,492") == 1
    assert "this file's coder" not in text and "16,488" not in text  # bounds.coder_ideal_bits


@pytest.mark.parametrize(
    ("silent", "dropped", "folded", "said"),
    [
        (254, 150, 0, "104 had no weights to begin with; 150 were dropped"),
        (30, 20, 10, "0 had no weights to begin with; 20 were dropped"),
    ],
)
def test_the_hidden_units_sum_to_all_of_them(silent, dropped, folded, said):
    rewriting = {"hidden": 400, "silent": silent, "dropped": dropped, "folded": folded}
    text = Reader(page(REPORT | {"rewriting": {**rewriting, "largest_difference": None}}, {})).text
    assert said in text
    sentence = text[text.index("400 hidden units") :].partition(" left")[0]
    hidden, *parts = map(int, re.findall(r"\d+", sentence))
    assert hidden == sum(parts) == 400 and parts[2] == folded


def test_what_was_left_alone_in_rewriting_is_said_with_the_reason():
    rewriting = {"left_alone": {f"layer{k}.weight": "cumsum" for k in range(20)}}
    text = Reader(page(REPORT | {"rewriting": rewriting}, {})).text
    assert "layer0.weight : cumsum" in text and "and 8 more" in text
    assert "stay in the order" not in Reader(page(REPORT | {"rewriting": {}}, {})).text


def test_when_how_and_from_what_it_was_made():
    data = {"name": "data.py:mnist", "training": 60_000, "validation": None, "test": 10_000}
    more = {"date": "2026-11-30T08:59:56+00:00", "command": "pyro-sws run a.toml", "data": data}
    text = Reader(page(REPORT | more, {})).text
    assert "Made on 2026-11-30 08:59 UTC by pyro-sws run a.toml" in text
    assert "Data data.py:mnist : 60,000 training and 10,000 test examples" in text
    text = Reader(page(REPORT | {"data": data | {"validation": 5}}, {})).text
    assert "60,000 training, 5 validation and 10,000 test examples" in text
    assert "Made" not in text
    assert "Made on" not in Reader(page(REPORT, {})).text


def test_the_lines_that_load_the_file_are_there():
    text = Reader(page(REPORT, {})).text
    assert "import pyro_sws as sws net = LeNet300100(...)" in text
    assert 'sws.load("model.sws", into=net)' in text and "fingerprint in place" not in text


@pytest.mark.parametrize("size", [16_742, 16_700])
def test_only_a_file_with_a_fingerprint_is_said_to_have_one(size):
    more = {"file_bytes": size, "variants": {"self_contained": 16_742, "fingerprint": 16_700}}
    said = "The file has a fingerprint in place of" in Reader(page(REPORT | more, {})).text
    assert said == (size == 16_700)


def test_the_accounting_of_2017_is_labelled_as_such():
    text = Reader(page(REPORT, {})).text
    assert re.search(r"accounting of 2017 .* 52\.3× .*no file of that kind exists", text)


def test_the_file_and_the_labels_add_up_to_the_total_description():
    text = Reader(page(REPORT, {})).text
    assert "the file 133,936" in text and "given that network 2,567" in text
    assert "total description 136,503" in text


def test_a_raw_tensor_has_its_dtype_bytes_and_largest_error():
    told = Reader(page(REPORT, {})).text
    assert "bn.running_var 300 float32 float32, logarithmic grid 304 0.012 0.0078" in told


def test_a_group_has_its_values_in_use_beside_its_components():
    assert "266,610 17 10 9 6.2 0.weight" in Reader(page(REPORT, {})).text


def test_the_certificate_reads_as_a_sentence():
    text = Reader(page(REPORT, {})).text
    assert "With probability 0.95" in text and "at most 23.4% of unseen" in text
    assert "612 mistakes on 60,000 training examples" in text
    assert "vacuous" not in text


def test_a_vacuous_certificate_says_so():
    certificate = REPORT["certificate"] | {"bound_percent": 97.0, "vacuous": True}
    text = Reader(page(REPORT | {"certificate": certificate}, {})).text
    assert "certificate is vacuous: it proves that at most 97.0%" in text
    assert "What the file proves" not in text  # a line, and no section


@pytest.mark.parametrize("vacuous", [True, False])
def test_what_a_certificate_assumes_is_listed(vacuous):
    lines = ["the first <of> two", "7 of 67 test examples"]
    certificate = REPORT["certificate"] | {"vacuous": vacuous, "assumes": lines}
    text = Reader(page(REPORT | {"certificate": certificate}, {})).text
    assert "The certificate assumes: the first <of> two 7 of 67 test examples" in text
    assert "This assumes independent examples" not in text
    assert "The certificate assumes" not in Reader(page(REPORT, {})).text


def test_without_a_certificate_the_page_says_why():
    report = REPORT | {"certificate": None, "certificate_reason": "the score is not a 0/1 loss"}
    assert "no certificate: the score is not a 0/1 loss" in Reader(page(report, {})).text


def test_the_standard_error_is_the_binomial_one():  # sqrt(0.0194 x 0.9806 / 10,000) = 0.138 points
    assert "standard error of one score is about 0.14 points" in Reader(page(REPORT, {})).text
    # Without a mistake in 58 it is sqrt(1/60 x 59/60 / 58) = 1.68 points.
    none_wrong = {**REPORT, "score": {**REPORT["score"], "decoded": 0.0, "examples": 58}}
    assert "standard error of one score is about 1.68 points" in Reader(page(none_wrong, {})).text


def test_scores_that_are_no_percentage_keep_their_unit():
    score = {"name": "nll", "unit": "nats", "data": "training", "before": 0.25, "decoded": -0.5}
    text = Reader(page(REPORT | {"score": score}, {})).text
    assert "0.25 → −0.5 nats" in text and "−0.75 nats" in text
    assert "says nothing about unseen data" in text
    assert "standard error" not in text


def test_bits_have_their_perplexity_beside_them():
    score = {"name": "bits", "unit": "bits", "data": "test", "before": 3.0, "decoded": 3.5}
    text = Reader(page(REPORT | {"score": score}, {})).text
    assert "is 8 as given and 11.31 decoded from the file" in text  # 2^3 and 2^3.5
    assert "perplexity" not in Reader(page(REPORT, {})).text


@pytest.mark.parametrize("key", sorted(REPORT))
def test_any_one_key_may_be_missing(key):
    report = {k: v for k, v in REPORT.items() if k != key}
    assert "Compression ratio" in Reader(page(report, {})).text


@pytest.mark.parametrize(
    "key", ["score", "bounds", "description", "certificate", "tensors", "groups", "raw"]
)
def test_a_part_may_be_empty_or_have_unknown_rows(key):
    empty = [{}] if isinstance(REPORT[key], list) else {"x": {}}
    for value in (empty, None):
        assert "Compression ratio" in Reader(page(REPORT | {key: value}, {})).text


def test_an_empty_report_is_a_page_still():
    assert "–" in Reader(page({}, {})).text


def test_settings_versions_and_recipe_come_last():
    text = Reader(page(REPORT, {}, "tau = 0.03 # <recipe>")).text
    for said in ("seed 7", "torch 2.13.0", "−31,234.5 nats", "time to fit 312.4 s"):
        assert said in text
    assert text.endswith("tau = 0.03 # <recipe>")


def test_diagnostics_and_their_figures_stand_before_the_others():
    diagnostics = {"guide": "delta", "mixture": {}, "snapping": {"tensors": []}}
    figures, own = {"a": (PNG, "of the run")}, {"b": (PNG, "of the diagnostics")}
    text = Reader(page(REPORT, figures, None, diagnostics, own)).text
    places = [text.index(said) for said in ("Diagnostics", "of the diagnostics", "of the run")]
    assert places == sorted(places)
    assert "Diagnostics" not in Reader(page(REPORT, figures)).text
