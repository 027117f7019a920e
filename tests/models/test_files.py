"""Files of data sets: found however they are packed, downloaded once, from a local server."""

import gzip
import hashlib
import lzma
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

import pytest

CONTENT = b"1,2\n3,4\n"


class Quiet(SimpleHTTPRequestHandler):
    asked: list[str] = []

    def log_message(self, *words):
        self.asked.append(self.path)


@pytest.fixture
def server(files, tmp_path, monkeypatch):
    """A folder that is served, its address, and what was asked for."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setattr(files, "urlopen", urlopen)
    Quiet.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


@pytest.fixture
def table(files, server):
    """A data set of one file, that is packed where it is served."""
    folder, url = server
    packed = gzip.compress(CONTENT)
    (folder / "data.csv.gz").write_bytes(packed)
    digest = hashlib.sha256(packed).hexdigest()
    download = files.Download(f"{url}data.csv.gz", digest, files.sha256)
    return files.DataSet("the table", ("uci", "tables"), {"table.csv": download})


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_a_file_is_read_however_it_is_packed(files, tmp_path, pack):
    suffix = {bytes: "", gzip.compress: ".gz", lzma.compress: ".xz"}[pack]
    (tmp_path / f"a.bin{suffix}").write_bytes(pack(b"all of it"))
    assert files.read(files.existing(tmp_path, "a.bin")) == b"all of it"


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_packed_file_that_is_cut_short_is_named(files, tmp_path, suffix, pack):
    (tmp_path / f"a{suffix}").write_bytes(pack(bytes(range(256)) * 9)[:-20])
    with pytest.raises(ValueError, match=rf"a\{suffix}: not a whole .*fetch it again"):
        files.read(tmp_path / f"a{suffix}")


def test_a_set_is_downloaded_once_and_kept_under_its_own_name(files, table, cache):
    for _ in range(2):
        found = files.locate(table, None)["table.csv"]
        assert found == cache / "uci" / "table.csv.gz" and files.read(found) == CONTENT
    assert Quiet.asked == ["/data.csv.gz"]


def test_a_folder_that_is_given_is_all_that_is_looked_at(files, table, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no table\.csv .*the table, or neither"):
        files.locate(table, tmp_path)
    for folder in (tmp_path, tmp_path / "tables", tmp_path / "uci"):  # the later ones come first
        folder.mkdir(exist_ok=True)
        (folder / "table.csv").write_bytes(CONTENT)
        assert files.locate(table, tmp_path)["table.csv"] == folder / "table.csv"
    monkeypatch.setenv("PYRO_SWS_DATA", str(tmp_path))
    assert files.locate(table, None) == files.locate(table, tmp_path)
    assert not Quiet.asked


def test_another_file_than_the_one_that_is_known_is_not_kept(files, table, server, cache):
    (server[0] / "data.csv.gz").write_bytes(b"another")
    with pytest.raises(ValueError, match=r"7 bytes received have sha256 .*nothing was kept"):
        files.locate(table, None)
    assert not cache.exists()


def test_a_file_that_is_served_no_more_is_told_with_the_remedy(files, table, server):
    (server[0] / "data.csv.gz").unlink()
    with pytest.raises(ConnectionError, match=r"data\.csv\.gz .*404.*a folder with the table"):
        files.locate(table, None)
