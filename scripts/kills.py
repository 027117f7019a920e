"""Kill runs at random moments, go on with --resume until they are done, and compare every byte.

    python scripts/kills.py --kills 50 --full 20 --pairs 20 --out kills.json   # half an hour
    python scripts/kills.py --recipe models/digits.toml --set epochs=5 --kills 10 --signal SIGTERM

Each run is killed again and again, each time after a random part of what an undisturbed one takes,
until it is done; the next one begins anew. --full: runs that can write no file beyond some random
length, as on a full disk, and then one that can. --pairs: two runs in one folder at once, of which
one is refused. Exits with 1 where a byte differs, or a run cannot go on.
"""

import argparse
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run by path: neighbours too

from scripts.shared.provenance import provenance
from scripts.shared.results import ROOT, write_json

SAME = "model.sws", "posterior.safetensors", "packed.safetensors", "trained.safetensors"
# Name -> recipe in models/, and changes of it, so that a run is of some seconds, in every stage.
STAGES: dict[str, tuple[str, list[str]]] = {
    "fit and refinement": (
        "digits.toml",
        ["pretraining.epochs=20", "epochs=20", "refinement.epochs=20"],
    ),
    "walk": ("diabetes.toml", ["budget={passes=300,minutes=1000}"]),
}


@dataclass
class Row:
    """What became of the runs of some stages."""

    stages: str
    seconds: float  # of an undisturbed run
    runs: int = 0
    kills: int = 0
    full: int = 0  # runs on a full disk
    pairs: int = 0
    differing: list[list[str]] = field(default_factory=list)  # files, by run
    failed: list[str] = field(default_factory=list)  # what was said


def command(recipe: Path, out: Path, changes: Sequence[str]) -> list[str]:
    sets = [word for change in changes for word in ("--set", change)]
    own = ["run", str(recipe), "--out", str(out), "--resume", "--checkpoint-seconds", "0.2"]
    return [sys.executable, "-m", "pyro_sws.cli", *own, *sets]


def whole(recipe: Path, out: Path, changes: Sequence[str]) -> float:
    """An undisturbed run, and the seconds that it takes the second time: the first one compiles."""
    subprocess.run(command(recipe, out, changes), check=True, capture_output=True)
    shutil.rmtree(out)
    began = time.perf_counter()
    subprocess.run(command(recipe, out, changes), check=True, capture_output=True)
    return time.perf_counter() - began


def killed_until_done(
    arguments: Sequence[str], seconds: float, how: signal.Signals, chance: random.Random, most: int
) -> tuple[int, str | None]:
    """How often a run was killed until it was done, and what it said where it could not go on."""
    for kills in range(most + 1):
        running = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            limit = chance.uniform(0.1, 0.6) * seconds if kills < most else None
            _, said = running.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            running.send_signal(how)
            running.communicate()
            continue
        return kills, None if running.returncode == 0 else said.decode()[-2000:]
    raise AssertionError("the last run is not killed")


def on_a_full_disk(arguments: Sequence[str], most: int, chance: random.Random) -> str | None:
    """Run where files of some length cannot be written, then where they can; what went wrong."""
    limit = chance.randrange(1000, most)

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that it is an error, as of a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    first = subprocess.run(arguments, capture_output=True, text=True, preexec_fn=limited)
    if first.returncode not in (0, 2) or "Traceback" in first.stderr:
        return first.stderr[-2000:]
    then = subprocess.run(arguments, capture_output=True, text=True, check=False)
    return then.stderr[-2000:] if then.returncode else None


def at_once(arguments: Sequence[str], chance: random.Random, seconds: float) -> str | None:
    """Two runs in one folder; what went wrong. One may come when the other is done."""
    first = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    time.sleep(chance.uniform(0, 0.8) * seconds)
    second = subprocess.run(arguments, capture_output=True, text=True, check=False)
    _, said = first.communicate()
    if first.returncode and second.returncode:
        return said.decode()[-1000:] + second.stderr[-1000:]
    for code, words in ((first.returncode, said.decode()), (second.returncode, second.stderr)):
        if code and not (code == 2 and "is being written by process" in words):
            return words[-2000:]
    return None


def differing(one: Path, other: Path) -> list[str]:
    return [name for name in SAME if (one / name).read_bytes() != (other / name).read_bytes()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, help="instead of two of models/")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="of that recipe")
    parser.add_argument("--kills", type=int, default=50, help="in all, at least")
    parser.add_argument("--full", type=int, default=0, help="runs on a full disk")
    parser.add_argument("--pairs", type=int, default=0, help="of runs in one folder")
    parser.add_argument("--signal", default="SIGKILL", choices=["SIGKILL", "SIGTERM", "SIGINT"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON")
    given = parser.parse_args()
    chance, how = random.Random(given.seed), signal.Signals[given.signal]
    stages = {name: (ROOT / "models" / own, changes) for name, (own, changes) in STAGES.items()}
    if given.recipe is not None:
        stages = {"as given": (given.recipe, given.changes)}
    rows = []
    with tempfile.TemporaryDirectory() as made:
        for name, (recipe, changes) in stages.items():
            undisturbed, place = Path(made) / f"{name}, whole", Path(made) / "run"
            seconds = whole(recipe, undisturbed, changes)
            row = Row(name, seconds)
            while row.kills < given.kills / len(stages):
                shutil.rmtree(place, ignore_errors=True)
                arguments = command(recipe, place, changes)
                kills, said = killed_until_done(arguments, seconds, how, chance, given.kills)
                row.runs += 1
                row.kills += kills
                if said is not None:
                    row.failed.append(said)
                elif found := differing(place, undisturbed):
                    row.differing.append(found)
                print(row, flush=True)
            largest = max(path.stat().st_size for path in undisturbed.rglob("*") if path.is_file())
            arguments = command(recipe, place, changes)
            for i in range(round((given.full + given.pairs) / len(stages))):
                shutil.rmtree(place, ignore_errors=True)
                if i < given.full / len(stages):
                    said = on_a_full_disk(arguments, 2 * largest, chance)
                    row.full += 1
                else:
                    said = at_once(arguments, chance, seconds)
                    row.pairs += 1
                if said is not None:
                    row.failed.append(said)
                elif found := differing(place, undisturbed):
                    row.differing.append(found)
                print(row, flush=True)
            rows.append(asdict(row))
    if given.out is not None:
        write_json(given.out, {**provenance(), "signal": given.signal, "rows": rows})
    sys.exit(any(row["differing"] or row["failed"] for row in rows))


if __name__ == "__main__":
    main()
