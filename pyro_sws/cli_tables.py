"""The command line's tables: from what was found to rich tables, which ``cli`` prints."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table
from rich.text import Text

if TYPE_CHECKING:  # the command line's help needs none of their libraries
    from pyro_sws.assess.diagnostics import Diagnostics, MixtureDiagnostics
    from pyro_sws.assess.point.calibration import CalibrationStage
    from pyro_sws.assess.point.quantization_cost import QuantizationCostSummary
    from pyro_sws.assess.prior.description import GroupDescription
    from pyro_sws.assess.prior.predictive import PriorPredictiveSummary
    from pyro_sws.assess.report.report import Report
    from pyro_sws.compression.checkpoints.shrink import Shrunk
    from pyro_sws.tuning.result import SearchResult


def run_table(report: "Report") -> Table:
    """Bytes, score and zeros before and after."""
    from pyro_sws.assess.report.filters import score as shown

    score = report.score
    before, decoded = (shown(score[key], score["unit"]) for key in ("before", "decoded"))
    table = Table("", "before", "after", title=report.network)
    table.add_row("bytes", f"{report.parameter_bytes:,}", f"{report.file_bytes:,}")
    table.add_row("ratio", "1", f"{report.ratio:.1f}")
    table.add_row(
        f"{score['data']} {score['name']}",
        before,
        f"{decoded} (decoded from the file)",
    )
    table.add_row("non-zero weights", "100%", f"{report.nonzero_percent:.2f}%")
    return table


def shrunk_table(shrunk: "Shrunk") -> Table:
    """Each tensor's bits and error."""
    table = Table("tensor", "shape", "dtype", "bits a weight", "relative squared error")
    for row in shrunk.rows:
        shape = " x ".join(map(str, row.shape)) or "scalar"
        name = Text(row.name, overflow="fold")
        table.add_row(name, shape, row.dtype, f"{row.bits:.3g}", f"{row.relative_error:.3g}")
    return table


def front_table(search: "SearchResult") -> Table:
    """The Pareto front, and how many trials there were."""
    likelihood = search.plan.base.likelihood
    unit = " %" if likelihood.score_unit == "percent" else ""
    states = Counter(trial.state for trial in search.trials)
    title = f"{search.plan.name}: {', '.join(f'{n} {state}' for state, n in states.items())}"
    table = Table("trial", "bytes", f"validation {likelihood.score_name}", "at", title=title)
    for trial in search.front:
        at = "\n".join(f"{path} = {_setting(value)}" for path, value in trial.params.items())
        cells = str(trial.number), f"{trial.file_bytes:,}", f"{trial.score:.4g}{unit}"
        table.add_row(*cells, Text(at, overflow="fold"))
    return table


def trials_table(trials: Sequence[Mapping[str, Any]]) -> Table:
    """Each of these trials, as search.json has it, and what became of it."""
    table = Table("trial", "became", "bytes", "score", "at", title=f"{len(trials)} made now")
    for trial in trials:
        at = "\n".join(f"{path} = {_setting(value)}" for path, value in trial["params"].items())
        size, score = trial["file_bytes"], trial["score"]
        cells = ["-" if size is None else f"{size:,}", "-" if score is None else f"{score:.4g}"]
        table.add_row(str(trial["number"]), trial["state"], *cells, Text(at, overflow="fold"))
    return table


