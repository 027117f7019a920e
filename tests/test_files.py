"""Files that are written whole or not at all."""

import os

import pytest

from pyro_sws.files import write_whole


def test_a_pipe_or_device_is_refused_and_stays(tmp_path):
    """A file renamed to its name would be in its place: of /dev/full, for all programs."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe is no file, but a device, pipe or socket"):
        write_whole(tmp_path / "pipe", b"content")
    assert (tmp_path / "pipe").is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
