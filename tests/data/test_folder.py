import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch
from PIL import Image

from tests.data.samples import ramp
from unnoise.data import open_folder, scan_folder
from unnoise.errors import DataError, InvalidArgument


def metadata(folder, *lines):
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "metadata.jsonl").write_text(text)


def test_a_flat_folder_has_no_labels_and_is_in_the_order_of_names(save):
    for shift, name in enumerate(("b.png", "a.png", "C.PNG")):
        save(name, ramp(shift=shift))
    data = open_folder(save.folder)
    assert data.labels is None
    assert data.values[:, 0, 0, 0].tolist() == [2, 1, 0]
    assert (data.spec.channels, data.spec.shape, data.spec.name) == ("L", (1, 6, 4), "pictures")
    assert data.notes == ()


def test_class_folders(save):
    for shift, name in enumerate(("dog/1.png", "cat/1.png", "dog/deep/2.png", "cat/2.png")):
        save(name, ramp(shift=shift))
    data = open_folder(save.folder)
    assert data.spec.class_names == ("cat", "dog")
    assert data.values[:, 0, 0, 0].tolist() == [1, 3, 0, 2]
    assert data.labels.tolist() == [0, 0, 1, 1]
    swapped = open_folder(save.folder, class_names=["dog", "cat"])
    assert swapped.labels.tolist() == [1, 1, 0, 0]
    assert open_folder(save.folder, labelled=False).labels is None
    with pytest.raises(DataError, match=r"folder of dog/1\.png"):
        open_folder(save.folder, class_names=["cat"])


def test_linked_class_folders_are_followed(save, tmp_path):
    save("cat/1.png", ramp())
    save("cat/2.png", ramp(shift=1))
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "feline").symlink_to(save.folder / "cat")
    data = open_folder(tmp_path / "links")
    assert data.class_counts() == {"feline": 2}
    assert data.notes == ("1 link(s) out of the folder were followed (first: feline)",)
    (save.folder / "cat" / "3.png").symlink_to(save.folder / "cat" / "1.png")
    assert open_folder(save.folder).notes == ()  # it stays inside


def test_pictures_beside_class_folders_and_part_folders_are_refused(save):
    save("cat/1.png", ramp())
    save("loose.png", ramp(shift=1))
    with pytest.raises(DataError, match=r"loose\.png"):
        open_folder(save.folder)
    assert len(open_folder(save.folder, labelled=False)) == 2


def test_folders_named_as_parts_are_not_classes(save):
    save("train/cat/1.png", ramp())
    save("test/cat/1.png", ramp(shift=1))
    with pytest.raises(DataError, match="parts of a data set"):
        open_folder(save.folder)
    save("stop/1.png", ramp())
    assert open_folder(save.folder).spec.classes == 3


def test_hidden_files_and_others_are_left_out_with_a_note(save):
    save("cat/1.png", ramp())
    save("cat/2.png", ramp(shift=1))
    (save.folder / "cat" / "._1.png").write_bytes(b"resource fork")
    (save.folder / ".DS_Store").write_bytes(b"x")
    (save.folder / "cat" / "notes.txt").write_text("x")
    (save.folder / "__MACOSX").mkdir()
    (save.folder / "__MACOSX" / "x.png").write_bytes(b"x")
    (save.folder / ".cache").mkdir()
    (save.folder / ".cache" / "y.png").write_bytes(b"x")
    (save.folder / "empty").mkdir()
    data = open_folder(save.folder)
    assert data.class_counts() == {"cat": 2}
    hidden, other, empty = data.notes
    assert hidden.startswith("4 hidden")
    assert "notes.txt" in other
    assert empty.endswith("empty")


def test_moving_pictures_give_their_first_frame_with_a_note(save):
    frames = [Image.fromarray(np.full((4, 4), v, np.uint8)) for v in (10, 200)]
    save("a.gif", frames[0], save_all=True, append_images=frames[1:])
    save("b.gif", frames[1])
    data = open_folder(save.folder, mode="L")
    assert data.values.amax((1, 2, 3)).tolist() == [10, 200]
    assert "a.gif" in data.notes[0]


