"""The command line of examples.mosi_sentiment, on small files of every layout."""

import csv
import json
import os
import pickle
import signal
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("accelerate")
pytest.importorskip("matplotlib")
pytest.importorskip("rich")
pytest.importorskip("sklearn")
pytest.importorskip("typer")

from examples.mosi_sentiment import ablation, comparators, presets, published
from examples.mosi_sentiment.__main__ import main
from examples.mosi_sentiment.checkpoint import read_json
from examples.mosi_sentiment.data import load_prepared
from examples.mosi_sentiment.prediction import needs, read
from examples.mosi_sentiment.presets import OURS
from examples.mosi_sentiment.published import NOT_COMPARABLE, PUBLISHED
from examples.mosi_sentiment.runs import load_model, open_data
from tests.mosi_files import NAMES, make_file
from tests.mosi_small import MODEL
from tests.processes import interrupted


@pytest.fixture
def quick(monkeypatch):
    """All presets become small ones."""
    for group in (presets.OURS, presets.FAITHFUL, presets.PRESETS):
        for name, preset in group.items():
            model = replace(preset.model, **vars(MODEL))
            training = replace(preset.training, epochs=2, translate_first=0)
            monkeypatch.setitem(group, name, replace(preset, model=model, training=training))


def without_audio(path, out):
    """The same file, of which only text and vision of the test samples are left."""
    if path.suffix == ".npz":
        with np.load(path) as file:
            kept = {k: file[k] for k in file.files if k.startswith("test_")}
        kept = {k: x for k, x in kept.items() if "audio" not in k and "label" not in k}
        np.savez(out, **kept)
        return
    content = pickle.loads(path.read_bytes(), encoding="bytes")
    content = {as_text(split): fields for split, fields in content.items()}
    fields = {as_text(key): value for key, value in content["test"].items()}
    kept = {k: v for k, v in fields.items() if "audio" not in k and "label" not in k}
    out.write_bytes(pickle.dumps({"test": kept}))


def as_text(key):
    return key.decode() if isinstance(key, bytes) else key


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("quick")
def test_prepare_train_evaluate_predict(name, tmp_path, capsys):
    file = make_file(tmp_path, name)
    run, prepared = tmp_path / "run", tmp_path / "prepared"
    assert main(["prepare", str(file), "--out", str(prepared)]) == 0
    assert main(["train", str(prepared), "--out", str(run)]) == 0
    assert main(["evaluate", str(run), str(prepared), "--split", "valid"]) == 0
    assert "reconstruction {l}" in capsys.readouterr().out
    data = load_prepared(prepared)
    assert read_json(run / "config.json")["data"]["shape"]["aligned"] == data.aligned
    # From the whole file, from what is prepared, and from one that has no audio: the same.
    bare = tmp_path / f"bare{file.suffix}"
    without_audio(file, bare)
    tables = []
    for source in (file, prepared, bare):
        out = tmp_path / "table.csv"
        assert main(["predict", str(run), str(source), "--out", str(out)]) == 0
        tables.append(out.read_text())
    assert tables[0] == tables[1] == tables[2]
    rows = list(csv.DictReader(tables[0].splitlines()))
    assert list(dict.fromkeys(row["id"] for row in rows)) == data.test.ids
    assert len(rows) == (data.test.label_valid.sum() if data.stepwise else len(data.test))
    column = "happy" if data.task == "emotions" else "sentiment"
    assert len({row[column] for row in rows}) > len(rows) // 2


