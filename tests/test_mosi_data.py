"""From files in all layouts to tensors, what is valid of them, and a card."""

import hashlib
import io
import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("rich")
pytest.importorskip("safetensors")

import mosi_files
from mosi_files import COUNTS, make_file, mmsa, mult
from rich.console import Console

from examples.mosi_sentiment import data as data_file
from examples.mosi_sentiment.data import MODALITIES, SPLITS, load_prepared, save_prepared
from examples.mosi_sentiment.layouts import read
from examples.mosi_sentiment.prepare import KNOWN, checksum, prepare, read_part

ROOT = Path(__file__).parents[1]
FOLDER = Path(os.environ.get("MODIMPUTE_DATA", ROOT.parent / "shared" / "data"))


def quietly(path, out, **options):
    return prepare(path, out, console=Console(file=io.StringIO()), **options)


def content_of(name):
    """A file's content to be changed, and how to write it."""
    rng = np.random.default_rng(0)
    return mmsa(name, rng) if name in mosi_files.MMSA else mult(name, rng)


def prepared(tmp_path, content, name="data.pkl", **options):
    path = tmp_path / name
    if name.endswith(".npz"):
        np.savez(path, **content)
    else:
        path.write_bytes(pickle.dumps(content))
    return quietly(path, tmp_path / "out", **options)


