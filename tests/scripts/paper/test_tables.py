"""The tables of the paper's method, by hand."""

NETWORK = "lenet_300_100"


def test_the_table_has_means_over_seeds_beside_the_published_rows(script):
    ours = {
        "error_before_percent": 1.65,
        "nonzero_percent_snapped": 5.25,
        "name": "Gammas",
        "start": None,
    }
    rows = [
        {"variant": "trial", "error_percent": 2.0, "ratio_paper": 60.0, **ours},
        {"variant": "trial", "error_percent": 2.2, "ratio_paper": 64.0, **ours},
    ]
    sizes = [
        {"ratio_paper_rewritten": 66.0, "file_bytes": 10_000, "ratio": 106.6},
        {"ratio_paper_rewritten": 70.0, "file_bytes": 11_000, "ratio": 97.0},
    ]
    published = {
        "method": "Ullrich et al. 2017",
        "error_before_percent": 1.89,
        "error_percent": 1.94,
        "nonzero_percent": 4.3,
        "ratio_paper": 64,
    }
    part = {
        "published": [published],
        "rows": [row | size for row, size in zip(rows, sizes, strict=True)],
    }
    found = {NETWORK: part, "_about": {"published": "table 1"}}
    table = script("paper.tables").paper_table(found, "`a command`").splitlines()
    assert table[2] == (
        "| LeNet-300-100 | Ullrich et al. 2017 | 1.89 % | 1.94 % | 4.3 % | 64 | - | - | - | - |"
    )
    assert table[3] == (
        "| LeNet-300-100 | this package, the best trial | 1.65 % | 2.10 % (2.00-2.20) "
        "| 5.2 % | 62 | 68 | 10,500 | 102 | 2 |"
    )
    assert "- LeNet-300-100, the best trial: Gammas" in table
    assert table[-2:] == ["Published: table 1; there are no files.", "`a command`"]