@pytest.mark.parametrize("name", ["iemocap_data.pkl", "sequences.npz"])
@pytest.mark.usefixtures("quick")
def test_reproduce(name, tmp_path):
    file = make_file(tmp_path, name)
    main(["prepare", str(file), "--out", str(tmp_path / "prepared"), "--name", "made"])
    arguments = ["reproduce", "--data", str(tmp_path / "prepared"), "--out", str(tmp_path / "out")]
    arguments += ["--seeds", "2", "--jobs", "1"]
    assert main(arguments) == 0
    folder = tmp_path / "out" / "made"
    files = {path.name for path in folder.iterdir()}
    pictures = {"curves.png", "patterns.png", "rates.png"}
    assert files == {"runs", "report.json", "table.md", *pictures}
    report = read_json(folder / "report.json")
    assert report["seeds"] == [1111, 1112]
    views = [v.name for c in comparators.COMPARATORS.values() for v in c.views]
    assert sorted(report["metrics"]) == sorted(views)
    text = (folder / "table.md").read_text()
    for view in views:
        assert view in text
    data = load_prepared(tmp_path / "prepared")
    assert NOT_COMPARABLE[data.card["layout"]] in text
    assert ("the paper, audio missing" in text) == (data.card["layout"] == "MulT")
    rates = [row for row in report["robustness"]["extension"] if row["kind"] == "rate"]
    assert max(row["rate_reached"] for row in rates) <= 2 / 3 + 1e-9
    assert len([r for r in report["robustness"]["full"] if r["kind"] == "pattern"]) == 14
    # Again: nothing is trained, the report is the same.
    runs = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("metrics.json")}
    assert len(runs) == 2 * len(comparators.COMPARATORS)
    assert main(arguments) == 0
    assert all(path.stat().st_mtime_ns == time for path, time in runs.items())
    assert (folder / "table.md").read_text() == text


