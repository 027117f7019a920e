"""Attacks by data sets' files: sizes that lie, bombs, archives that would write elsewhere."""

import gzip
import io
import lzma
import tarfile
import wave

import numpy as np
import pytest

from models import data, files, spoken_digits
from pyro_sws.assess.draws.inference_data import inference_data, load_netcdf, save_netcdf

LEAST = 1 << 16  # bytes, in place of the true limit: bombs of tests are small


@pytest.fixture
def small_limit(monkeypatch):
    monkeypatch.setattr(files, "UNPACKED", LEAST)
    monkeypatch.setattr(spoken_digits, "UNPACKED", LEAST)


def idx(*sizes, elements=24):
    head = bytes([0, 0, 8, len(sizes)]) + np.array(sizes, ">u4").tobytes()
    return head + bytes(elements)


@pytest.mark.parametrize(
    "content",
    [
        *(idx(2, 3, 5), idx(2**31, 2**31, 4), idx(2**32 - 1, 2**32 - 1, 2**32 - 1)),
        *(idx(2, 3), idx(0, 2**32 - 1, 1), idx(2, 3, 4)[:9], idx(2, 3, 4)[:-1], b""),
    ],
)
def test_an_idx_file_whose_sizes_lie_is_refused(content, tmp_path):
    (tmp_path / "a.idx").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.idx"):
        data.read_idx(tmp_path / "a.idx", 3)


@pytest.mark.parametrize("length", [0, 1, 3072, 3074, 2 * 3073 - 1])
def test_a_cifar_batch_of_another_length_is_refused(length, tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(length))
    with pytest.raises(ValueError, match=r"a\.bin"):
        data.read_records(tmp_path / "a.bin")


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_bomb_is_unpacked_up_to_the_limit_and_refused(small_limit, suffix, pack, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(pack(bytes(LEAST + 1)))
    with pytest.raises(ValueError, match=rf"a\{suffix}: it unpacks to more than {LEAST}"):
        files.read(path)
    path.write_bytes(pack(bytes(LEAST)))
    assert len(files.read(path)) == LEAST


def archive(members, mode="w:gz"):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as file:
        for member, content in members:
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def named(name, **more):
    member = tarfile.TarInfo(name)
    for key, value in more.items():
        setattr(member, key, value)
    return member


def test_an_archive_that_is_a_bomb_is_refused_before_it_is_unpacked(small_limit):
    content = archive([(named("recordings/1_a_1.wav"), bytes(2 * LEAST))])
    with pytest.raises(ValueError, match=f"more than {LEAST} bytes"):
        list(spoken_digits.recordings(io.BytesIO(content)))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_a_link_or_device_in_an_archive_is_not_read(kind, tmp_path):
    link = named("recordings/1_a_1.wav", type=kind, linkname="/etc/hostname")
    assert not list(spoken_digits.recordings(io.BytesIO(archive([(link, b"")]))))


def test_a_path_out_of_the_archive_is_a_name_and_nothing_is_written_there(tmp_path, monkeypatch):
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    content = archive([(named("../../recordings/1_a_1.wav"), b"x")])
    [(match, found)] = spoken_digits.recordings(io.BytesIO(content))
    assert (match[1], found) == ("1", b"x")
    assert [path.name for path in tmp_path.rglob("*")] == ["inside"]


@pytest.mark.parametrize("end", [0, 10, 30, 60])
def test_an_archive_cut_short_is_refused(end):
    content = archive([(named("recordings/1_a_1.wav"), bytes(range(256)) * 9)])[:end]
    with pytest.raises(ValueError, match="not a whole archive of recordings"):
        list(spoken_digits.recordings(io.BytesIO(content)))


def sound():
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(600))
    return content.getvalue()


@pytest.mark.parametrize("content", [b"", b"RIFF", sound()[:30], b"RIFX" + sound()[4:], bytes(99)])
def test_a_recording_that_is_no_sound_is_refused(content):
    with pytest.raises(ValueError, match="recording"):
        spoken_digits.samples(content)


def test_a_sound_whose_length_lies_gives_what_is_there():
    lying = sound()[:40] + (2**32 - 2).to_bytes(4, "little") + sound()[44:]
    try:
        assert len(spoken_digits.samples(lying)) <= 300
    except ValueError as error:
        assert "recording" in str(error)


@pytest.mark.parametrize("share", [0, 0.01, 0.2, 0.5, 0.8, 0.99])
def test_draws_cut_short_are_refused(share, tmp_path):
    path = tmp_path / "mixture.nc"
    draws = {"posterior": {"means": np.arange(12.0).reshape(1, 4, 3)}}
    save_netcdf(inference_data(draws, inference_method="nuts"), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(OSError):
        load_netcdf(path)


def test_draws_whose_tables_are_overwritten_are_refused(tmp_path):
    path = tmp_path / "mixture.nc"
    draws = {"posterior": {"means": np.arange(12.0).reshape(1, 4, 3)}}
    save_netcdf(inference_data(draws, inference_method="nuts"), path)
    content = path.read_bytes()
    at = content.rindex(b"OHDR")  # the last header of a group or variable
    path.write_bytes(content[: at + 4] + bytes(16) + content[at + 20 :])
    with pytest.raises(OSError, match=r"mixture\.nc"):
        load_netcdf(path)
