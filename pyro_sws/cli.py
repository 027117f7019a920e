"""The command line: one command a verb. The only file that prints or reads sys.argv."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

app = typer.Typer(
    help="Shrink a trained PyTorch network into the shortest file that still predicts well.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out, err = Console(), Console(stderr=True)

RecipePath = Annotated[Path, typer.Argument(help="A recipe in TOML, such as models/digits.toml.")]
Changes = Annotated[
    list[str], typer.Option("--set", help="key=value: overwrite a key, such as prior.0.slabs=32.")
]
DataDir = Annotated[
    str | None, typer.Option(help="Folder with the data, for the recipe's data function.")
]
FilePath = Annotated[Path, typer.Argument(help="A .sws file or a run folder.")]
NetworkRecipe = Annotated[
    Path | None, typer.Option("--recipe", help="Names the network of a file with a fingerprint.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@app.command()
def run(
    recipe: RecipePath,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Run folder; by default runs/<recipe's name>.")
    ] = None,
    changes: Changes = [],  # noqa: B006  (typer copies it)
    start: Annotated[
        Path | None, typer.Option(help="Trained weights (safetensors), instead of pre-training.")
    ] = None,
    data_dir: DataDir = None,
    overwrite: Annotated[bool, typer.Option(help="Write over a run that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Do the whole line: train or load, compress, write the file, the report and the figures.

    Under torchrun the processes share the work, and the first one writes.
    """
    from pyro_sws.inference.ranks import joined
    from pyro_sws.recipe import read_recipe
    from pyro_sws.runs import run_recipe

    folder = out_dir or Path("runs") / recipe.stem
    if start is not None:
        quoted = json.dumps(str(start.resolve()), ensure_ascii=False)
        changes = [*changes, f"start={quoted}"]
    parsed = read_recipe(recipe, changes)
    settings = parsed.settings
    with joined(settings.device) as ranks, _progress(as_json or not ranks.first) as progress:
        stages = {} if settings.start else {"pretrain": settings.pretraining.epochs}
        stages["fit"] = settings.epochs
        tasks = {
            stage: progress.add_task(stage, total=total, status="")
            for stage, total in stages.items()
        }

        def advance(stage: str, row: Any) -> None:
            progress.update(tasks[stage], completed=row["epoch"], status=_status(row))

        result = run_recipe(
            parsed,
            folder,
            overwrite=overwrite,
            data_dir=data_dir,
            ranks=ranks,
            callback=advance,
        )
    if not ranks.first:
        return
    if as_json:
        _print_json(result.report.to_dict())
        return
    out.print(_summary(result.report.to_dict()))
    for warning in result.report.warnings:
        _line(err, f"warning: {warning}", "yellow")
    _line(out, f"wrote {folder}: model.sws, report.html, report.json, figures/")


@app.command()
def inspect(
    path: FilePath,
    recipe: NetworkRecipe = None,
    as_json: AsJson = False,
) -> None:
    """Say what is in a file, and where each of its bits goes."""
    from pyro_sws.codec.container import inspect as layout_of

    layout = _read(path, recipe, layout_of)
    if as_json:
        _print_json(_plain(layout))
        return
    table = Table("tensor", "shape", "codebook", title=f"{path}, format {layout.version}")
    for name, tensor in layout.tensors.items():
        shape = " x ".join(map(str, tensor.shape)) or "scalar"
        table.add_row(name, shape, tensor.codebook or f"raw {tensor.dtype}")
    out.print(table)
    for name, values in layout.codebooks.items():
        shown = " ".join(f"{float(v):.4g}" for v in values)
        _line(out, f"codebook {name} ({values.dtype}): {shown}")
    out.print(_bits_table(layout.bits))


@app.command()
def decode(
    path: FilePath,
    recipe: NetworkRecipe = None,
    output: Annotated[Path, typer.Option("--out", help="Where to write the weights.")] = Path(
        "weights.safetensors"
    ),
) -> None:
    """Write a file's weights as safetensors, under the network's own names."""
    import numpy as np
    from safetensors.numpy import save

    from pyro_sws.codec.container import decode as decoded
    from pyro_sws.files import write_whole

    tensors = _read(path, recipe, decoded).tensors()
    write_whole(output, save({n: np.ascontiguousarray(a) for n, a in tensors.items()}))
    _line(out, f"wrote {output}: {len(tensors)} tensors")