def _setting(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def assignments_table(
    diagnostics: "Diagnostics", snapping: "QuantizationCostSummary | None"
) -> Table:
    """By tensor: how many assignments are unsure, and what snapping it costs, if that is known."""
    headings = f"surest value below {diagnostics['certainty']['sure']:g}", "nearly tied"
    rows = {row["name"]: row for row in diagnostics["certainty"]["tensors"]}
    if snapping is None:
        table = Table("tensor", "weights", *headings, title="assignments")
        for name, own in rows.items():
            table.add_row(name, *(f"{n:,}" for n in (own["weights"], own["between"], own["tied"])))
        return table
    title = f"assignments; on {diagnostics['data']} data"
    costs = "error cost, nats", snapping["score"]["name"]
    table = Table("tensor", "weights", *headings, *costs, title=title)
    for cost in snapping["tensors"]:
        row = rows.get(cost["name"])  # none where a grid rounds
        changes = f"{cost['error_cost_nats']:+,.1f}", f"{cost['score']:+.3g}"
        known = None if row is None else (row["weights"], row["between"], row["tied"])
        counts = ["-"] * 3 if known is None else [f"{count:,}" for count in known]
        table.add_row(cost["name"], *counts, *changes)
    change = snapping["change"]
    table.add_row(
        "all", "", "", "", f"{change['error_cost_nats']:+,.1f}", f"{change['score']:+.3g}"
    )
    return table


def mixture_table(name: str, mixture: "MixtureDiagnostics") -> Table:
    """By component, posterior mean and deviation of what it is."""
    from pyro_sws.assess.report.page import by_component

    if mixture["method"] == "nuts":
        chains = f"{mixture['chains']} chains of {mixture['draws']} draws by NUTS"
        trust = f"R-hat up to {_figure(mixture['largest_r_hat'])}, "
        trust += f"ESS from {_figure(mixture['least_ess'])}, {mixture['divergences']} divergences"
        title = f"{name} given the weights, {chains}: {trust}"
    else:
        title = f"{name} given the weights, by Laplace: k-hat {_figure(mixture['khat'])}"
    table = Table("component", "mean", "deviation", "proportion", title=title)
    for component, row in by_component(mixture["rows"]).items():
        cells = (row.get(kind) for kind in ("means", "deviations", "proportions"))
        shown = (f"{c['mean']:.4g} +- {c['sd']:.2g}" if c else "-" for c in cells)
        table.add_row(component, *shown)
    return table


def calibration_table(data: str | None, stages: "Mapping[str, CalibrationStage]") -> Table:
    """By network, from the calibration of diagnostics.json."""
    chance = "ECE by chance, 95 %"
    title = f"calibration on {data} data"
    table = Table("network", "accuracy", "NLL, nats", "Brier", "ECE", chance, title=title)
    for stage, row in stages.items():
        shares = _percent(row["ece"]), _percent(row["ece_by_chance_high"])
        scores = f"{row['nll_nats']:.4g}", f"{row['brier']:.4g}"
        table.add_row(stage, _percent(row["accuracy"]), *scores, *shares)
    return table


def group_table(name: str, group: "GroupDescription") -> Table:
    """Of a prior's group: its summary, and the range of what was drawn from the prior."""
    table = Table("what", "value", title=f"group {name}: {group['family']}")
    for key, value in group["summary"].items():
        table.add_row(key, _figure(value))
    draws = group["draws"]
    of_draws = f"of {len(draws)} draws of the weights"
    table.add_row(f"deviation {of_draws}", _figure([draw["deviation"] for draw in draws]))
    table.add_row(f"zero share {of_draws}", _figure([draw["zero share"] for draw in draws]))
    return table


def sites_table(group: "GroupDescription") -> Table:
    """Hyperparameters, without the group's name; precisions as deviations."""
    table = Table(
        Column("learned", no_wrap=True),
        *("hyperprior", "starts at", "drawn", "strength, of its weights"),
    )
    for row in group["sites"]:
        site = row["site"].partition(".")[2]
        shown = _as_deviations if "precision" in site else _figure
        drawn = [end for draw in group["draws"] for end in draw["sites"].get(row["site"], [])]
        strength = None if row["hyperprior"] == "free" else row["strength"]
        table.add_row(
            f"{site} ({' x '.join(map(str, row['shape']))})" if row["shape"] else site,
            row["hyperprior"],
            shown(row["start"]),
            shown(drawn) if drawn else "-",
            "-" if strength is None else f"{strength:,.4g}, {_percent(row['share'])}",
        )
    return table


def _as_deviations(precisions: Sequence[float | None] | str) -> str:
    if isinstance(precisions, str):
        return _figure(precisions)
    return f"deviation {_figure([p**-0.5 for p in precisions if p])}"


def predictive_table(predictive: "PriorPredictiveSummary", weights: str) -> Table:
    """Figures of the drawn networks, beside those of the network given."""
    maximum = predictive["maximum_entropy_nats"]
    of_most = "" if maximum is None else f" (at most {maximum:.4g})"
    names = {
        "entropy_nats": f"entropy of a prediction, nats{of_most}",
        "output_deviation": "deviation of the outputs",
        "dead_share": "rectified units that are dead",
        "zero_share": "weights that snap to 0",
    }
    draws, examples = len(predictive["draws"]), predictive["examples"]
    title = f"{draws} networks drawn from the prior, on {examples} inputs"
    table = Table("", f"the {weights} network", "drawn: mean", "lowest .. highest", title=title)
    for key, name in names.items():
        drawn, show = predictive["summary"][key], _percent if key.endswith("share") else _figure
        if drawn is not None:
            ends = f"{show(drawn['lowest'])} .. {show(drawn['highest'])}"
            table.add_row(name, show(predictive["trained"][key]), show(drawn["mean"]), ends)
        elif key == "dead_share":
            table.add_row(name, "-", "-", "no nn.ReLU module was seen to run")
    return table


def _figure(value: object) -> str:
    """A number, or the ends of several; "-" for what is not known or not finite."""
    if isinstance(value, list):
        known = [v for v in value if isinstance(v, int | float)]
        ends = sorted({_figure(v) for v in (min(known), max(known))}, key=float) if known else []
        return " .. ".join(ends) if len(known) == len(value) else "-"
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.3g} %"


def bits_table(bits: Mapping[str, int]) -> Table:
    """The file's parts in whole bytes, from their bits."""
    total = sum(bits.values())
    table = Table("part", "bytes", "share", title=f"{total // 8:,} bytes")
    for part, count in bits.items():
        table.add_row(part, f"{count / 8:,.0f}", f"{100 * count / total:.1f}%")
    return table
