import builtins
import hashlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from supsup_datasets import CropFlip, DataUnavailable, Normalization, cifar10, cifar100, split_cifar100

FILES = {
    "cifar-10-batches-py": ({f"data_batch_{number}": 20 for number in range(1, 6)}, "test_batch", "batches.meta"),
    "cifar-100-python": ({"train": 200}, "test", "meta"),
}


def write_cifar(root: Path, folder: str, protocol: int = 2) -> Path:
    """Write a few images as the originals are written: pickled dictionaries of bytes and lists."""
    train, test, meta = FILES[folder]
    classes, key = (10, "") if folder == "cifar-10-batches-py" else (100, "fine_")
    (root / folder).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, count in {**train, test: classes}.items():
        data = generator.integers(0, 256, (count, 3072), dtype=np.uint8)
        labels = [number % classes for number in range(count)]
        entry = {"data": data, f"{key}labels": labels, "filenames": ["x.png"] * count, "batch_label": name}
        (root / folder / name).write_bytes(pickle.dumps(entry, protocol))
    names = [f"class {number}" for number in range(classes)]
    (root / folder / meta).write_bytes(pickle.dumps({f"{key}label_names": names}, protocol))
    return root


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(("read", "folder"), [(cifar10, "cifar-10-batches-py"), (cifar100, "cifar-100-python")])
def test_files_are_read_as_torchvision_reads_them(tmp_path, monkeypatch, read, folder, protocol):
    write_cifar(tmp_path, folder, protocol)
    data = read(tmp_path, verify=False)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5: True)
    reader = torchvision.datasets.CIFAR10 if read is cifar10 else torchvision.datasets.CIFAR100
    for part, train in ((data.train, True), (data.test, False)):
        theirs = reader(tmp_path, train=train)
        assert np.array_equal(part.images.permute(0, 2, 3, 1).numpy(), theirs.data)
        assert part.labels.tolist() == theirs.targets
    assert data.class_names == tuple(theirs.classes)
    assert data.normalization == Normalization((0.491, 0.482, 0.447), (0.247, 0.243, 0.262))
    assert data.augmentation == CropFlip(padding=4, flip=True)


def test_the_preset_over_files_in_the_format(tmp_path):
    stream = split_cifar100(cifar100(write_cifar(tmp_path, "cifar-100-python"), verify=False), seed=1)
    assert [len(task.train) for task in stream] == [10] * 20
    (batch,) = stream[3].train.shuffled(10, 1, torch.Generator().manual_seed(0))
    assert batch.images.shape == (10, 3, 32, 32)


def test_the_sums_are_those_that_torchvision_knows(tmp_path, monkeypatch):
    """Give each file the content whose sum is asked for, by a stand-in for MD5 that looks the name up."""
    for read, theirs in ((cifar10, torchvision.datasets.CIFAR10), (cifar100, torchvision.datasets.CIFAR100)):
        write_cifar(tmp_path, theirs.base_folder)
        known = dict([*theirs.train_list, *theirs.test_list, (theirs.meta["filename"], theirs.meta["md5"])])
        by_content = {(tmp_path / theirs.base_folder / name).read_bytes(): digest for name, digest in known.items()}

        class Sum:
            def __init__(self, content, usedforsecurity, by_content=by_content):
                self.hexdigest = lambda: by_content[content]

        monkeypatch.setattr(hashlib, "md5", Sum)
        assert read(tmp_path).digest == read(tmp_path, verify=False).digest
        monkeypatch.undo()


def test_files_are_read_as_python_2_wrote_them(tmp_path):
    # By hand, as the originals: protocol 2, keys and pixels as 8-bit strings, numpy's old module names.
    pixels = bytes(range(256)) * 12
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\n"
        b"U\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x00\x0c\x00\x00"
        + pixels
        + b"tb"
    )
    folder = write_cifar(tmp_path, "cifar-100-python") / "cifar-100-python"
    (folder / "test").write_bytes(b"\x80\x02}(U\x04data" + array + b"U\x0bfine_labels]K\x07au.")
    test = cifar100(tmp_path, verify=False).test
    assert test.images.flatten().tolist() == list(pixels)
    assert test.labels.tolist() == [7]


class Exploit:
    def __reduce__(self):
        return builtins.exec, ("raise SystemExit('code ran while a file was read')",)


class Codec:
    def __reduce__(self):
        import codecs

        return codecs.encode, ("x", "rot13")