@app.command()
def prior(
    recipe: RecipePath,
    changes: Changes = [],  # noqa: B006  (typer copies it)
    as_json: AsJson = False,
) -> None:
    """Describe each group before fitting: what it covers, what the prior expects of it."""
    from pyro_sws.assess.priors import describe_priors
    from pyro_sws.recipe import read_recipe
    from pyro_sws.runs import build_network, load_start

    parsed = read_recipe(recipe, changes)
    net = build_network(parsed)
    if parsed.settings.start is not None:
        load_start(net, parsed.folder / parsed.settings.start)
    described = describe_priors(net, parsed.prior)
    described["weights"] = "untrained" if parsed.settings.start is None else "trained"
    if as_json:
        _print_json(described)
        return
    for name, group in described["groups"].items():
        table = Table("what", "value", title=f"group {name}: {group['family']}")
        for key, value in group["summary"].items():
            table.add_row(key, str(value))
        out.print(table)
        sites = Table("site", "shape", "hyperprior", "starts at", "strength / weights")
        for row in group["sites"]:
            sites.add_row(*(str(row[k]) for k in ("site", "shape", "hyperprior", "start", "share")))
        out.print(sites)
    if described["weights"] == "untrained":
        _line(out, "the recipe pre-trains its network: these weights are the untrained ones")
    if described["uncovered"]:
        _line(out, f"stored raw, no rule matches: {', '.join(described['uncovered'])}")


def main() -> None:
    """Entry point: what a user can mend is one line and exit code 2, never a traceback."""
    try:
        app(standalone_mode=True)
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        _line(err, f"pyro-sws: {' '.join(str(error).split())}", "red")
        sys.exit(2)


def _line(console: Console, text: str, style: str = "") -> None:
    """One line, however narrow the terminal, and nothing in it taken for markup."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def _read(path: Path, recipe: Path | None, reader: Callable[..., Any]) -> Any:
    """What ``reader`` makes of a .sws file, or of the one in a run folder.

    Where names and shapes are not in it, they are those of the recipe's network.
    """
    from pyro_sws.codec.container import has_fingerprint

    if path.is_dir():
        path, recipe = path / "model.sws", recipe or path / "recipe.toml"
    data, architecture = path.read_bytes(), None
    if has_fingerprint(data):
        if recipe is None:
            raise ValueError(f"{path}: has a fingerprint, no names; give --recipe of its network")
        architecture = _architecture(recipe)
    try:
        return reader(data, architecture=architecture)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _architecture(recipe: Path) -> dict[str, tuple[int, ...]]:
    from pyro_sws.recipe import read_recipe
    from pyro_sws.runs import build_network
    from pyro_sws.weights.load import architecture

    return architecture(build_network(read_recipe(recipe)))


def _progress(quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description:9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
        console=err,
        disable=quiet or not err.is_terminal,
    )


def _status(row: Any) -> str:
    if "complexity_cost_nats" not in row:
        return f"error cost {row['error_cost_nats_per_example']:.4f} nats an example"
    costs = (
        f"error cost {row['error_cost_nats']:,.0f}, complexity {row['complexity_cost_nats']:,.0f}"
    )
    return f"{costs} nats"


def _summary(report: dict[str, Any]) -> Table:
    score, unit = report["score"], "%" if report["score"]["unit"] == "percent" else ""
    table = Table("", "before", "after", title=report["network"])
    table.add_row("bytes", f"{report['parameter_bytes']:,}", f"{report['file_bytes']:,}")
    table.add_row("ratio", "1", f"{report['ratio']:.1f}")
    table.add_row(
        f"{score['data']} {score['name']}",
        f"{score['before']:.2f}{unit}",
        f"{score['decoded']:.2f}{unit} (decoded from the file)",
    )
    table.add_row("non-zero weights", "100%", f"{report['nonzero_percent']:.2f}%")
    return table


def _bits_table(bits: Mapping[str, int]) -> Table:
    total = sum(bits.values())
    table = Table("part", "bytes", "share", title=f"{total // 8:,} bytes")
    for part, count in bits.items():
        table.add_row(part, f"{count / 8:,.0f}", f"{100 * count / total:.1f}%")
    return table


def _plain(layout: Any) -> dict[str, Any]:
    """A file's layout as JSON has it."""
    return {
        "version": layout.version,
        "coder": layout.coder,
        "codebooks": {name: values.tolist() for name, values in layout.codebooks.items()},
        "tensors": {name: vars(tensor) for name, tensor in layout.tensors.items()},
        "bits": dict(layout.bits),
    }


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


if __name__ == "__main__":
    main()