class TestLayouts:
    @pytest.mark.parametrize("name", mosi_files.NAMES)
    def test_all_are_read(self, tmp_path, name):
        path = make_file(tmp_path, name)
        data = quietly(path, tmp_path / "out")
        aligned = not any(word in name for word in ("noalign", "unaligned"))
        assert data.aligned == aligned
        assert data.stepwise == (name == "sequences.npz")
        assert data.task == ("emotions" if "iemocap" in name else "regression")
        assert data.dims == mosi_files.DIMS
        steps = 1 if name == "utterances.npz" else mosi_files.ALIGNED_STEPS
        assert data.lengths == (dict.fromkeys(MODALITIES, steps) if aligned else mosi_files.STEPS)
        for split, part in data.parts.items():
            assert len(part) == len(set(part.ids)) == COUNTS[split]
            labels = part.labels
            assert labels.shape[0] == COUNTS[split]
            assert labels.shape[1:] == (steps if data.stepwise else 1, 4 if "ie" in name else 1)
            assert part.label_valid.shape == labels.shape[:2]
            for n in MODALITIES:
                x, valid = part.modalities[n], part.valid[n]
                assert x.dtype == torch.float32
                assert valid.dtype == torch.bool
                assert x.isfinite().all()
                assert (x[~valid] == 0).all()
                assert valid.any()
        again = load_prepared(tmp_path / "out")
        assert again.card == json.loads((tmp_path / "out" / "card.json").read_text())
        for split, part in again.parts.items():
            before = data.parts[split]
            assert part.ids == before.ids
            assert torch.equal(part.labels, before.labels)
            assert torch.equal(part.label_valid, before.label_valid)
            for n in MODALITIES:
                assert torch.equal(part.modalities[n], before.modalities[n])
                assert torch.equal(part.valid[n], before.valid[n])

    def test_mult_values_are_those_of_the_file(self, tmp_path):
        rng = np.random.default_rng([0, mosi_files.NAMES.index("mosi_data.pkl")])
        content = mult("mosi_data.pkl", rng)
        data = quietly(make_file(tmp_path, "mosi_data.pkl"), tmp_path / "out")
        for split in SPLITS:
            part, fields = data.parts[split], content[split]
            assert part.ids[1] == f"{split}_video1_1.000_2.000"
            np.testing.assert_array_equal(part.labels[:, 0, 0], fields["labels"][:, 0, 0])
            for n in MODALITIES:
                x = np.where(np.isinf(fields[n]), 0, fields[n])
                np.testing.assert_array_equal(part.modalities[n], x)
                np.testing.assert_array_equal(part.valid[n], (x != 0).any(-1))
        assert not data.train.valid["vision"][3].any()
        assert data.train.valid["audio"][0].tolist() == [False] * 3 + [True] * 3  # on the left

    def test_emotions_are_the_argmax_of_pairs(self, tmp_path):
        content = content_of("iemocap_data.pkl")
        data = prepared(tmp_path, content)
        expected = content["test"]["labels"].argmax(-1)
        np.testing.assert_array_equal(data.test.labels[:, 0], expected)
        assert data.card["data set"] == "iemocap"
        assert data.card["labels"]["test"]["exactly one"] == COUNTS["test"]

    def test_mmsa_lengths_and_mask_win(self, tmp_path):
        content = content_of("unaligned_50.pkl")
        fields = content["train"]
        fields["audio"][0, 1] = 0.0  # inside the length: a step as any other
        fields["vision_lengths"][1] = 2  # shorter than what has values
        data = prepared(tmp_path, content)
        valid = data.train.valid
        assert valid["audio"].sum(1).tolist() == fields["audio_lengths"]
        assert valid["vision"][1].tolist() == [True] * 2 + [False] * 5
        np.testing.assert_array_equal(valid["text"], fields["text_bert"][:, 1] == 1)
        beyond = data.card["modalities"]["vision"]["splits"]["train"]["beyond the length"]
        assert beyond == np.count_nonzero(fields["vision"][1, 2:])
        assert (data.train.modalities["vision"][1, 2:] == 0).all()
        assert data.card["modalities"]["audio"]["valid from"] == "lengths"
        assert data.card["modalities"]["text"]["valid from"] == "a mask"
        assert data.card["modalities"]["text"]["padding"] == "right"
        fields["vision"][2] = 0.0
        again = prepared(tmp_path, content)
        assert not again.train.valid["vision"][2].any()  # missing, whatever its length

    def test_lengths_of_sequences_that_are_padded_on_the_left(self, tmp_path):
        rng = np.random.default_rng(0)
        content = {}
        for split in SPLITS:
            x = np.zeros((4, 5, 2))
            x[:, 2:] = rng.normal(size=(4, 3, 2))
            content |= {f"{split}_{n}": x.copy() for n in MODALITIES}
            content[f"{split}_vision"][:, -1] = 0.0  # gaps, which do not make it right-padded
            content[f"{split}_labels"] = np.where(np.arange(5) < 2, np.nan, rng.uniform(-3, 3, 5))
            content[f"{split}_labels"] = np.tile(content[f"{split}_labels"], (4, 1))
            content[f"{split}_lengths"] = np.array([3, 3, 3, 3])
        data = prepared(tmp_path, content, "data.npz")
        there = [False] * 2 + [True] * 3
        for n in MODALITIES:
            assert data.test.valid[n].tolist() == [there] * 4
        assert data.test.label_valid.tolist() == [there] * 4
        assert data.test.labels.isfinite().all()  # NaN in the padding is no label
        assert data.card["modalities"]["vision"]["padding"] == "left and right"
        assert data.card["modalities"]["audio"]["padding"] == "left"

    def test_lengths_of_a_modality_come_before_those_of_all(self, tmp_path):
        with np.load(make_file(tmp_path, "sequences.npz")) as file:
            content = dict(file)
        content["test_audio_lengths"] = np.full(COUNTS["test"], 2)
        data = prepared(tmp_path, content, "data.npz")
        assert data.test.valid["audio"].sum(1).unique().tolist() == [2]
        assert data.test.valid["text"].sum(1).tolist() == content["test_lengths"].tolist()
        assert data.test.label_valid.sum(1).tolist() == content["test_lengths"].tolist()

    def test_aligned_can_be_told(self, tmp_path):
        content = content_of("mosi_data.pkl")
        assert prepared(tmp_path, content).aligned
        assert not prepared(tmp_path, content, aligned=False).aligned
        with pytest.raises(ValueError, match=r"one number of steps if aligned, however: \{"):
            prepared(tmp_path, content_of("mosi_data_noalign.pkl"), aligned=True)
        path = make_file(tmp_path, "sequences.npz")
        with pytest.raises(ValueError, match="be aligned, however: its labels are per step"):
            quietly(path, tmp_path / "out", aligned=False)