def test_mode_is_grey_only_if_all_are(save):
    save("a.png", ramp())
    save("b.png", np.uint16(ramp()) * 257)
    assert open_folder(save.folder).spec.channels == "L"
    save("c.png", np.stack([ramp()] * 3, -1))
    assert open_folder(save.folder).spec.channels == "RGB"
    assert open_folder(save.folder, mode="L").values[2, 0].tolist() == ramp().tolist()
    with pytest.raises(InvalidArgument, match="did you mean 'RGB'"):
        open_folder(save.folder, mode="RGBA")


def test_differing_sizes_need_size_and_are_listed(save):
    save("a.png", ramp(6, 4))
    save("b.png", ramp(6, 4, shift=1))
    save("c.png", ramp(9, 8))
    with pytest.raises(DataError, match=r"6 × 4 \(2\), 9 × 8 \(1\).*size="):
        open_folder(save.folder)
    data = open_folder(save.folder, size=4)
    assert data.spec.shape == (1, 4, 4)
    assert data.notes == ()
    data = open_folder(save.folder, size=(8, 5))
    assert data.spec.shape == (1, 8, 5)
    assert data.notes[0].startswith("2 picture(s) smaller")
    assert scan_folder(save.folder).sizes == {(6, 4): 2, (9, 8): 1}
    for size in (0, -3, (4, 0)):
        with pytest.raises(InvalidArgument, match="size"):
            open_folder(save.folder, size=size)


def test_pictures_turned_by_exif_are_of_one_size(save):
    exif = Image.Exif()
    exif[0x0112] = 6
    save("a.png", ramp(6, 4))
    save("b.png", ramp(4, 6), exif=exif)
    assert open_folder(save.folder).spec.shape == (1, 6, 4)


def test_real_photographs(tmp_path):
    from sklearn.datasets import load_sample_images

    images = Path(sklearn.datasets.__file__).parent / "images"
    for name in ("china.jpg", "flower.jpg"):
        shutil.copy(images / name, tmp_path)
    data = open_folder(tmp_path, size=32)
    assert data.spec.shape == (3, 32, 32)
    for found, truth in zip(data.values, load_sample_images().images, strict=True):
        centre = truth[:, 106:533].astype(float)  # 427 × 640, the middle square
        assert np.abs(found.float().mean((1, 2)).numpy() - centre.mean((0, 1))).max() < 1.5
        quarters = [h for row in np.array_split(centre, 2) for h in np.array_split(row, 2, 1)]
        means = torch.stack(
            [
                found[:, a : a + 16, b : b + 16].float().mean((1, 2))
                for a in (0, 16)
                for b in (0, 16)
            ]
        )
        assert np.abs(means.numpy() - [q.mean((0, 1)) for q in quarters]).max() < 2.5


def test_damaged_pictures_are_named_before_any_is_decoded(save):
    save("a.png", ramp())
    save("b.png", ramp(shift=1)).write_bytes(b"broken")
    with pytest.raises(DataError, match=r"b\.png"):
        open_folder(save.folder)


def test_empty_absent_and_single(save, tmp_path):
    with pytest.raises(DataError, match="no folder"):
        open_folder(tmp_path / "absent")
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    with pytest.raises(DataError, match="no pictures"):
        open_folder(tmp_path / "empty")
    save("only.png", ramp())
    with pytest.raises(DataError, match="fewer than 2"):
        open_folder(save.folder)
    with pytest.raises(DataError, match="no folder"):
        open_folder(save.folder / "only.png")


def test_too_much_to_hold_stays_in_its_files_and_may_be_refused(save, cache, monkeypatch):
    save("a.png", ramp(60, 40))
    save("b.png", ramp(60, 40, shift=1))
    held = open_folder(save.folder)
    monkeypatch.setattr("unnoise.data.found.MAX_BYTES", 1000)
    data = open_folder(save.folder)
    assert data.streamed
    assert not held.streamed
    assert torch.equal(data.batch([1, 0]).x0, held.batch([1, 0]).x0)
    with pytest.raises(DataError, match="at most"):
        open_folder(save.folder, stream=False)