PAYLOADS = [
    Exploit(),
    Codec(),
    {"data": Exploit()},
    {"data": np.array([{}, None])},
    {"data": np.zeros(3, "i4,O")},
    print,
]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_file_that_would_run_code_is_refused_with_and_without_verification(tmp_path, payload):
    path = write_cifar(tmp_path, "cifar-100-python") / "cifar-100-python" / "train"
    path.write_bytes(pickle.dumps(payload))
    with pytest.raises(DataUnavailable, match=r"its MD5 sum is .*, the original's 16019d7e3df5f24257cddd939b257f8d"):
        cifar100(tmp_path)
    with pytest.raises(DataUnavailable, match="not a pickle of images"):
        cifar100(tmp_path, verify=False)


def rewritten(**changes):
    def damage(path):
        path.write_bytes(pickle.dumps({**pickle.loads(path.read_bytes()), **changes}))  # noqa: S301 - written above

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no such file; put the original there"),
        (lambda path: (path.unlink(), path.mkdir()), "not readable"),
        (lambda path: path.write_bytes(b""), "not a pickle of images"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not a pickle of images"),
        (lambda path: path.write_bytes(b"\x80\x02" + bytes(range(256))), "not a pickle of images"),
        (lambda path: path.write_bytes(pickle.dumps([1, 2])), "a pickled list and no dictionary"),
        (rewritten(data=[1, 2]), "its images are not 3 × 32 × 32 bytes each"),
        (rewritten(data=np.zeros((200, 100), np.uint8)), "its images are not 3 × 32 × 32 bytes each"),
        (rewritten(data=np.zeros((200, 3072))), "not a pickle of images .it holds an array of 'f8'"),
        (rewritten(data=np.zeros((200, 3072), np.int64)), "its images are not 3 × 32 × 32 bytes each"),
        (rewritten(data=np.zeros((199, 3072), np.uint8)), "it does not have a label of 0 to 99 for each image"),
        (rewritten(fine_labels=[0.5] * 200), "it does not have a label"),
        (rewritten(fine_labels=[True] * 200), "it does not have a label"),
        (rewritten(fine_labels=[100] * 200), "it does not have a label"),
        (rewritten(fine_labels=None), "it does not have a label"),
        (rewritten(data=np.zeros((0, 3072), np.uint8), fine_labels=[]), "there are no images in train"),
    ],
)
def test_damaged_files_are_named(tmp_path, damage, message):
    path = write_cifar(tmp_path, "cifar-100-python") / "cifar-100-python" / "train"
    damage(path)
    with pytest.raises(DataUnavailable, match=message) as caught:
        cifar100(tmp_path, verify=False)
    assert str(path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", [None, ["a"] * 99, [1] * 100, "x" * 100])
def test_a_list_of_class_names_that_is_none_is_refused(tmp_path, names):
    path = write_cifar(tmp_path, "cifar-100-python") / "cifar-100-python" / "meta"
    path.write_bytes(pickle.dumps({"fine_label_names": names}))
    with pytest.raises(DataUnavailable, match="meta: it does not name 100 classes"):
        cifar100(tmp_path, verify=False)


def test_what_is_missing_is_explained_with_its_place(tmp_path):
    with pytest.raises(
        DataUnavailable, match=f"{tmp_path}/cifar-100-python: no such folder; unpack the archive of CIFAR-100"
    ):
        cifar100(tmp_path)
    with pytest.raises(
        DataUnavailable, match="no such folder; create it, or name the one that holds cifar-10-batches-py"
    ):
        cifar10(tmp_path / "nowhere")


def test_a_download_lands_whole_or_not_at_all(tmp_path, monkeypatch):
    source = write_cifar(tmp_path / "source", "cifar-100-python")
    target = tmp_path / "target"
    target.mkdir()

    class Fake:
        def __init__(self, root, train, download):
            assert download
            shutil.copytree(source / "cifar-100-python", Path(root) / "cifar-100-python")
            (Path(root) / "cifar-100-python.tar.gz").write_bytes(b"x")

    monkeypatch.setattr("torchvision.datasets.CIFAR100", Fake)
    assert cifar100(target, download=True, verify=False).digest == cifar100(source, verify=False).digest
    assert [entry.name for entry in target.iterdir()] == ["cifar-100-python"]

    def fail(root, train, download):
        (Path(root) / "cifar-10-batches-py").mkdir()
        raise RuntimeError("no\nnetwork")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", fail)
    with pytest.raises(DataUnavailable, match=r"the download failed \(no network\); unpack the archive of CIFAR-10"):
        cifar10(target, download=True)
    assert [entry.name for entry in target.iterdir()] == ["cifar-100-python"]


def test_files_that_nobody_verified_do_not_take_the_name_of_the_original(tmp_path):
    assert cifar100(write_cifar(tmp_path, "cifar-100-python"), verify=False).name == "CIFAR-100, unverified"