class TestPrediction:
    """A part of a file without audio and labels."""

    @pytest.mark.parametrize("name", mosi_files.NAMES)
    def test_is_the_part_of_the_whole_file(self, tmp_path, name):
        path = make_file(tmp_path, name)
        whole = quietly(path, tmp_path / "out").test
        part = read_part(path)
        assert sorted(part.modalities) == ["text", "vision"]
        assert part.ids == whole.ids
        assert not part.label_valid.any()
        assert part.labels.shape == (len(part), 1, 1)
        for n in ("text", "vision"):
            assert torch.equal(part.modalities[n], whole.modalities[n])
            assert torch.equal(part.valid[n], whole.valid[n])

    def test_nothing_else_is_needed_or_read(self, tmp_path):
        for name in ("mosi_data.pkl", "unaligned_50.pkl"):
            path = tmp_path / name
            content = {"test": content_of(name)["test"]}
            path.write_bytes(pickle.dumps(content))
            whole = read_part(path)
            content["test"]["audio"] = "anything"
            path.write_bytes(pickle.dumps(content))
            assert torch.equal(read_part(path).modalities["text"], whole.modalities["text"])
            for field in ("audio", "labels", "regression_labels", "audio_lengths"):
                content["test"].pop(field, None)
            path.write_bytes(pickle.dumps(content))
            part = read_part(path)
            for n in ("text", "vision"):
                assert torch.equal(part.modalities[n], whole.modalities[n])
                assert torch.equal(part.valid[n], whole.valid[n])

    def test_arrays_without_the_name_of_a_split(self, tmp_path):
        x = np.random.default_rng(0).normal(size=(3, 4, 2))
        np.savez(tmp_path / "mine.npz", text=x, vision=x[:, 0], ids=["a", "b", "c"])
        part = read_part(tmp_path / "mine.npz")
        assert part.ids == ["a", "b", "c"]
        assert part.modalities["vision"].shape == (3, 1, 2)
        np.testing.assert_array_equal(part.modalities["text"], x.astype(np.float32))
        with pytest.raises(ValueError, match=r"mine\.npz, split test, field audio: must be there"):
            read_part(tmp_path / "mine.npz", modalities=("audio",))
        np.savez(tmp_path / "mine.npz", text=x, vision=x[:2])
        with pytest.raises(ValueError, match=r"as many samples in each field, .*'vision': 2"):
            read_part(tmp_path / "mine.npz")


