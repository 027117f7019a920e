"""The table of code lengths, by hand."""


def test_code_lengths_are_means_over_the_runs_that_have_them(script):
    lengths = {"prior": 300.0, "order0": 200.0, "symbols": 100, "codebooks": 16}
    point = {"network": "lenet_5_caffe", "method": "mixture", "name": "tau 1"}
    points = [
        point | {"code_bits": lengths},
        point,
        point | {"code_bits": lengths | {"prior": 500}},
    ]
    rows = [{"variant": "trial", "code_bits": lengths}, {"variant": "change"}]
    table = script("frontier.code_tables").code_table(
        {"points": points}, {"lenet_5_caffe": {"rows": rows}}
    )
    assert table.splitlines()[2:] == [
        "| LeNet-5-Caffe | mixture, tau 1 | 400 | 200 | 100 | 16 | 2 |",
        "| LeNet-5-Caffe | the paper's method: the best trial | 300 | 200 | 100 | 16 | 1 |",
    ]
