"""A checkpoint shrunk: what comes back, whoever did the work, and however often it was ended."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import small_checkpoints
import torch
from safetensors.torch import load_file
from small_checkpoints import FLOATS, SMALL_PARTS, tensors, write_file, write_shards

import pyro_sws as sws
from pyro_sws.codec.container import decode, inspect
from pyro_sws.compression.checkpoints import part
from pyro_sws.compression.checkpoints import shrink as shrinking
from pyro_sws.compression.checkpoints.expand import expand
from pyro_sws.compression.checkpoints.shrink import shrink

PARTS = 7  # of the small checkpoint
HELPERS = Path(small_checkpoints.__file__).parent


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(part, "TOGETHER", SMALL_PARTS)


def errors(given, back):
    """||dw||^2 / ||w||^2 by tensor."""
    return {
        name: float(
            (back[name].double() - given[name].double()).square().sum()
            / given[name].double().square().sum()
        )
        for name in FLOATS
    }


@pytest.mark.parametrize("tolerance", [1e-4, 0.005, 0.1])
def test_errors_of_what_comes_back_are_within_the_tolerance(tmp_path, tolerance):
    found = shrink(write_file(tmp_path), tmp_path / "m.sws", tolerance=tolerance)
    expand(tmp_path / "m.sws", tmp_path / "back.safetensors")
    given, back = tensors(), load_file(tmp_path / "back.safetensors")
    told = {row.name: row.relative_error for row in found.rows}
    for name, error in errors(given, back).items():
        assert 0.7 * tolerance < error <= tolerance, name
        assert told[name] == pytest.approx(error, rel=1e-6), name


def test_all_else_comes_back_as_it_was(tmp_path):
    shrink(write_file(tmp_path), tmp_path / "m.sws")
    expand(tmp_path / "m.sws", tmp_path / "back.safetensors")
    given, back = tensors(), load_file(tmp_path / "back.safetensors")
    assert back.keys() == given.keys()
    for name, tensor in given.items():
        assert (back[name].dtype, back[name].shape) == (tensor.dtype, tensor.shape), name
        if name == "a.bias":  # float16 is near enough
            torch.testing.assert_close(back[name], tensor, rtol=2**-11, atol=0)
        elif name not in FLOATS:
            assert torch.equal(back[name], tensor), name


def test_a_result_says_what_the_file_has(tmp_path):
    found = shrink(write_file(tmp_path), tmp_path / "m.sws")
    assert found.bytes == len(found.data) == (tmp_path / "m.sws").stat().st_size
    assert found.weights == sum(tensor.numel() for tensor in tensors().values())
    assert {row.name: (row.shape, row.dtype) for row in found.rows} == {
        name: (tuple(tensor.shape), str(tensor.dtype)[6:]) for name, tensor in tensors().items()
    }
    table = 8 * found.bytes - sum(
        row.bits * max(1, tensors()[row.name].numel()) for row in found.rows
    )
    assert 0 < table < 8 * 150, "all bits but the table's are somebody's"
    assert json.loads(json.dumps(found.to_dict()))["bytes"] == found.bytes


def test_a_file_is_read_by_all_that_reads_files(tmp_path):
    data = shrink(write_file(tmp_path), tmp_path / "m.sws").data
    layout = inspect(data)
    assert layout.version == 5 and layout.tensors.keys() == tensors().keys()
    assert decode(data).tensors().keys() == tensors().keys()


def test_tensors_that_are_tied_are_written_once(tmp_path):
    tied = tensors()
    apart = {**tied, "head.weight": tied["head.weight"].flip(0).contiguous()}
    one = shrink(tied, tmp_path / "one.sws")
    other = shrink(apart, tmp_path / "other.sws")
    assert other.bytes - one.bytes > 0.4 * 60 * 30
    assert {row.name: row.bits for row in one.rows}["head.weight"] == 0


def test_a_file_of_shards_is_that_of_one_file(tmp_path):
    (tmp_path / "shards").mkdir()
    shards = shrink(write_shards(tmp_path / "shards"), tmp_path / "s.sws")
    one = shrink(write_file(tmp_path), tmp_path / "m.sws")
    expand(tmp_path / "s.sws", tmp_path / "s.safetensors")
    expand(tmp_path / "m.sws", tmp_path / "m.safetensors")
    back, other = load_file(tmp_path / "s.safetensors"), load_file(tmp_path / "m.safetensors")
    assert back.keys() == other.keys() and all(torch.equal(back[n], other[n]) for n in back)
    assert abs(shards.bytes - one.bytes) < 200


def test_a_mapping_gives_the_bytes_of_its_file_and_is_left_alone(tmp_path):
    given = {name: tensors()[name] for name in sorted(tensors())}
    before, state = {n: t.clone() for n, t in given.items()}, torch.get_rng_state()
    found = shrink(given, tmp_path / "mapping.sws")
    assert found.data == shrink(write_file(tmp_path), tmp_path / "m.sws").data
    assert all(torch.equal(given[n], before[n]) for n in given)
    assert torch.equal(torch.get_rng_state(), state)


# Several processes


@pytest.mark.integration
@pytest.mark.parametrize("source", ["file", "mapping"])
def test_workers_give_the_bytes_of_one_process(tmp_path, source):
    given = write_file(tmp_path) if source == "file" else tensors()
    told = []
    one = shrink(given, tmp_path / "one.sws", workers=1)
    two = shrink(given, tmp_path / "two.sws", workers=2, callback=told.append)
    assert two.data == one.data
    assert told[-1].done == told[-1].total and told[0].stage == "shrink" and len(told) > 4


@pytest.mark.integration
def test_a_script_that_is_not_guarded_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import pyro_sws as sws\n"
        "from pyro_sws.compression.checkpoints import part\n"
        "part.TOGETHER = 1500\n"
        f"sws.shrink({str(write_file(tmp_path))!r}, 'm.sws', workers=2)\n"
    )
    done = python(script, cwd=tmp_path)
    assert done.returncode and 'if __name__ == "__main__"' in done.stderr
    assert not (tmp_path / "m.sws").exists()


@pytest.mark.integration
def test_a_script_that_is_guarded_starts_workers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import pyro_sws as sws\n"
        "from pyro_sws.compression.checkpoints import part\n"
        "if __name__ == '__main__':\n"
        "    part.TOGETHER = 1500\n"
        f"    sws.shrink({str(write_file(tmp_path))!r}, 'm.sws', workers=2)\n"
    )
    done = python(script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    one = shrink(tmp_path / "model.safetensors", tmp_path / "one.sws", workers=1)
    assert (tmp_path / "m.sws").read_bytes() == one.data


@pytest.mark.integration
@pytest.mark.parametrize("count", [2, 4])
def test_ranks_give_the_bytes_of_one_process(tmp_path, count):
    source = write_file(tmp_path)
    one = shrink(source, tmp_path / "one.sws")
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    words = [*launcher, HELPERS / "small_checkpoints.py", source, tmp_path / "ranks.sws"]
    done = python(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ranks.sws").read_bytes() == one.data
    for rank in range(count):
        told = json.loads((tmp_path / f"ranks.sws.{rank}.json").read_text())
        assert told == {"bytes": one.bytes, "rows": [row.name for row in one.rows]}
    assert not list(tmp_path.glob(".*"))


def python(*words, cwd):
    paths = os.pathsep.join(map(str, (HELPERS, HELPERS.parents[1])))
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=240,
    )


# Ended, and gone on


class Ended(Exception):
    """A process that is killed."""


def ended_after(monkeypatch, parts):
    """Let so many parts be made, then end; a list of those that are made."""
    own, done = part.made, []

    def made(unit, *arguments):
        if len(done) == parts:
            raise Ended
        done.append(unit.key)
        return own(unit, *arguments)

    monkeypatch.setattr(shrinking, "made", made)
    return done


def test_a_run_that_was_ended_goes_on_where_it_was(tmp_path, monkeypatch):
    source, out = write_file(tmp_path), tmp_path / "m.sws"
    expected = shrink(source, tmp_path / "whole.sws")
    first = ended_after(monkeypatch, 2)
    with pytest.raises(Ended):
        shrink(source, out)
    assert len(first) == 2 and not out.exists()
    second = ended_after(monkeypatch, 100)
    found = shrink(source, out)
    assert not {*first} & {*second} and len(second) == PARTS - 2
    assert found.data == expected.data and found.rows[0].name == expected.rows[0].name
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "m.sws",
        "model.safetensors",
        "whole.sws",
    ]


@pytest.mark.parametrize("change", ["tolerance", "content", "method", "damage", "resume"])
def test_parts_of_another_run_are_not_taken(tmp_path, monkeypatch, change):
    source, out = write_file(tmp_path), tmp_path / "m.sws"
    with monkeypatch.context() as patch, pytest.raises(Ended):
        ended_after(patch, 4)
        shrink(source, out)
    tolerance, resume = 0.005, True
    if change == "tolerance":
        tolerance = 0.01
    elif change == "content":
        source = write_file(
            tmp_path, {n: t + 1 if t.dtype.is_floating_point else t for n, t in tensors().items()}
        )
    elif change == "method":
        monkeypatch.setattr(part, "METHOD", -1)
    elif change == "damage":
        for file in (tmp_path / ".m.sws.parts").glob("*.sws"):
            file.write_bytes(file.read_bytes()[:-20] + b"x" * 20)
    else:
        resume = False
    made = ended_after(monkeypatch, 100)
    found = shrink(source, out, tolerance=tolerance, resume=resume)
    assert len(made) == PARTS
    monkeypatch.undo()
    monkeypatch.setattr(part, "TOGETHER", SMALL_PARTS)
    assert found.data == shrink(source, tmp_path / "whole.sws", tolerance=tolerance).data


def test_one_process_shrinks_into_a_file(tmp_path):
    out, refusals = tmp_path / "m.sws", []

    def again(told):
        with pytest.raises(BlockingIOError, match="m.sws is being written by this process") as no:
            shrink(tensors(), out)
        refusals.append(no)

    found = shrink(tensors(), out, workers=1, callback=again)
    assert refusals and out.read_bytes() == found.data
    assert [path.name for path in tmp_path.iterdir()] == ["m.sws"]
    assert shrink(tensors(), out).data == found.data


def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch):
    out = tmp_path / "m.sws"
    out.write_bytes(b"old")
    ended_after(monkeypatch, 0)
    with pytest.raises(Ended):
        shrink(tensors(), out)
    assert out.read_bytes() == b"old"


# What is refused


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"tolerance": 0}, "tolerance is the relative squared error"),
        ({"workers": 0}, "workers must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        shrink(tensors(), tmp_path / "m.sws", **settings)


@pytest.mark.parametrize(
    "settings", [{"workers": 1.5}, {"resume": 1}, {"ranks": 2}, {"callback": 3}]
)
def test_settings_of_another_kind_are_refused(tmp_path, settings):
    with pytest.raises(TypeError, match=next(iter(settings))):
        shrink(tensors(), tmp_path / "m.sws", **settings)


def test_a_place_that_cannot_be_written_is_refused_first(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .* for m.sws; make it first"):
        shrink(tensors(), tmp_path / "none" / "m.sws")
    with pytest.raises(IsADirectoryError, match="name a file in it"):
        shrink(tensors(), tmp_path)


def test_shrinking_is_public():
    assert sws.shrink is shrink and sws.expand is expand


def test_what_is_read_is_never_written_over(tmp_path):
    """Nor through a link, or as a shard; and expanding leaves the file alone as well."""
    source = write_file(tmp_path)
    (tmp_path / "link.sws").symlink_to(source)
    before = source.read_bytes()
    for given, out in ((source, source), (source, tmp_path / "link.sws"), (tmp_path, source)):
        with pytest.raises(ValueError, match="is what is read; give another place"):
            shrink(given, out, workers=1)
        assert source.read_bytes() == before
    file = tmp_path / "model.sws"
    shrink(source, file, workers=1)
    small = file.read_bytes()
    with pytest.raises(ValueError, match="is what is read; give another place"):
        expand(file, file)
    assert file.read_bytes() == small