class TestErrors:
    """Each names the file, the split and the field."""

    @pytest.mark.parametrize(
        ("name", "field", "change", "message"),
        [
            ("mosi_data.pkl", "audio", None, "be there, however: there are text, vision, labels"),
            ("mosi_data.pkl", "labels", None, "be there"),
            ("aligned_50.pkl", "regression_labels", None, "be there"),
            (
                "mosi_data.pkl",
                "audio",
                lambda x: x[:, 0],
                r"3 dimensions, .* shape=\(6, 5\)",
            ),
            ("mosi_data.pkl", "text", lambda x: x[:, :0], r"not be empty, however: shape=\(6, 0"),
            ("mosi_data.pkl", "text", lambda x: x.astype(str), "hold numbers, however: dtype=<U"),
            ("mosi_data.pkl", "text", lambda _: {"a": 1}, "hold numbers, however: dtype=object"),
            ("mosi_data.pkl", "text", lambda _: [[1.0], [1.0, 2.0]], "do not have one shape"),
            ("mosi_data.pkl", "vision", lambda x: x[..., :3], r"\(6, 20\), as train, .* \(6, 3\)"),
            ("mosi_data.pkl", "labels", lambda x: x * np.nan, r"finite label .* nan at \[0, 0\]"),
            ("mosi_data.pkl", "labels", lambda x: x + np.inf, r"finite label .* inf at \[0, 0\]"),
            ("mosi_data.pkl", "labels", lambda x: 0 * x + 4, r"in \[-3, 3\], .* 4.0 .*\(6 in all"),
            ("mosi_data.pkl", "labels", lambda x: np.tile(x, (1, 1, 7)), r"shape=\(6, 1, 7\)"),
            (
                "mosi_data.pkl",
                "id",
                lambda x: x[:2],
                "an id for each of 6 samples, .* an array",
            ),
            ("mosi_data.pkl", "id", lambda _: 7, "an id for each of 6 samples, however: int"),
            (
                "iemocap_data.pkl",
                "labels",
                lambda x: x * 2,
                r"pairs \[1, 0\] or \[0, 1\], .*",
            ),
            ("iemocap_data.pkl", "labels", lambda x: x * 0, "hold pairs"),
            ("iemocap_data.pkl", "labels", lambda x: x * 3 - 1, "hold pairs"),
            ("iemocap_data.pkl", "labels", lambda x: x * 0 + 1, "hold pairs"),
            ("iemocap_data.pkl", "labels", lambda x: x * np.nan, "hold pairs"),
            ("iemocap_data.pkl", "labels", lambda x: x[:, :, 0], r"shape=\(6, 4\)"),
            ("unaligned_50.pkl", "audio_lengths", lambda x: [99, *x[1:]], "from 0 to 9, .* 99"),
            ("unaligned_50.pkl", "audio_lengths", lambda x: [-1, *x[1:]], "from 0 to 9"),
            ("unaligned_50.pkl", "vision_lengths", lambda x: [0.5, *x[1:]], "whole numbers"),
            ("unaligned_50.pkl", "vision_lengths", lambda x: x[1:], "for each of 6 samples, .* 5"),
            ("unaligned_50.pkl", "text_bert", lambda x: x[:, :2], r"\(6, 3, 5\), .*\(6, 2, 5\)"),
            ("unaligned_50.pkl", "text_bert", lambda x: x + 1, "a mask of 0 and 1"),
        ],
    )
    def test_a_field(self, tmp_path, name, field, change, message):
        content = content_of(name)
        if change is None:
            del content["valid"][field]
        else:
            content["valid"][field] = change(content["valid"][field])
        place = re.escape(f"data.pkl, split valid, field {field}: must ")
        with pytest.raises(ValueError, match=f"{place}.*{message}"):
            prepared(tmp_path, content)
        assert not (tmp_path / "out").exists()

    def test_sizes_that_disagree(self, tmp_path):
        content = content_of("mosi_data.pkl")
        content["test"]["text"] = content["test"]["text"][:5]
        with pytest.raises(ValueError, match=r"test: must have as many .*'text': 5, .*'la"):
            prepared(tmp_path, content)

    def test_splits(self, tmp_path):
        content = content_of("mosi_data.pkl")
        del content["valid"]
        message = r"valid: must be a dict of fields, however: the file is a dict of 2 \(train"
        with pytest.raises(ValueError, match=message):
            prepared(tmp_path, content)
        with pytest.raises(ValueError, match="dict of train, valid, test, however: it is a list"):
            prepared(tmp_path, [content])

    def test_arrays(self, tmp_path):
        with np.load(make_file(tmp_path, "sequences.npz")) as file:
            content = dict(file)
        for key, x, message in (
            ("valid_labels", content["valid_labels"] * np.nan, "finite label"),
            (
                "valid_labels",
                content["valid_labels"][:, :-1],
                r"\(N, 6\) or .*shape=\(6, 5\)",
            ),
            ("valid_audio", content["valid_audio"][0, 0], r"2 or 3 dimensions, .*\(5,\)"),
            ("valid_lengths", np.full(6, 7), "from 0 to 6"),
        ):
            field = key.removeprefix("valid_")
            with pytest.raises(ValueError, match=rf"npz, split valid, field {field}: .*{message}"):
                prepared(tmp_path, content | {key: x}, "data.npz")

    def test_broken_archives(self, tmp_path):
        path = make_file(tmp_path, "utterances.npz")
        whole = path.read_bytes()
        for size in (10, 1000, len(whole) - 30):
            path.write_bytes(whole[:size])
            with pytest.raises(ValueError, match=r"utterances\.npz must be a whole .npz of plain"):
                read(path)
        path.write_bytes(whole[:200] + b"zzzz" + whole[204:])
        with pytest.raises(ValueError, match=r"utterances\.npz must be a whole .npz of plain"):
            read(path)
        for content, message in ((b"", "empty"), (b"<html>", "an HTML page"), (b"x", "no zip")):
            path.write_bytes(content)
            with pytest.raises(ValueError, match=rf"must be a \.npz, however: .*{message}"):
                read(path)
        np.savez(path, train_text=np.array([{}], dtype=object))
        with pytest.raises(ValueError, match="plain arrays, however: Object arrays cannot be"):
            read(path)


