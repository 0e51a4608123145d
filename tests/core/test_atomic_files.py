import os
import stat

import pytest
from supsup_core import atomic_files
from supsup_core.atomic_files import make_folder, replace_file


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "file"
    for content in (b"old", b"new"):
        replace_file(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_on_disk_before_its_name_and_its_name_before_it_returns(tmp_path, monkeypatch):
    """After a power cut only what was synced is there."""
    seen, fsync, replace = [], os.fsync, os.replace

    def synced(file):
        found = os.fstat(file)
        seen.append("folder" if stat.S_ISDIR(found.st_mode) else found.st_size)
        fsync(file)

    def replaced(*names):
        seen.append("replaced")
        replace(*names)

    monkeypatch.setattr(atomic_files.os, "fsync", synced)
    monkeypatch.setattr(atomic_files.os, "replace", replaced)
    replace_file(tmp_path / "file", b"12345")
    assert seen == [5, "replaced", "folder"]
    seen.clear()
    make_folder(tmp_path / "a" / "b")
    assert seen == ["folder", "folder"]


def fail_to_sync(monkeypatch, error):
    def fsync(_):
        raise error

    monkeypatch.setattr(atomic_files.os, "fsync", fsync)


def test_a_failed_write_names_the_file_and_leaves_the_old_one_alone(tmp_path, monkeypatch):
    path = tmp_path / "file"
    replace_file(path, b"old")
    fail_to_sync(monkeypatch, OSError(28, "No space left on device"))
    with pytest.raises(OSError, match="No space left on device") as caught:
        replace_file(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "file"
    replace_file(path, b"old")
    fail_to_sync(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
