"""The ablation: what a part is worth is read off pairs that differ in nothing else."""

import itertools
from pathlib import Path

import pytest

FACTORS = {"gammas": 1.1, "zeros": 1.2, "merging": 1.0, "refinement": 2.0, "coder": 1.3}


def rows():
    """All 32 combinations; leaving a part out multiplies 1,000 bytes by its factor."""
    choices = {part: [True, False] for part in ("gammas", "merging", "refinement")}
    choices |= {"zeros": ["fixed", "Beta"], "coder": ["contexts", "order-0"]}
    for parts in itertools.product(*choices.values()):
        row = dict(zip(choices, parts, strict=True))
        size = 1000.0
        for part, factor in FACTORS.items():
            size *= 1.0 if row[part] == choices[part][0] else factor
        path = [{"file_bytes": size, "error_percent": 2.0, "components": 8, "seeds": [0]}] * 2
        yield {**row, "path": path, "bytes_at_target": size}


def test_a_parts_effect_is_that_of_leaving_it_out(script):
    effects = script("ablation.ablation").effects(list(rows()))
    for part, factor in FACTORS.items():
        percent = pytest.approx(100 * (factor - 1))
        assert effects[part] == {"mean": percent, "least": percent, "most": percent}


def test_a_combination_without_its_pair_says_nothing(script):
    found = [row for row in rows() if row["refinement"]]
    assert "refinement" not in script("ablation.ablation").effects(found)


def test_combinations_over_other_seeds_are_not_compared(script):
    found = list(rows())
    for row in found:
        if row["coder"] == "order-0":
            row["path"] = [{**point, "seeds": [0, 1]} for point in row["path"]]
    effects = script("ablation.ablation").effects(found)
    assert "coder" not in effects and "gammas" in effects


def test_bytes_are_those_at_the_targets_error(script):
    module = script("ablation.ablation")
    path = {
        tau: [
            {"file_bytes": size, "error_percent": error, "nonzero_percent": 1.0, "components": 9}
            | {"seeds": [seed]}
            for seed in (0, 1)
        ]
        for tau, size, error in ((0.1, 4000, module.TARGET - 0.1), (0.4, 1000, module.TARGET + 0.1))
    }
    row = module._combination({}, path)
    assert row["bytes_at_target"] == pytest.approx(2000)  # halfway in logarithms
    broken = {
        tau: [{**file, "error_percent": 90.0} for file in files] for tau, files in path.items()
    }
    assert module._combination({}, broken)["bytes_at_target"] is None


def test_means_over_other_seeds_are_taken_in_once(script, monkeypatch, tmp_path):
    module = script("ablation.ablation")
    sizes = {0: 1000, 1: 4000, 2: 2700}

    def kept(run, folder):
        file = {"merging": True, "coder": "contexts", "file_bytes": sizes[run.seed]}
        numbers = {"error_percent": 1.0 + run.seed, "nonzero_percent": 1.0, "components": 8}
        return {"files": [{**file, **numbers}]}

    monkeypatch.setattr(module.AblationRun, "kept", kept)
    together = module.collected([0, 1, 2], tmp_path)
    earlier = module.collected([0, 1], tmp_path)
    for seeds in ([2], [0, 2], [0, 1, 2]):
        point = module.collected(seeds, tmp_path, earlier)[0]["path"][0]
        # A mean over 0 and 1 cannot be told apart: where 0 is at hand again, it goes.
        assert point.pop("seeds") == ([0, 2] if seeds == [0, 2] else [0, 1, 2])
        if seeds != [0, 2]:
            assert point == pytest.approx({k: together[0]["path"][0][k] for k in point})
    assert together[0]["path"][0]["file_bytes"] == pytest.approx((1000 * 4000 * 2700) ** (1 / 3))
    assert together[0]["path"][0]["error_percent"] == pytest.approx(2.0)


def test_the_runs_are_all_combinations_and_differ(script):
    module = script("ablation.ablation")
    runs = list(module.runs([0, 1]))
    assert len(runs) == len({run.path(Path()) for run in runs}) == 2 * 2 * 2 * 2 * 2
    assert {run.changes for run in runs if not run.gammas} != {
        run.changes for run in runs if run.gammas
    }


def test_the_table_has_a_row_a_combination(script):
    found = {"target_error_percent": 2.2, "rows": list(rows())}
    found["effects"] = script("ablation.ablation").effects(found["rows"])
    lines = script("ablation.tables").ablation_table(found, "as measured").splitlines()
    assert sum(line.startswith(("| yes", "| no")) for line in lines) == 16
    assert lines[2].startswith("| yes | yes | fixed | yes | 1,000 at 2.00 % | 1,000")
    assert lines[2].split("|")[7:9] == [" 1,000 ", " 1,300 "]
    assert "- no refinement, as many epochs of fitting instead: +100 % (+100 to +100)" in lines