class TestCard:
    def test_counts_by_hand(self, tmp_path):
        content = content_of("mosi_data.pkl")
        train = content["train"]
        train["audio"] = train["audio"].astype(np.float64)
        train["audio"][4, -1, :4] = [-np.inf, np.inf, np.nan, np.nan]
        train["audio"][5, -1, 0] = 1e300  # infinite as float32
        train["vision"][:, :, 7] = np.where((train["vision"] != 0).any(-1), 2.5, 0)
        train["labels"][:4, 0, 0] = [-3, 0.4, 1.6, 3]
        train["labels"][4:] = -1.0
        data = prepared(tmp_path, content, "mosi.pkl")
        card = data.card
        audio = card["modalities"]["audio"]
        counts = {kind: audio["splits"]["train"][kind] for kind in ("-inf", "+inf", "NaN")}
        assert counts == {"-inf": 3, "+inf": 2, "NaN": 2}
        assert audio["splits"]["test"]["-inf"] == 2
        assert audio["padding"] == "left"
        assert (audio["steps"], audio["features"]) == (6, 5)
        assert data.train.modalities["audio"][4, -1, :4].tolist() == [0, 0, 0, 0]
        assert data.train.valid["audio"][4, -1]  # the last feature is there
        assert card["modalities"]["vision"]["constant columns"] == [7]
        assert audio["constant columns"] == []
        assert card["modalities"]["vision"]["splits"]["train"]["samples without"] == 1
        histogram = {"-3": 1, "-2": 0, "-1": 8, "0": 1, "+1": 0, "+2": 1, "+3": 1}
        assert card["labels"]["train"] == histogram
        assert card["counts"] == card["labelled"] == COUNTS
        assert card["made"] is False
        assert "audio: 7 -inf, 2 +inf, 2 NaN set to 0" in card["changes"]
        assert "vision: missing in 3 samples" in card["changes"]

    def test_a_step_that_is_not_finite_at_all_is_not_valid(self, tmp_path):
        content = content_of("mosi_data.pkl")
        content["train"]["audio"][0, -1] = -np.inf
        data = prepared(tmp_path, content)
        assert data.train.valid["audio"][0].tolist() == [False] * 3 + [True] * 2 + [False]
        assert data.train.valid["text"][0, -1]

    def test_checksum_and_names(self, tmp_path, monkeypatch):
        path = make_file(tmp_path, "aligned_50.pkl")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert checksum(path) == digest
        data = quietly(path, tmp_path / "out")
        assert (data.card["sha256"], data.card["known as"]) == (digest, None)
        assert data.card["data set"] is None
        assert data.name == "aligned_50"
        monkeypatch.setitem(KNOWN, digest, "MMSA MOSEI aligned_50")
        data = quietly(path, tmp_path / "out", name="mine")
        assert data.card["known as"] == "MMSA MOSEI aligned_50"
        assert data.card["data set"] == "mosei"
        assert data.name == "mine"
        for name, expected in {"mosi_data.pkl": "mosi", "mosei_senti_data.pkl": "mosei"}.items():
            assert (
                quietly(make_file(tmp_path, name), tmp_path / "out").card["data set"] == expected
            )

    def test_is_printed(self, tmp_path):
        console = Console(file=io.StringIO(), width=100)
        path = make_file(tmp_path, "mosi_data.pkl")
        data = prepare(path, tmp_path / "out", console=console)
        text = console.file.getvalue()
        for word in (data.card["sha256"], "MulT layout, aligned", "left", "6 -inf set to 0"):
            assert word in text
        assert "2 / 2 / 2" in text  # -inf in audio

    def test_memory_that_stands_in_no_slot(self, tmp_path):
        """The safetensors file says the same, whatever stood in slots that are not valid."""
        contents = []
        for junk in (0.0, np.nan, np.inf, 7.0):
            content = content_of("unaligned_50.pkl")
            for fields in content.values():
                for name in ("audio", "vision"):
                    x, sizes = fields[name], np.array(fields[f"{name}_lengths"])
                    x[np.arange(x.shape[1]) >= sizes[:, None]] = junk
            prepared(tmp_path, content)
            contents.append((tmp_path / "out" / "data.safetensors").read_bytes())
        assert len(set(contents)) == 1


