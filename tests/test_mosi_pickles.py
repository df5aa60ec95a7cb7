"""Pickles are programs: those of strangers are read, and nothing of them is run."""

import codecs
import contextlib
import copyreg
import os
import pickle
import re
import tracemalloc
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

pytest.importorskip("safetensors")

from mosi_files import dump_python2

from examples.mosi_sentiment.checks import describe
from examples.mosi_sentiment.layouts import read
from examples.mosi_sentiment.stand_ins import ADMITTED, Stand
from examples.mosi_sentiment.unpickling import read_pickle

ROOT = Path(__file__).parents[1]
FOLDER = Path(os.environ.get("MODIMPUTE_DATA", ROOT.parent / "shared" / "data"))
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
DTYPE = b"cnumpy\ndtype\n(U\x02%sI00\nI01\ntR(K\x03U\x01|NNNI-1\nI-1\nK%ctb"
ONE = RECONSTRUCT + b"(K\x01(K\x01t"  # the beginning of an array of one
FIVE = RECONSTRUCT + b"(K\x01(K\x05t"


class Call:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def write(folder, content: bytes):
    path = folder / "data.pkl"
    path.write_bytes(content)
    return path


def attacks(marker: Path):
    """Each would create the marker, or would fail in our reader only."""
    system = Call(os.system, f"touch '{marker}'")
    evaluated = Call(eval, f"open({str(marker)!r}, 'w').close()")
    inside = np.empty(2, dtype=object)
    inside[:] = [1.0, system]
    deep = {"train": [0, (1, Call(os.mkdir, str(marker)))]}
    return {
        "system": (system, f"{os.system.__module__}.system; nothing of it was run"),
        "eval": (evaluated, "builtins.eval; nothing of it was run"),
        "array": (inside, f"{os.system.__module__}.system from inside an array of objects"),
        "deep": (deep, f"{os.mkdir.__module__}.mkdir; nothing of it was run"),
    }