@pytest.mark.usefixtures("quick")
def test_ablate(tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "ABLATIONS", ablation.ABLATIONS[:5])
    file = make_file(tmp_path, "utterances.npz")
    main(["prepare", str(file), "--out", str(tmp_path / "prepared"), "--name", "made"])
    arguments = ["ablate", str(tmp_path / "prepared"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--seeds", "1", "--jobs", "1"]) == 0
    lines = (tmp_path / "out" / "made" / "ablations.md").read_text()
    for name in ("V to A only", "no further transformer", "two phases", "L+V only"):
        assert name in lines
    two = replace(OURS["synthetic"].training, translate_first=3)
    assert [c.name for c in ablation.ablations(two)][-1] == "one phase"


def test_processes_of_their_own(tmp_path):
    # The presets of a process of its own are the real ones: one run that stays small.
    from rich.console import Console

    from examples.mosi_sentiment.jobs import Job, how_many, run_all

    data = make_file(tmp_path, "mosi_data.pkl")
    main(["prepare", str(data), "--out", str(tmp_path / "prepared")])
    kind = replace(comparators.COMPARATORS["text only"], training={"epochs": 1})
    jobs = [Job(str(tmp_path / "prepared"), kind, s, tmp_path / str(s)) for s in (1,)]
    run_all(jobs, Console(), 2, 1)
    assert all(job.done for job in jobs)
    assert how_many(open_data(str(tmp_path / "prepared"))) in (1, 2)
    assert not list(tmp_path.glob("*/checkpoints"))


class TestMistakes:
    @pytest.mark.usefixtures("quick")
    def test_are_explained(self, tmp_path, capsys):
        file = make_file(tmp_path, "utterances.npz")
        prepared, run = tmp_path / "prepared", tmp_path / "run"
        main(["prepare", str(file), "--out", str(prepared)])
        main(["train", str(prepared), "--out", str(run)])
        capsys.readouterr()
        for arguments, expected in (
            (["train", "nowhere", "--out", str(tmp_path / "x")], "however: there is no nowhere"),
            (["train", "synthetic-x", "--out", str(tmp_path / "x")], "however: synthetic-x"),
            (["train", str(prepared), "--preset", "x"], "--preset must be one of"),
            (["train", str(prepared), "--comparator", "x"], "comparator must be one of"),
            (["train", str(prepared), "--out", str(run), "--seed", "5"], "seed was 1111, is 5"),
            (["evaluate", str(prepared), str(prepared)], "however: there is no metrics.json"),
            (["evaluate", str(run), "synthetic-dependent"], "as in training"),
            (["evaluate", str(run), str(prepared), "--split", "x"], "--split must be one of"),
            (["predict", str(run), str(prepared), "--split", "x", "--out", "x"], "--split must"),
        ):
            assert main(arguments) == 2, arguments
            assert expected in capsys.readouterr().err
        other = tmp_path / "other.npz"
        np.savez(other, test_text=np.ones((2, 9)), test_vision=np.ones((2, 20)))
        assert main(["predict", str(run), str(other), "--out", str(tmp_path / "x")]) == 2
        assert "text must have 1 steps of 16 features" in capsys.readouterr().err

    def test_help_and_wrong_options(self, capsys):
        assert main(["--help"]) == 0
        text = capsys.readouterr().out
        for command in ("prepare", "train", "evaluate", "ablate", "reproduce", "predict"):
            assert command in text
            assert main([command, "--help"]) == 0
        assert main(["train", "x", "--nonsense"]) == 2
        assert main(["reproduce", "--data", "synthetic", "--seeds", "0"]) == 2
        assert main([]) == 2


@pytest.mark.usefixtures("quick")
def test_what_a_file_must_have(tmp_path):
    file = make_file(tmp_path, "utterances.npz")
    main(["prepare", str(file), "--out", str(tmp_path / "prepared")])
    for name, expected in (
        ("full", ("audio", "text", "vision")),
        ("extension", ("text", "vision")),
        ("text only", ("text",)),
    ):
        run = tmp_path / name
        main(["train", str(tmp_path / "prepared"), "--out", str(run), "--comparator", name])
        model, _ = load_model(run)
        assert needs(model) == expected
        assert set(expected) <= set(read(model, file, "test").modalities)


def test_another_draw_of_a_planted_set():
    first, other = open_data("synthetic-dependent"), open_data("synthetic-dependent@3")
    assert other.name == "synthetic-dependent@3"
    assert presets.preset_for(other).name == "synthetic"
    assert not first.test.labels.equal(other.test.labels)
    assert open_data("synthetic-dependent@0").test.labels.equal(first.test.labels)
    with pytest.raises(ValueError, match="NAME@SEED"):
        open_data("synthetic-dependent@x")


def test_files_are_prepared_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = make_file(tmp_path, "utterances.npz")
    first = open_data(str(file))
    assert "SHA-256" in capsys.readouterr().out
    assert open_data(str(file)).test.ids == first.test.ids
    assert "SHA-256" not in capsys.readouterr().out


def test_notes():
    made, last = published.notes({"made": True}, "valid"), published.notes({}, "last")
    assert made == [published.NOT_COMPARABLE["synthetic"]]
    assert last == [published.NOT_COMPARABLE["npz"], published.FIXED]
    for name in ("utterances", "sequences"):
        assert OURS[name].training.select == "last"
    sums = published.ABOUT
    assert all(len(key) == 64 for key in sums)
    assert published.notes({"layout": "npz", "sha256": min(sums)}, "valid")[1] == published.BC_LSTM


def test_published_numbers_name_their_source():
    for rows in PUBLISHED.values():
        assert rows[0].who == "the paper, audio missing"
        assert all(row.source and row.metrics for row in rows)
    assert {row.metrics["Acc-7"] for k, (row, *_) in PUBLISHED.items() if "iemocap" not in k} == {
        39.7,
        39.3,
        51.1,
        49.7,
    }


def test_interrupt(tmp_path):
    out = tmp_path / "run"
    status, text = interrupted(
        [
            *("examples.mosi_sentiment", "train", "synthetic-dependent"),
            *("--out", str(out), "--save-every", "0"),
        ],
        # Until it trains: while modules load, Python may lose the signal in a callback.
        when=lambda: any(out.glob("checkpoints/*")),
        log=tmp_path / "log",
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert status in (130, -signal.SIGINT)  # the signal itself: met inside exec
    assert text.count("Traceback") == text.count("Exception ignored")
    assert text.strip().splitlines()[-1].startswith("Interrupted.")
    assert json.loads((out / "config.json").read_text())["seed"] == 1111


@pytest.mark.usefixtures("quick")
def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    file = make_file(tmp_path, "utterances.npz")
    main(["prepare", str(file), "--out", str(tmp_path / "prepared")])
    run = tmp_path / "run"
    assert main(["train", str(tmp_path / "prepared"), "--out", str(run), "--tensorboard"]) == 0
    assert len(list((run / "tensorboard").glob("events.*"))) == 1