class TestPrepared:
    def test_rows(self, tmp_path):
        data = quietly(make_file(tmp_path, "mosi_data.pkl"), tmp_path / "out")
        part = data.train
        few = part.rows([5, 0])
        assert few.ids == [part.ids[5], part.ids[0]]
        assert torch.equal(few.labels, part.labels[[5, 0]])
        assert torch.equal(few.valid["audio"], part.valid["audio"][[5, 0]])
        assert torch.equal(few.modalities["text"], part.modalities["text"][[5, 0]])
        assert len(part.rows(slice(3))) == 3
        assert len(part.rows(part.labels[:, 0, 0] > 0)) == (part.labels > 0).sum()
        assert part.to("meta").modalities["text"].is_meta
        assert part.to("meta").labels.is_meta

    def test_a_folder_without_a_card_is_not_read(self, tmp_path):
        with pytest.raises(ValueError, match=r"`prepare` wrote, however: there is no card\.json"):
            load_prepared(tmp_path)

    @pytest.mark.parametrize("stop", ["data.safetensors", "card.json"])
    def test_stopped_while_it_writes(self, tmp_path, monkeypatch, stop):
        """A folder that was prepared before is either whole or has no card."""
        data = quietly(make_file(tmp_path, "mosi_data.pkl"), tmp_path / "out")

        def replace(source, target):
            if target.name == stop:
                raise KeyboardInterrupt
            os.rename(source, target)

        monkeypatch.setattr(data_file.os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            save_prepared(tmp_path / "out", data)
        with pytest.raises(ValueError, match="there is no card"):
            load_prepared(tmp_path / "out")
        monkeypatch.undo()
        save_prepared(tmp_path / "out", data)
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            "card.json",
            "data.safetensors",
        ]
        assert load_prepared(tmp_path / "out").test.ids == data.test.ids


class TestRealFiles:
    @pytest.mark.parametrize("name", ["cmu_mosi_utterances", "cmu_mosi_sequences"])
    def test_cmu_mosi(self, tmp_path, name):
        if not FOLDER.is_dir():
            pytest.skip(f"the data are not here: {FOLDER} (set MODIMPUTE_DATA)")
        data = quietly(FOLDER / f"{name}.npz", tmp_path / "out")
        sequences = name.endswith("sequences")
        assert data.aligned
        assert data.stepwise == sequences
        assert data.dims == {"audio": 73, "text": 100, "vision": 100}
        assert data.lengths == dict.fromkeys(MODALITIES, 63 if sequences else 1)
        assert data.card["labelled"] == {"train": 1252, "valid": 195, "test": 752}
        assert [len(part) for part in data.parts.values()] == (
            [53, 9, 31] if sequences else [1252, 195, 752]
        )
        assert data.card["changes"] == []
        assert len(data.card["modalities"]["vision"]["constant columns"]) == 32
        for part in data.parts.values():
            assert all(torch.equal(part.valid[n], part.label_valid) for n in MODALITIES)