class TestAttacks:
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    @pytest.mark.parametrize("name", ["system", "eval", "array", "deep"])
    def test_refused_by_name_and_not_run(self, tmp_path, name, protocol):
        marker = tmp_path / "executed"
        content, message = attacks(marker)[name]
        path = write(tmp_path, pickle.dumps(content, protocol=protocol))
        pickle.loads(path.read_bytes())
        assert marker.exists()  # it is a live one
        marker.rmdir() if marker.is_dir() else marker.unlink()
        message = message.replace("builtins", "__builtin__" if protocol < 3 else "builtins")
        with pytest.raises(ValueError, match=rf"hold only .*, however: .*{re.escape(message)}"):
            read_pickle(path)
        assert not marker.exists()

    @pytest.mark.parametrize(
        "program",
        [
            b"(S'touch MARKER'\nios\nsystem\n.",  # INST
            b"(cos\nsystem\nS'touch MARKER'\no.",  # OBJ
            b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",  # a name with a dot
            b"cnumpy\nload\n.",
            b"c_codecs\nlookup\n.",
            b"ccopy_reg\n_reconstructor\n.",
            b"c__builtin__\ngetattr\n.",
            b"\x80\x02cnumpy\nmemmap\n(tR.",
        ],
    )
    def test_other_ways_to_a_callable(self, tmp_path, program):
        marker = tmp_path / "executed"
        path = write(tmp_path, program.replace(b"MARKER", str(marker).encode()))
        with pytest.raises(ValueError, match="it asks to call "):
            read_pickle(path)
        assert not marker.exists()

    def test_an_array_that_is_whole_is_not_blamed(self, tmp_path):
        content = [np.arange(3.0), Call(os.mkdir, str(tmp_path / "executed"))]
        path = write(tmp_path, pickle.dumps(content))
        with pytest.raises(ValueError, match=r"mkdir; nothing of it was run$"):
            read_pickle(path)

    def test_extensions_of_the_process_are_not_reached(self, tmp_path, monkeypatch):
        marker = tmp_path / "executed"
        monkeypatch.setitem(copyreg._extension_cache, 200, os.system)
        program = b"\x80\x02\x82\xc8U%cX\x85R.".replace(b"X", f"touch {marker}".encode())
        path = write(tmp_path, program % len(f"touch {marker}"))
        pickle.loads(path.read_bytes(), encoding="latin1")
        assert marker.exists()
        marker.unlink()
        with pytest.raises(ValueError, match="makes no sense"):
            read_pickle(path)
        assert not marker.exists()

    @pytest.mark.parametrize(
        ("program", "message"),
        [
            (b"cnumpy\nndarray\n(K\x05tR.", "calls numpy.ndarray"),
            (b"cnumpy\ndtype\n(U\x05f8,f8tR.", "an array of type 'f8,f8'"),
            (b"cnumpy\ndtype\n(U\x02f8tR(K\x03U\x01<NU\x01aNK\x08K\x01K\x00tb.", "structured"),
            (b"c_codecs\nencode\n(U\x01xU\x03ziptR.", "encode with 'zip'"),
            # A changed dtype that takes eight bytes for a pointer, and too short a list.
            (
                ONE + DTYPE % (b"O8", 0) + b"I00\nU\x08AAAAAAAAtb.",
                "obj",
            ),
            (FIVE + DTYPE % (b"O8", 63) + b"I00\n(K\x01ltb.", "size"),
            (FIVE + DTYPE % (b"f8", 0) + b"I00\nU\x01Atb.", "1 bytes"),
            (
                ONE + DTYPE % (b"u1", 0) + b"I00\nU\x01Atb(tb.",
                "changes",
            ),
            (b"cnumpy\ndtype\n(N}U\x05_callK\x01stb.", "sets '_call'"),
            (b"cnumpy\ndtype\n}U\x05_callK\x01sb.", "makes no sense"),
            (b"\x82\x01.", "makes no sense"),  # an extension
            (b"\x80\x05\x96\x01" + bytes(7) + b"a\x98.", "makes no sense"),  # a view of memory
            (b"Pname\n.", "makes no sense"),  # a persistent object
            (b"\xffgarbage", "makes no sense"),
        ],
    )
    def test_what_numpy_would_trust(self, tmp_path, program, message):
        before = dict(ADMITTED)
        with pytest.raises(ValueError, match=re.escape(message)):
            read_pickle(write(tmp_path, program))
        assert before == ADMITTED
        assert all(type(stand) is Stand for stand in ADMITTED.values())

    @pytest.mark.parametrize(
        "program",
        [
            b"\x80\x05\x96" + (1 << 27).to_bytes(8, "little") + b"x.",  # BYTEARRAY8
            b"\x80\x04\x8e" + (1 << 27).to_bytes(8, "little") + b"x.",  # BINBYTES8
            b"\x80\x04\x95" + (1 << 27).to_bytes(8, "little") + b"x.",  # FRAME
            b"T\xff\xff\xff\x7fx.",  # BINSTRING
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(L99999999999L\ntU\x01btR.",
            # Two to the power of 60 items, if anybody wrote them out in the error.
            b"cnumpy\ndtype\n(](K\x01l" + b"2\x86" * 60 + b"tR.",
        ],
    )
    def test_bombs_take_no_memory(self, tmp_path, program):
        path = write(tmp_path, program)
        tracemalloc.start()
        with pytest.raises(ValueError, match=r"however: .{0,200}$"):
            read_pickle(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1e6

    def test_a_far_memo_takes_no_memory(self, tmp_path):
        """The interpreter in C would make room for four billion objects."""
        assert read_pickle(write(tmp_path, b"K\x01r\xff\xff\xff\xff.")) == 1


class TestBrokenFiles:
    def test_each_has_its_own_error(self, tmp_path):
        for content, message in {
            b"": r"empty \(0 bytes\); download it again",
            b"\n<!DOCTYPE html><html><title>404</title>": "looks like an HTML page; download it",
            b"<html><body>Quota exceeded</body></html>": "looks like an HTML page; download it",
            b'{"error": "not found"}': "looks like JSON",
            b"version https://git-lfs.github.com/spec/v1\n": "a pointer of Git LFS",
            b"PK\x03\x04": "a zip archive",
            b"\x1f\x8b\x08": "gzip",
        }.items():
            with pytest.raises(ValueError, match=rf"data\.pkl must be a pickle, .*{message}"):
                read(write(tmp_path, content))

    @pytest.mark.parametrize("protocol", [0, 2, 4, 5])
    def test_truncated_anywhere(self, tmp_path, protocol):
        content = {"train": {"audio": np.arange(6.0).reshape(2, 3), "id": ["a", "b"]}}
        whole = pickle.dumps(content, protocol=protocol)
        for size in range(1, len(whole)):
            with pytest.raises(ValueError, match=rf"ends in the middle, at {size} bytes"):
                read_pickle(write(tmp_path, whole[:size]))

    @settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_changed_bytes_raise_a_plain_error_or_nothing(self, tmp_path, data):
        content = {"train": {"audio": np.arange(6.0), "id": ["a", b"b"], "o": np.array([{}, 1])}}
        whole = bytearray(pickle.dumps(content, protocol=data.draw(st.integers(0, 5))))
        for _ in range(data.draw(st.integers(1, 3))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(ValueError):
            read_pickle(write(tmp_path, bytes(whole)))


class TestPlainPickles:
    @pytest.mark.parametrize("protocol", [*range(pickle.HIGHEST_PROTOCOL + 1), "Python 2"])
    def test_everything_plain_comes_back(self, tmp_path, protocol):
        content = {
            "floats": np.arange(6, dtype=np.float32).reshape(2, 3),
            "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            "big endian": np.arange(3, dtype=">i4"),
            "empty": np.zeros((0, 3)),
            "bytes": np.array([b"ab", b"c"]),
            "numbers": [1, -1, 10**20, 0.5, None, True, np.float32(2.5), np.int64(3)],
            "tuple": ("a", (1, 2)),
            "objects": np.array([None, "x", {"a": [1]}], dtype=object),
        }
        if protocol == "Python 2":
            raw = dump_python2(content)
        else:
            content |= {
                "text": np.array(["ab", "é"]),
                "sets": [{1, 2}, frozenset([3]), b"", b"\xff", np.str_("q"), "é€"],
                "ordered": OrderedDict(b=1, a=2),
            }
            raw = pickle.dumps(content, protocol=protocol)
        back = read_pickle(write(tmp_path, raw))
        assert list(back) == list(content)
        for name, x in content.items():
            if isinstance(x, np.ndarray):
                assert np.array_equal(back[name], x)
                assert (back[name].dtype.kind, back[name].itemsize) == (x.dtype.kind, x.itemsize)
            else:
                assert back[name] == x

    def test_python_2_is_what_it_was(self):
        """The start of a genuine file (Python 2, cPickle), and ours."""
        genuine = b"\x80\x02(cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85q\x02U\x01bq\x03\x87q\x04Rq\x05"  # noqa: E501
        ours = dump_python2((np.zeros(3), 1, 2, 3))
        memo = re.compile(rb"q.", re.DOTALL)
        assert memo.sub(b"", ours).startswith(memo.sub(b"", genuine))

    def test_description(self):
        assert describe((np.zeros((2, 3)), [1], "a")) == (
            "tuple of 3 (an array (2, 3) of float64, list of 1, str of 1)"
        )
        assert describe({"a": 1}) == "dict of 1 (a: int)"
        assert describe(list(range(20))).endswith("int, ...)")

    def test_latin1_is_what_codecs_say(self):
        encode = ADMITTED["_codecs", "encode"]
        assert encode("é\xff", "latin1") == codecs.encode("é\xff", "latin1")


class TestGenuinePickles:
    @pytest.fixture
    def folder(self):
        if not FOLDER.is_dir():
            pytest.skip(f"the data are not here: {FOLDER} (set MODIMPUTE_DATA)")
        return FOLDER

    def test_python_2(self, folder):
        path = folder / "original_layouts" / "mosi_bclstm_audio.pickle"
        train, train_labels, test, test_labels, longest, train_lengths, lengths = read_pickle(path)
        assert (train.shape, test.shape, longest) == ((62, 63, 73), (31, 63, 73), 63)
        assert (train_labels.shape, test_labels.shape) == ((62, 63), (31, 63))
        rows = set()  # the same utterances are in the .npz, in another order
        for x, sizes in ((train, train_lengths), (test, lengths)):
            rows |= {
                row.astype(np.float32).tobytes()
                for video, size in zip(x, sizes, strict=True)
                for row in video[:size]
            }
        with np.load(folder / "cmu_mosi_utterances.npz") as file:
            ours = [row.tobytes() for split in ("train", "valid", "test")
                    for row in file[f"{split}_audio"]]  # fmt: skip
        assert len(ours) == 2199
        assert rows == set(ours)
        with pytest.raises(ValueError, match=r"dict of train, valid, test, .* tuple of 7 \(an ar"):
            read(path)

    def test_python_3(self, folder):
        path = folder / "original_layouts" / "mosi_gcnet_labels_2way.pkl"
        ids, labels, speakers, sentences, *splits = read_pickle(path)
        assert [len(videos) for videos in splits] == [52, 10, 31]
        assert len(ids) == len(speakers) == len(sentences) == 93
        with np.load(folder / "cmu_mosi_sequences.npz") as file:
            for split in ("train", "valid", "test"):
                for i, video in enumerate(file[f"{split}_ids"]):
                    size = file[f"{split}_lengths"][i]
                    ours = file[f"{split}_labels"][i, :size]
                    np.testing.assert_allclose(np.array(labels[str(video)]), ours, atol=1e-6)
