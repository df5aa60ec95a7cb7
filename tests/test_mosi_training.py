"""Training of examples.mosi_sentiment: killed, resumed, and split over two processes."""

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("accelerate")
pytest.importorskip("sklearn")

from accelerate import Accelerator

from examples.mosi_sentiment.checkpoint import RunFolder, read_json
from examples.mosi_sentiment.comparators import COMPARATORS
from examples.mosi_sentiment.config import TrainingConfig
from examples.mosi_sentiment.runs import configure, load_model, train
from examples.mosi_sentiment.training import batches_of, cosine, draw, fit
from tests.mosi_small import KINDS, PRESET, TRAINING, build, small

ROOT = Path(__file__).parents[1]
KILLS = int(os.environ.get("MODIMPUTE_KILLS", "2"))
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "GLOO_SOCKET_IFNAME": "lo",
}


@pytest.fixture(scope="module")
def accelerator():
    return Accelerator(cpu=True)


def run(data, path, accelerator, comparator="reconstruction", training=None, **options):
    return train(
        data,
        COMPARATORS[comparator],
        7,
        path,
        accelerator,
        preset=PRESET,
        training=training,
        **options,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_leaves_a_folder_that_can_be_loaded(kind, tmp_path, accelerator):
    data = small(kind)
    metrics = run(data, tmp_path / "run", accelerator)
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == [
        "config.json",
        "metrics.json",
        "model.safetensors",
        "predictions.safetensors",
    ]
    config = read_json(tmp_path / "run" / "config.json")
    assert config["seed"] == 7
    assert set(config["versions"]) == {"python", "torch", "accelerate", "modimpute"}
    assert len(metrics["history"]) == TRAINING.epochs
    model, _ = load_model(tmp_path / "run")
    prediction, _ = model(data.test.modalities, valid=data.test.valid)
    saved = load_file(tmp_path / "run" / "predictions.safetensors")["reconstruction"]
    torch.testing.assert_close(prediction, saved)
    # Again: nothing is trained, the same metrics come back; another run is refused.
    assert run(data, tmp_path / "run", accelerator) == json.loads(json.dumps(metrics))
    with pytest.raises(ValueError, match=r"same run, however: comparator was reconstruction"):
        run(data, tmp_path / "run", accelerator, "full")


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_a_run_that_stops_after_each_epoch_is_the_same_run(comparator, tmp_path, accelerator):
    class Killed(Exception):
        pass

    def stop_at(epoch):
        def on_epoch(record):
            if record["epoch"] == epoch:
                raise Killed

        return on_epoch

    data = small("unaligned")
    training = {"translate_first": 1, "epochs": 4}
    options = {"comparator": comparator, "training": training, "save_every": 0}
    whole = run(data, tmp_path / "whole", accelerator, **options)
    for epoch in range(2, len(whole["history"]) + 1):
        with pytest.raises(Killed):
            run(data, tmp_path / "parts", accelerator, on_epoch=stop_at(epoch), **options)
        kept = list((tmp_path / "parts" / "checkpoints").iterdir())
        assert [path.name for path in kept] == [f"{epoch - 1:05d}"]
    assert run(data, tmp_path / "parts", accelerator, **options) == whole
    assert_same(tmp_path / "whole", tmp_path / "parts")


def assert_same(a, b):
    for name in ("metrics.json", "model.safetensors", "predictions.safetensors"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from accelerate import Accelerator
from examples.mosi_sentiment.comparators import COMPARATORS
from examples.mosi_sentiment.config import TrainingConfig
from examples.mosi_sentiment.runs import train
from tests.mosi_small import PRESET, small
out, epochs, save_every = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
train(small("aligned"), COMPARATORS["reconstruction"], 7, out, Accelerator(cpu=True),
      preset=PRESET, training={"epochs": epochs}, save_every=save_every)
"""


def start(out, epochs, save_every, log):
    command = [sys.executable, "-c", SCRIPT, str(out), str(epochs), str(save_every)]
    return subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=log, stderr=log)


def newest(folder):
    """The epoch of the last checkpoint."""
    return max((int(path.name) for path in folder.glob("checkpoints/" + "[0-9]" * 5)), default=0)


def test_kill_9_at_random_moments(tmp_path, accelerator):
    epochs, out = 60, tmp_path / "killed"
    whole = run(small("aligned"), tmp_path / "whole", accelerator, training={"epochs": epochs})
    chance, moments = random.Random(0), []
    with (tmp_path / "log").open("w+") as log:
        for _ in range(KILLS):
            process = start(out, epochs, 0, log)
            # Some epochs later, and then anywhere in a step, an evaluation or a checkpoint.
            goal = newest(out) + chance.randint(1, max(1, epochs // KILLS - 3))
            while newest(out) < goal and process.poll() is None:
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.1))
            assert process.poll() is None
            process.kill()
            process.wait(timeout=30)
            moments.append(sorted(p.name for p in out.glob("checkpoints/*")))
        process = start(out, epochs, 0, log)
        code = process.wait(timeout=120)
        log.seek(0)
        assert code == 0, log.read()
    print("checkpoints after each kill:", moments)
    assert read_json(out / "metrics.json") == json.loads(json.dumps(whole))
    assert_same(tmp_path / "whole", out)


@pytest.mark.parametrize("point", ["torch.save", "os.replace", "os.rename", "shutil.rmtree"])
def test_a_checkpoint_is_there_as_a_whole_or_not_at_all(point, tmp_path, monkeypatch):
    def save(epoch):
        value = {"x": torch.full((2,), float(epoch))}
        folder.save(epoch, value, value, {"y": value["x"]}, {"epoch": epoch})

    def stop(*args, **_):
        if point != "shutil.rmtree" or args[0].suffix != ".part":  # the older checkpoint
            raise KeyboardInterrupt

    folder = RunFolder(tmp_path, {"a": (1, 2)})
    assert folder.load() is None
    save(1)
    monkeypatch.setattr(point, stop)
    with pytest.raises(KeyboardInterrupt):
        save(2)
    monkeypatch.undo()
    expected = 2 if point == "shutil.rmtree" else 1
    folder = RunFolder(tmp_path, {"a": (1, 2)})
    weights, best, state, progress = folder.load()
    assert progress["epoch"] == expected
    assert {x[0].item() for x in (weights["x"], best["x"], state["y"])} == {expected}
    save(2 + expected)
    assert folder.load()[3]["epoch"] == 2 + expected
    assert len(list(folder.checkpoints.glob("[0-9]*[0-9]"))) == 1


TWO = """
import json, sys, torch
torch.set_num_threads(1)
from pathlib import Path
from accelerate import Accelerator, DistributedDataParallelKwargs
from examples.mosi_sentiment.checkpoint import RunFolder
from examples.mosi_sentiment.training import fit
from tests.test_mosi_training import fixed
for kind in sys.argv[2].split(","):
    model, data, config = fixed(kind)
    unused = DistributedDataParallelKwargs(find_unused_parameters=data.stepwise)
    accelerator = Accelerator(cpu=True, kwargs_handlers=[unused])
    assert accelerator.num_processes == 2
    out = Path(sys.argv[1]) / kind
    folder = RunFolder(out, {}, writes=accelerator.is_main_process)
    accelerator.wait_for_everyone()
    history = fit(model, data, config, 7, folder, accelerator)
    (out / f"{accelerator.process_index}.json").write_text(json.dumps(history))
accelerator.wait_for_everyone()
accelerator.end_training()
"""


def fixed(kind):
    """No dropout. 23 samples in batches of 9: the shares of the processes are 5, 5, 3 and 4, 4, 2,
    and each has other numbers of labels and of valid steps."""
    data = small(kind, counts=(23, 7, 2))
    model = build(data, dropout=0.0, translator_dropout=0.0, text_dropout=0.0, output_dropout=0.0)
    config = TrainingConfig(epochs=3, batch_size=9, learning_rate=1e-3)
    return model, data, config


def test_two_processes_have_the_loss_curve_of_one(tmp_path, accelerator):
    kinds = ("unaligned", "stepwise")
    for kind in kinds:
        (tmp_path / kind).mkdir()
    script = tmp_path / "two.py"
    script.write_text(TWO)
    command = [
        # Without MPI, this is how `accelerate launch` starts several processes, on a CPU too.
        *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"),
        *("--num_processes", "2"),
        *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
        *("--main_process_port", "0", str(script), str(tmp_path), ",".join(kinds)),
    ]
    result = subprocess.run(
        command,
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    # Not the exit status: gloo's threads can abort a process that has finished and is leaving.
    written = sorted(path.name for path in tmp_path.glob("*/[01].json"))
    assert written == ["0.json", "0.json", "1.json", "1.json"], result.stderr
    for kind in kinds:
        model, data, config = fixed(kind)
        valid = data.train.valid["audio"]
        for rows in batches_of(data.train, 9, 7, 0):
            assert len(rows) == 5 or valid[rows[::2]].sum() != valid[rows[1::2]].sum()
        folder = RunFolder(tmp_path / kind / "one", {})
        history = fit(model, data, config, 7, folder, accelerator)
        for process in range(2):
            other = json.loads((tmp_path / kind / f"{process}.json").read_text())
            for a, b in zip(history, other, strict=True):
                for split in ("train", "valid"):
                    assert a[split] == pytest.approx(b[split], rel=2e-5), (kind, a["epoch"])
    losses = [record["train"]["task"] for record in history]
    assert len(set(losses)) == len(losses)


class TestSettings:
    def test_early_stopping_and_selection(self, accelerator, tmp_path):
        data = small("aligned")
        config = TrainingConfig(epochs=20, learning_rate=0.0, patience=2, schedule="constant")
        model = build(data, dropout=0.0, translator_dropout=0.0)
        history = fit(model, data, config, 0, RunFolder(tmp_path / "a", {}), accelerator)
        assert len(history) == 3  # the first one, then two that are no better
        # What is learned is wrong elsewhere: an early epoch is the best, on any number of threads.
        labels = {"train": torch.full_like(data.train.labels, 3.0)}
        labels["valid"] = torch.full_like(data.valid.labels, -3.0)
        parts = {name: replace(getattr(data, name), labels=y) for name, y in labels.items()}
        data, seen = replace(data, **parts), []
        config = TrainingConfig(epochs=8, batch_size=4, learning_rate=0.01, schedule="constant")
        model = build(data)
        history = fit(
            model,
            data,
            config,
            0,
            RunFolder(tmp_path / "b", {}),
            accelerator,
            on_epoch=lambda record: seen.append(record["valid"]["task"]),
        )
        from examples.mosi_sentiment.training import validate

        best = validate(model, data.valid, config, accelerator)["task"]
        assert best == pytest.approx(min(seen))
        assert seen.index(min(seen)) < 7

    def test_plateau_and_cosine(self, accelerator, tmp_path):
        data = small("aligned")
        config = TrainingConfig(epochs=4, learning_rate=1e-12, plateau=1)
        model = build(data, dropout=0.0)
        history = fit(model, data, config, 0, RunFolder(tmp_path / "a", {}), accelerator)
        rates = [record["learning_rate"] for record in history]
        assert rates[0] == 1e-12
        assert cosine(0.05) == pytest.approx(0.994, abs=1e-3)
        assert cosine(1.0) == 0
        config = TrainingConfig(epochs=6, translate_first=2)
        assert [config.share(e, 1.0) for e in range(6)] == [0.5, 1, 0.25, 0.5, 0.75, 1]
        assert config.weights(2, 1).tolist() == [0, 1]
        assert config.weights(4, 2).tolist() == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3])
        assert TrainingConfig(consistency="none").weights(2, 0).tolist() == [1, 0]

    def test_who_translates_nothing_skips_that_phase(self):
        training = {"epochs": 12, "translate_first": 5}
        for name, epochs in (("reconstruction", 12), ("full", 7), ("extension", 12)):
            _, config = configure(PRESET, COMPARATORS[name], training)
            assert config.epochs == epochs
            assert config.translate_first == epochs - 7

    def test_seeds_do_not_meet(self):
        seeds = {draw(s, e, p) for s in range(20) for e in range(20) for p in range(3)}
        assert len(seeds) == 1200
        data = small("aligned")
        first = torch.cat(list(batches_of(data.train, 8, 0, 0)))
        assert sorted(first.tolist()) == list(range(20))
        assert not torch.equal(first, torch.cat(list(batches_of(data.train, 8, 0, 1))))

    def test_losses_that_are_not_finite(self, accelerator, tmp_path):
        data = small("aligned")
        data.train.labels[0] = torch.inf
        with pytest.raises(ValueError, match="losses must be finite"):
            run(data, tmp_path / "run", accelerator)