@pytest.mark.parametrize("key", ["label", "class"])
def test_metadata_gives_files_and_labels(save, key):
    for shift, name in enumerate(("a.png", "sub/b.png", "c.png")):
        save(name, ramp(shift=shift))
    metadata(
        save.folder,
        {"file_name": "c.png", key: "red", "text": "a thing"},
        "",
        {"file_name": "./sub/b.png", key: "blue"},
        {"file_name": "a.png", key: "red"},
    )
    data = open_folder(save.folder)
    assert data.values[:, 0, 0, 0].tolist() == [2, 1, 0]
    assert data.spec.class_names == ("blue", "red")
    assert data.labels.tolist() == [1, 0, 1]
    assert data.notes == ("columns of metadata.jsonl that are not used: text",)


def test_metadata_without_labels_and_with_numbers(save):
    save("a.png", ramp())
    save("b.png", ramp(shift=1))
    metadata(save.folder, {"file_name": "a.png"}, {"file_name": "b.png"})
    assert open_folder(save.folder).labels is None
    metadata(save.folder, {"file_name": "a.png", "label": 1}, {"file_name": "b.png", "label": 0})
    assert open_folder(save.folder).labels.tolist() == [1, 0]
    assert open_folder(save.folder, class_names=["x", "y", "z"]).spec.classes == 3


A, B = {"file_name": "a.png", "label": 0}, {"file_name": "b.png", "label": 1}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((A,), r"does not list 1 .*b\.png"),
        ((A, A), "line 2 names 'a.png', as line 1"),
        ((A, B, {"file_name": "c.png", "label": 0}), "line 3 names 'c.png', but there is no such"),
        ((A, {"file_name": "../outside.png"}), "line 2 .*leads out"),
        ((A, {"file_name": "sub/../../outside.png"}), "line 2 .*leads out"),
        ((A, {"file_name": "/etc/hostname"}), "line 2 .*leads out"),
        ((A, {"file_name": "..\\outside.png"}), "line 2 .*leads out"),
        ((A, {"file_name": "link.png"}), "line 2 .*leads out"),
        ((A, {"file": "b.png"}), "line 2 has file_name None"),
        ((A, {"file_name": 3}), "line 2 has file_name 3"),
        ((A, {"file_name": "b.png"}), "line 2 has label None"),
        ((A, {"file_name": "b.png", "label": "one"}), "line 2 has label 'one'"),
        ((A, {"file_name": "b.png", "label": 1.5}), "line 2 has label 1.5"),
        ((A, {"file_name": "b.png", "label": True}), "line 2 has label True"),
        ((A, {"file_name": "b.png", "label": [1]}), "line 2 has label"),
        ((A, {**B, "class": 1}), "line 2 has both"),
        ((A, {**B, "label": -1}), "line 2: label is -1, out of range"),
        ((A, {**B, "label": 2}), "no sample has label 1"),
        ((A, '{"file_name": "b.png"'), "line 2 is not sound JSON"),
        ((A, '{"file_name": "b.png", "label": NaN}'), "line 2 .*NaN"),
        ((A, '{"label": 0, "file_name": "b.png", "label": 1}'), "line 2 .*twice"),
        ((A, "[]"), "line 2 is not an object"),
        (("",), "names no files"),
    ],
)
def test_metadata_that_does_not_match_names_file_and_line(save, tmp_path, lines, message):
    save("a.png", ramp())
    save("b.png", ramp(shift=1))
    Image.fromarray(ramp()).save(tmp_path / "outside.png")
    if any("link.png" in str(line) for line in lines):
        (save.folder / "link.png").symlink_to(tmp_path / "outside.png")
    metadata(save.folder, *lines)
    with pytest.raises(DataError, match=message) as caught:
        open_folder(save.folder)
    if "no sample" not in message:
        assert "metadata.jsonl" in str(caught.value)


def test_labels_beyond_the_class_names_name_the_line(save):
    save("a.png", ramp())
    save("b.png", ramp(shift=1))
    metadata(save.folder, A, {**B, "label": 2})
    with pytest.raises(DataError, match=r"metadata\.jsonl line 2: label is 2, .* 0 to 1"):
        open_folder(save.folder, class_names=["x", "y"])


def test_metadata_that_is_not_text_is_refused(save):
    save("a.png", ramp())
    (save.folder / "metadata.jsonl").write_bytes(b"\xff\xfe{}")
    with pytest.raises(DataError, match="UTF-8"):
        open_folder(save.folder)
