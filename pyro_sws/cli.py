"""The command line: one command a verb. The only file that prints or reads sys.argv."""

import json
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from pyro_sws.cli_tables import (
    assignments_table,
    bits_table,
    calibration_table,
    front_table,
    group_table,
    mixture_table,
    predictive_table,
    run_table,
    shrunk_table,
    sites_table,
    trials_table,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pyro_sws.assess.diagnostics import Diagnostics
    from pyro_sws.assess.prior.description import PriorDescription
    from pyro_sws.assess.prior.predictive import PriorPredictiveSummary
    from pyro_sws.codec.container import Layout
    from pyro_sws.compression.plan import Plan
    from pyro_sws.inference.progress import Callback
    from pyro_sws.inference.progress import Progress as Told

app = typer.Typer(
    help="Shrink a trained PyTorch network into the shortest file that still predicts well.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out, err = Console(), Console(stderr=True)
LINE_SECONDS = 20.0  # between lines of progress where there is no terminal
T = TypeVar("T")

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


def _version(wanted: bool) -> None:
    if wanted:
        import pyro_sws

        _line(out, f"pyro-sws {pyro_sws.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Shrink a trained PyTorch network into the shortest file that still predicts well."""


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
    from_run: Annotated[
        Path | None, typer.Option("--from", help="A run whose network and fitted weights to take.")
    ] = None,
    data_dir: DataDir = None,
    overwrite: Annotated[bool, typer.Option(help="Write over a run that is there.")] = False,
    resume: Annotated[
        bool,
        typer.Option(help="Go on where an ended run was, if it left a checkpoint."),
    ] = False,
    checkpoint_seconds: Annotated[
        float, typer.Option(help="From one checkpoint to the next.", min=0.0)
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Do the whole line: train or load, compress, write the file, the report and the figures.

    Under torchrun the processes share the work, and the first one writes. Ctrl-C and SIGTERM keep
    how far it got. Exit codes: 0, 2 for what can be mended, 130 after Ctrl-C, 143 after SIGTERM.
    """
    from pyro_sws.inference.distributed import join_ranks
    from pyro_sws.recipes.recipe import read_recipe
    from pyro_sws.runs.execute import run_recipe

    folder = out_dir or Path("runs") / recipe.stem
    for key, path in {"start": start, "from_run": from_run}.items():
        if path is not None:
            quoted = json.dumps(str(path.resolve()), ensure_ascii=False)
            changes = [*changes, f"{key}={quoted}"]
    parsed = read_recipe(recipe, changes)
    device = None if parsed.device is None else str(parsed.device)
    with join_ranks(device) as ranks, _shown(as_json or not ranks.first) as told, _ended(folder):
        result = run_recipe(
            parsed,
            folder,
            overwrite=overwrite,
            resume=resume,
            checkpoint_seconds=checkpoint_seconds,
            data_dir=data_dir,
            ranks=ranks,
            callback=told,
            command=shlex.join(["pyro-sws", *sys.argv[1:]]),
            signals=True,
        )
    if not ranks.first:
        return
    if as_json:
        _print_json(result.report.to_dict())
        return
    out.print(run_table(result.report))
    for warning in result.report.warnings:
        _line(err, f"warning: {warning}", "yellow")
    _line(out, f"wrote {folder}: model.sws, report.html, report.json, figures/")


@contextmanager
def _ended(folder: Path) -> "Iterator[None]":
    """Inside, an end by Ctrl-C or SIGTERM says what is kept, and how to go on."""
    from pyro_sws.runs.checkpoint import FOLDER, Interrupted, kept_in

    try:
        yield
    except (KeyboardInterrupt, Interrupted) as end:
        signum = end.signum if isinstance(end, Interrupted) else int(signal.SIGINT)
        kept = kept_in(folder / FOLDER)
        told = ", ".join(f"{stage} {done}" for stage, done in kept.items()) or "nothing yet"
        _line(err, f"pyro-sws: ended by {signal.Signals(signum).name}; kept: {told}", "yellow")
        if kept:
            own = [each for each in sys.argv[1:] if each not in ("--resume", "--overwrite")]
            _line(err, f"go on by: {shlex.join(['pyro-sws', *own, '--resume'])}")
        raise typer.Exit(128 + signum) from None


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="A recipe that --list has.")] = "digits",
    folder: Annotated[Path, typer.Option("--out", help="The folder to write it to.")] = Path(),
    listed: Annotated[bool, typer.Option("--list", help="Say which recipes there are.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Write over files that are there.")] = False,
) -> None:
    """Copy a recipe, with its network and data functions, to begin with."""
    from pyro_sws.recipes import shipped

    if listed:
        table = Table("recipe", "what it is")
        for each, about in shipped.recipes().items():
            table.add_row(each, about)
        out.print(table)
        return
    written = shipped.copy(name, folder, overwrite=overwrite)
    _line(out, f"wrote {', '.join(map(str, written))}")
    _line(out, f"next: pyro-sws run {shlex.quote(str(written[0]))}")


@app.command()
def demo(
    out_dir: Annotated[Path, typer.Option("--out", help="Run folder.")] = Path("runs/digits"),
    overwrite: Annotated[bool, typer.Option(help="Write over a run that is there.")] = False,
) -> None:
    """Train a classifier of scikit-learn's digits and compress it: about a minute."""
    from pyro_sws.recipes.shipped import recipe_path

    run(recipe_path("digits"), out_dir=out_dir, overwrite=overwrite)


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
    out.print(bits_table(layout.bits))


@app.command()
def certify(
    path: FilePath,
    recipe: Annotated[
        Path | None,
        typer.Option(
            "--recipe", help="Whose network and data to run, such as a run's recipe.toml."
        ),
    ] = None,
    changes: Changes = [],  # noqa: B006  (typer copies it)
    data_dir: DataDir = None,
    delta: Annotated[float, typer.Option(help="The probability that a bound fails.")] = 0.05,
    tried: Annotated[
        int, typer.Option(min=1, help="Architectures times preprocessings tried on this data.")
    ] = 1,
    codec_bits: Annotated[
        float | None,
        typer.Option(help="For the format's constants; 20, or 0 for data of one's own."),
    ] = None,
    looks: Annotated[
        int, typer.Option(min=1, help="How many files were compared on the test examples.")
    ] = 1,
    fixed: Annotated[
        list[str], typer.Option(help="A buffer outside the file that was made without the data.")
    ] = [],  # noqa: B006  (typer copies it)
    output: Annotated[
        Path | None, typer.Option("--out", help="A JSON file to write; by default, only say.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a file's length and mistakes prove about new data, or why they prove nothing.

    Decodes the file and runs the recipe's network on all training examples, and on the test
    examples if there are any.
    """
    from pyro_sws.assess.report.certificate import CODEC_BITS, SideInformation
    from pyro_sws.certification.of_recipe import certify_by_recipe
    from pyro_sws.files import write_whole

    if recipe is None:
        raise ValueError(
            "give --recipe, whose network and data are run; that of a run is in its folder, "
            "recipe.toml"
        )
    found = certify_by_recipe(
        _file(path),
        recipe,
        changes=changes,
        data_dir=data_dir,
        delta=delta,
        side=SideInformation(tried, CODEC_BITS if codec_bits is None else codec_bits),
        looks=looks,
        fixed=fixed,
    )
    if output is not None:
        write_whole(output, json.dumps(found.to_dict(), indent=2) + "\n")
    if as_json:
        _print_json(found.to_dict())
        return
    for sentence in found.sentences():
        _line(out, sentence)
    for line in found.assumes:
        _line(out, f"assumes: {line}")
    if output is not None:
        _line(out, f"wrote {output}")


@app.command()
def decode(
    path: FilePath,
    recipe: NetworkRecipe = None,
    output: Annotated[Path, typer.Option("--out", help="A .safetensors or .npz file.")] = Path(
        "weights.safetensors"
    ),
) -> None:
    """Write a file's weights as safetensors, or as .npz, under the network's own names."""
    from pyro_sws.codec.container import decode as decoded
    from pyro_sws.files import write_whole
    from pyro_sws.runs.tensor_files import tensor_writer

    as_bytes = tensor_writer(output)
    found = _read(path, recipe, decoded)
    if found.base:
        raise ValueError(
            f"{path}: holds differences to a base, {found.base.hex()}; in Python, "
            "sws.load(file, into=net, base=...) adds them to its weights"
        )
    tensors = found.tensors()
    write_whole(output, as_bytes(tensors))
    _line(out, f"wrote {output}: {len(tensors)} tensors")


@app.command()
def export(
    path: FilePath,
    output: Annotated[
        Path, typer.Argument(help="What to write: .safetensors, .npz, .pt2 (torch.export), .onnx.")
    ],
    recipe: NetworkRecipe = None,
    data_dir: DataDir = None,
    dynamic_batch: Annotated[
        bool, typer.Option(help="Whether a program takes any number of examples.")
    ] = True,
) -> None:
    """Write a file's network for other programs: its weights, or a program with them.

    A program (.pt2, .onnx) needs --recipe, which names the network and inputs to compare outputs
    on; they are the quantised network's, or nothing is written.
    """
    from pyro_sws.runs.export import export as written

    file = _file(path)
    if recipe is None:
        if output.suffix.lower() in (".pt2", ".onnx"):
            raise ValueError(f"{output}: a program needs --recipe, which names its network")
        decode(path, None, output)
        return
    net, inputs = _network_and_inputs(recipe, data_dir)
    written(file, output, into=net, example=inputs[:8], dynamic_batch=dynamic_batch)
    _line(out, f"wrote {output}")


@app.command()
def shrink(
    source: Annotated[
        Path, typer.Argument(help="A .safetensors file, or a folder of shards with their index.")
    ],
    output: Annotated[Path, typer.Option("--out", help="The .sws file to write.")],
    tolerance: Annotated[
        float | None, typer.Option(help="Relative squared error of each tensor; by default 0.005.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one a core.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the parts of a run that ended.")] = True,
    as_json: AsJson = False,
) -> None:
    """Shrink a checkpoint without its network and without data, tensor by tensor.

    Under torchrun the processes share the tensors, and the first one writes the file.
    """
    from pyro_sws.compression.checkpoints.shrink import shrink as shrunk
    from pyro_sws.compression.post_training.without_data import TOLERANCE
    from pyro_sws.inference.distributed import join_ranks

    wanted = TOLERANCE if tolerance is None else tolerance
    with join_ranks() as ranks, _shown(as_json or not ranks.first, "weights") as told:
        result = shrunk(
            source,
            output,
            tolerance=wanted,
            workers=workers,
            resume=resume,
            ranks=ranks,
            callback=told,
        )
    if not ranks.first:
        return
    if as_json:
        _print_json(result.to_dict())
        return
    out.print(shrunk_table(result))
    _line(
        out,
        f"wrote {output}: {result.bytes:,} bytes, {result.weights:,} weights, "
        f"{result.bits:.3g} bits a weight, {result.seconds:.3g} s",
    )


@app.command()
def expand(
    source: Annotated[Path, typer.Argument(help="A .sws file.")],
    output: Annotated[Path, typer.Option("--out", help="The .safetensors file to write.")] = Path(
        "weights.safetensors"
    ),
) -> None:
    """Write a shrunk checkpoint as safetensors again, in the dtypes that its tensors had."""
    from pyro_sws.compression.checkpoints.expand import expand as expanded

    with _shown(False, "weights") as told:
        expanded(source, output, callback=told)
    _line(out, f"wrote {output}")


@app.command()
def pick(
    folder: Annotated[Path, typer.Argument(help="The folder of a run that walked.")],
    within: Annotated[
        float | None, typer.Option(help="The shortest file at most so much worse, in its unit.")
    ] = None,
    most: Annotated[
        int | None, typer.Option("--bytes", min=1, help="The best file of at most so many bytes.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--out", help="A .sws file to write; by default, only say.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Choose another of the files that a walk met."""
    from pyro_sws.runs.frontier_files import read_frontier
    from pyro_sws.runs.reading import check_finished

    if within is not None and most is not None:
        raise ValueError("give one of --within and --bytes")
    frontier = read_frontier(check_finished(folder))
    if frontier is None:
        raise ValueError(f"{folder} has no frontier: its run was a fit, not a walk")
    point = frontier.smallest(within) if most is None else frontier.pick(most)
    if output is not None:
        point.save(output)
    row = {"bytes": point.bytes, "score": point.score, "step": point.step}
    if as_json:
        _print_json(row)
        return
    where = "" if output is None else f"wrote {output}: "
    unit = "%" if frontier.unit == "percent" else f" {frontier.unit}"
    _line(
        out,
        f"{where}{point.bytes:,} bytes, {point.score:.4g}{unit} on {frontier.judged_on} data "
        f"({frontier.reference:.4g}{unit} is the reference), step {point.step} of the walk; "
        "its units are as the network has them, where the run's own file has them in order",
    )


@app.command()
def prior(
    recipe: RecipePath,
    changes: Changes = [],  # noqa: B006  (typer copies it)
    weights: Annotated[
        Path | None, typer.Option(help="Trained weights (safetensors), instead of the recipe's.")
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="How often to draw from the prior.")] = 10,
    data_dir: DataDir = None,
    with_data: Annotated[
        bool, typer.Option("--data/--no-data", help="Run drawn networks on training inputs.")
    ] = True,
    picture: Annotated[
        Path | None, typer.Option("--out", help="Draw the priors over the weights: a PNG file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look before fitting: what each prior expects, how strong it is, where it is at odds.

    Also drawn from it: hyperparameters, weights, and what networks of such weights do on up to 500
    training inputs.
    """
    from pyro_sws.assess.prior.description import describe_priors
    from pyro_sws.recipes.recipe import read_recipe
    from pyro_sws.runs.execute import load_network, named_parts

    if picture is not None and picture.suffix.lower() != ".png":
        raise ValueError(f"--out {picture}: the picture is a PNG file; name it so")
    if weights is not None:
        quoted = json.dumps(str(weights.resolve()), ensure_ascii=False)
        changes = [*changes, f"start={quoted}"]
    parsed = read_recipe(recipe, changes)
    net, start = load_network(parsed)
    parsed = parsed.with_prior(net)
    if parsed.dtype is not None:
        net = net.to(parsed.dtype)
    described = describe_priors(net, parsed.prior, start=start, draws=draws)
    weights_are = "untrained" if named_parts(parsed)[0].trains else "trained"
    predicted = _predictive(parsed, net, data_dir, start, draws) if with_data else None
    if picture is not None:
        from pyro_sws.assess.figures.prior import prior_figure
        from pyro_sws.assess.figures.style import as_png
        from pyro_sws.files import write_whole

        write_whole(picture, as_png(prior_figure(net, parsed.prior, start=start)))
    if as_json:
        _print_json({**described, "weights": weights_are, "predictive": predicted})
        return
    for name, group in described["groups"].items():
        out.print(group_table(name, group))
        if group["sites"]:
            out.print(sites_table(group))
    if predicted:
        out.print(predictive_table(predicted, weights_are))
    for where, warning in _warnings(described, predicted):
        _line(err, f"warning: {where}: {warning}", "yellow")
    if weights_are == "untrained":
        _line(out, "the recipe pre-trains its network: these weights are the untrained ones")
    if described["uncovered"]:
        _line(out, f"stored raw, no rule matches: {', '.join(described['uncovered'])}")
    if picture is not None:
        _line(out, f"wrote {picture}")


@app.command()
def compare(
    paths: Annotated[list[Path], typer.Argument(help="Run folders, or recipes, to be run first.")],
    out_dir: Annotated[
        Path, typer.Option("--out", help="Where table, picture and runs go.")
    ] = Path("runs/compare"),
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Set runs side by side, in the order given: bytes, scores, total description, components.

    A recipe's run lies in the folder --out, under the recipe's name, and is made only once.
    """
    from pyro_sws.runs.comparison import compare as side_by_side
    from pyro_sws.runs.comparison import run_all

    with _shown(as_json) as told:
        folders = run_all(paths, out_dir, data_dir=data_dir, callback=told)
    comparison = side_by_side(folders)
    comparison.save(out_dir)
    if as_json:
        _print_json(comparison.to_dict())
        return
    table = Table("")
    for row in comparison.rows:
        table.add_column(Text(row["run"], overflow="fold"))
    for heading, cells in comparison.cells().items():
        table.add_row(heading, *(Text(cell, overflow="fold") for cell in cells))
    out.print(table)
    for note in comparison.notes:
        _line(out, f"note: {note}")
    _line(out, f"wrote {out_dir}: comparison.md, comparison.png, comparison.json")


@app.command()
def diagnose(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    recipe: Annotated[
        Path | None,
        typer.Option(help="Whose network and data to run, such as the folder's recipe.toml."),
    ] = None,
    nuts: Annotated[bool, typer.Option("--nuts", help="Sample the mixture: minutes.")] = False,
    chains: Annotated[int, typer.Option(min=1, help="Of --nuts.")] = 4,
    warmup: Annotated[int, typer.Option(min=1, help="Draws of each that are thrown away.")] = 300,
    draws: Annotated[int, typer.Option(min=4, help="Draws of each that are kept.")] = 500,
    restarts: Annotated[
        list[Path], typer.Option("--with", help="Another fit of the same trained network.")
    ] = [],  # noqa: B006  (typer copies it)
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Say how sure assignments are, how well the mixture is known, and what calibration has become.

    Adds a part to the run's report.html, and a folder diagnostics with figures and, for ArviZ,
    netCDF. Draws by --nuts are kept there and used again. Nothing that the folder names is run:
    what needs the network (calibration, what snapping costs) needs --recipe.
    """
    from pyro_sws.diagnosis.diagnostics import Nuts
    from pyro_sws.diagnosis.folder import diagnose as diagnosed

    sampled = Nuts(chains, warmup, draws) if nuts else None
    with _shown(as_json, "draws") as told:
        diagnostics = diagnosed(
            folder,
            recipe=recipe,
            nuts=sampled,
            restarts=restarts,
            data_dir=data_dir,
            progress=told,
        )
    if as_json:
        _print_json(diagnostics)
        return
    out.print(assignments_table(diagnostics, diagnostics["snapping"]))
    for name, mixture in diagnostics["mixture"].items():
        out.print(mixture_table(name, mixture))
    if diagnostics["calibration"]:
        out.print(calibration_table(diagnostics["data"], diagnostics["calibration"]))
    notes = [note for mixture in diagnostics["mixture"].values() for note in mixture["notes"]]
    notes += [
        f"group {n} has no mixture to draw: {why}"
        for n, why in diagnostics["without_mixture"].items()
    ]
    for note in [
        *notes,
        *filter(None, [diagnostics["certainty"]["note"], diagnostics["without_network"]]),
    ]:
        _line(out, f"note: {note}")
    for warning in _doubts(diagnostics):
        _line(err, f"warning: {warning}", "yellow")
    _line(out, f"wrote {folder}: report.html (diagnostics), diagnostics/")


@app.command()
def search(
    recipe: RecipePath,
    trials: Annotated[
        int, typer.Option(min=0, help="How many more to make; 0 only writes what was found.")
    ],
    storage: Annotated[
        str | None,
        typer.Option(help="Where trials are kept: a path that ends in .log, or a data base's URL."),
    ] = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Folder; by default runs/<recipe's name>-search.")
    ] = None,
    changes: Changes = [],  # noqa: B006  (typer copies it)
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Vary a recipe over its search space, for fewer bytes and less error on validation data.

    Run again it goes on; other processes may share the storage. The test split is not looked at.
    """
    from pyro_sws.tuning.search import search as searched

    folder = out_dir or Path("runs") / f"{recipe.stem}-search"
    made: list[Mapping[str, Any]] = []

    def note_trial(progress: "Told") -> None:
        if progress.stage == "trial":
            made.append(progress.row)

    with _shown(as_json, also=note_trial) as told:
        result = searched(
            recipe,
            trials,
            folder,
            storage=storage,
            changes=changes,
            data_dir=data_dir,
            callback=told,
        )
    if as_json:
        _print_json(result.to_dict())
        return
    if made:
        out.print(trials_table(made))
    out.print(front_table(result))
    for row in made:
        if row["state"] == "failed":
            _line(err, f"warning: trial {row['number']} failed: {row['message']}", "yellow")
    written = "search.json, frontier.png, importances.png, best/"
    if result.importances is None:
        written = "search.json, frontier.png, best/" if result.front else "search.json"
    _line(out, f"wrote {folder}: {written}")


@app.command()
def schema(
    output: Annotated[
        Path | None, typer.Option("--out", help="Where to write it, instead of printing it.")
    ] = None,
) -> None:
    """Say in JSON schema what a recipe may hold, for editors that complete and check TOML."""
    from pyro_sws.files import write_whole
    from pyro_sws.recipes.schema import recipe_schema

    if output is None:
        _print_json(recipe_schema())
        return
    write_whole(output, json.dumps(recipe_schema(), indent=2) + "\n")
    _line(out, f"wrote {output}: name it in a recipe's first line, #:schema {output.name}")


def main() -> None:
    """Entry point: what a user can mend is one line and exit code 2, never a traceback."""
    try:
        app(standalone_mode=True)
    except RuntimeError as error:
        from pyro_sws.compression.walk.failure import CompressionFailed

        if not isinstance(error, CompressionFailed):
            raise
        said = str(error).replace("error.best.save(path)", "failed/nearest.sws in the folder")
        _line(err, f"pyro-sws: {said}", "red")
        sys.exit(2)
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        _line(err, f"pyro-sws: {' '.join(str(error).split())}", "red")
        sys.exit(2)


def _line(console: Console, text: str, style: str = "") -> None:
    """One line, however narrow the terminal, and nothing in it taken for markup."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def _read(path: Path, recipe: Path | None, reader: Callable[..., T]) -> T:
    """What ``reader`` makes of a .sws file, or of the one in a run folder.

    Names and shapes that are not in it are in the run folder, or are those of the network that a
    recipe names: the one that the user gives, for its code is run.
    """
    from pyro_sws.codec.container import has_fingerprint

    file = _file(path)
    data, architecture = file.read_bytes(), None
    if has_fingerprint(data):
        architecture = _stored_architecture(path) if recipe is None else _architecture(recipe)
        if architecture is None:
            raise ValueError(f"{file}: has a fingerprint, no names; give --recipe of its network")
    try:
        return reader(data, architecture=architecture)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _file(path: Path) -> Path:
    """A .sws file, or that of a run folder."""
    from pyro_sws.runs.swap import whole

    return whole(path) / "model.sws" if path.is_dir() else path


def _stored_architecture(path: Path) -> dict[str, tuple[int, ...]] | None:
    if not path.is_dir():
        return None  # a file by itself
    from pyro_sws.runs.reading import stored_architecture

    return stored_architecture(path)


def _architecture(recipe: Path) -> dict[str, tuple[int, ...]]:
    from pyro_sws.recipes.recipe import read_recipe
    from pyro_sws.runs.execute import named_parts
    from pyro_sws.runs.inputs import build_network
    from pyro_sws.weights.load import architecture

    plan = read_recipe(recipe)
    return architecture(build_network(named_parts(plan)[0], plan.seed))


def _network_and_inputs(recipe: Path, data_dir: str | None) -> "tuple[nn.Module, Any]":
    """The network that a recipe names, untrained, and its first training inputs."""
    from pyro_sws.recipes.recipe import read_recipe
    from pyro_sws.runs.execute import named_parts
    from pyro_sws.runs.inputs import build_network, first_batch, load_data

    plan = read_recipe(recipe)
    network, data = named_parts(plan)
    inputs, _ = first_batch(load_data(data, data_dir)["train"], "train")
    return build_network(network, plan.seed), inputs


@contextmanager
def _shown(
    quiet: bool, unit: str = "epochs", also: "Callback | None" = None
) -> "Iterator[Callback]":
    """A callback that shows progress: bars on a terminal, elsewhere a line every so often."""
    bars = Progress(
        TextColumn("{task.description:9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
        console=err,
        disable=quiet or not err.is_terminal,
    )
    tasks: dict[str, TaskID] = {}
    last = time.monotonic()

    def show(told: "Told") -> None:
        nonlocal last
        counted = "steps" if told.stage.endswith("walk") else unit
        if told.stage not in tasks:
            tasks[told.stage] = bars.add_task(told.stage, total=told.total, status="", unit=counted)
        bars.update(tasks[told.stage], completed=told.done, status=_status(told.row))
        now = time.monotonic()
        if not quiet and not err.is_terminal and now - last >= LINE_SECONDS:
            count = f"{told.done} of {told.total} {counted}"
            _line(err, f"{told.stage}: {count} {_status(told.row)}")
            last = now
        if also is not None:
            also(told)

    with bars:
        yield show


def _status(row: Mapping[str, Any]) -> str:
    if "file_bytes" in row and "width" in row:
        score = row["validation_quantized"]
        told = "not finite" if score is None else f"{score:.4g}"
        return f"{row['file_bytes']:,} bytes, score {told}"
    if "complexity_cost_nats" in row:
        costs = row["error_cost_nats"], row["complexity_cost_nats"]
        return "error cost {:,.0f}, complexity {:,.0f} nats".format(*costs)
    if "error_cost_nats_per_example" in row:
        return f"error cost {row['error_cost_nats_per_example']:.4f} nats an example"
    return row.get("state", "")


def _predictive(
    parsed: "Plan",
    net: "nn.Module",
    data_dir: str | None,
    start: "Mapping[str, Tensor] | None",
    draws: int,
) -> "PriorPredictiveSummary":
    """What networks drawn from a recipe's prior do on its first training inputs."""
    from pyro_sws.assess.prior.predictive import prior_predictive
    from pyro_sws.runs.execute import named_parts
    from pyro_sws.runs.inputs import first_batch, load_data

    try:
        train = load_data(named_parts(parsed)[1], data_dir)["train"]
        inputs = first_batch(train, "train")[0][:500]
    except OSError as error:
        raise OSError(f"{error}; or do without, by --no-data") from None
    likelihood = parsed.likelihood
    return prior_predictive(
        net, parsed.prior, inputs, likelihood=likelihood, start=start, draws=draws
    ).to_dict()


def _doubts(diagnostics: "Diagnostics") -> list[str]:
    """What a reader should not overlook."""
    doubts = [f"group {n}: {w}" for n, ws in diagnostics["warnings"].items() for w in ws]
    for name, mixture in diagnostics["mixture"].items():
        if mixture["method"] == "nuts":
            if (mixture["largest_r_hat"] or 0) > 1.01 or mixture["divergences"]:
                doubts.append(f"{name}: the chains do not agree; look at their traces and ranks")
            if max(mixture["relabelled"]) > 0:
                doubts.append(f"{name}: components changed places in some draws; see the report")
        elif not mixture["near"]:
            doubts.append(f"{name}: Laplace is too far from the posterior; use --nuts")
    return doubts


def _warnings(
    described: "PriorDescription", predicted: "PriorPredictiveSummary | None"
) -> list[tuple[str, str]]:
    """Each warning, and what it is about."""
    found = [(f"group {n}", w) for n, g in described["groups"].items() for w in g["warnings"]]
    return found + [("predictions", w) for w in (predicted["warnings"] if predicted else ())]


def _plain(layout: "Layout") -> dict[str, object]:
    """A file's layout as JSON has it."""
    return {
        "version": layout.version,
        "coder": layout.coder,
        "codebooks": {name: values.tolist() for name, values in layout.codebooks.items()},
        "tensors": {name: vars(tensor) for name, tensor in layout.tensors.items()},
        "bits": dict(layout.bits),
    }


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))


if __name__ == "__main__":
    main()
