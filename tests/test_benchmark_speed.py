"""The speed benchmark: every section at small sizes, the floor, and what a ratio is made of."""

import json

import pytest
import torch

pytest.importorskip("sklearn")

from examples.benchmarks.imputation.data import load
from examples.benchmarks.speed import quality, reference, report, sections, timing
from examples.benchmarks.speed.__main__ import main
from examples.benchmarks.speed.floor import Encoder
from examples.benchmarks.speed.peers import AllPairs, Explicit, TorchEncoder

SMALL = {
    "SETTINGS": ((2, 5, 20),),
    "UNALIGNED": ((2, 4, 6, 8),),
    "FUSIONS": ((2, 5, 8),),
    "MODALITIES": (2, 3),
    "SOME": (3,),
    "RAGGED": ((4, 8),),
    "LONGEST": 12,
    "GROWTH": (4, 8),
    "IMPORTS": 2,
}


@pytest.fixture
def small(monkeypatch):
    for name, value in SMALL.items():
        monkeypatch.setattr(sections, name, value)
    monkeypatch.setattr(reference, "LENGTHS", {"text": 4, "audio": 5, "vision": 6})
    monkeypatch.setattr(reference, "SIZE", 2)


@pytest.mark.usefixtures("small")
def test_every_section_runs_and_is_reported(tmp_path, capsys):
    path = tmp_path / "new" / "out.json"
    assert main(["--seconds", "0", "--json", str(path)]) is None
    saved = json.loads(path.read_text(encoding="utf-8"))
    rows = saved["rows"]
    assert saved["environment"]["threads"] == 1
    assert {row["section"] for row in rows} == {
        "translator",
        "translator with its defaults",
        "translator, unaligned",
        "ensemble",
        "fusion",
        "fusion, growth",
        "fusion, growth, num_latents=16",
        "imputer, growth",
        "imputer, rows",
        "ragged",
        "loss",
        "reference model",
        "import",
    }
    assert all(row["ratio"] > 0 and row["name"] != row["versus"] for row in rows)
    fused = {row["setting"] for row in rows if row["section"] == "fusion"}
    assert fused == {"M3 B2 L5 d20", "M2 B2 L5 d8", "M3 B2 L5 d8"}
    assert {row["what"] for row in rows} == {
        "forward",
        "forward + backward",
        "bytes saved",
        "import",
    }
    table = capsys.readouterr().out
    assert "| translator: times floor | ModalityTranslator |" in table


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("on", [True, False])
def test_the_other_library_can_be_left_out(on, tmp_path, monkeypatch):
    path, before, seen = tmp_path / "out.json", torch._C._get_mkldnn_enabled(), []
    monkeypatch.setattr(sections, "losses", lambda _: seen.append(torch._C._get_mkldnn_enabled()))
    main(["--sections", "losses", "--json", str(path), *([] if on else ["--no-onednn"])])
    assert set(seen) == {on and before}
    assert torch._C._get_mkldnn_enabled() == before
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert saved["environment"]["oneDNN"] == (on and before)


@pytest.mark.usefixtures("small")
def test_only_the_sections_that_are_asked_for(capsys):
    main(["--seconds", "0", "--sections", "losses"])
    assert "ConsistencyLoss" in capsys.readouterr().out


@pytest.mark.usefixtures("small")
def test_in_lower_precision_at_another_size(capsys):
    size = ["--size", "3", "4", "20"]
    main(["--seconds", "0", "--sections", "translators", "--ways", "bf16", *size])
    lines = capsys.readouterr().out.splitlines()
    wanted = "B3 L4 d20 forward + backward bf16: ModalityTranslator"
    assert any(wanted in text for text in lines)
    assert not any("forward: ModalityTranslator" in text for text in lines)


@pytest.mark.usefixtures("small")
def test_fusions_at_another_size(capsys):
    main(["--seconds", "0", "--sections", "fusions", "--size", "2", "4", "12"])
    lines = capsys.readouterr().out.splitlines()
    settings = {text.split(" forward")[0] for text in lines if "turns" in text}
    assert settings == {"fusion M3 B2 L4 d12"}


def test_every_call_follows_every_other_one():
    called = []
    calls = {name: lambda name=name: called.append(name) for name in "abc"}
    timing.compare(calls, 0.05)
    turns = list(zip(*[iter(called[6:])] * 3, strict=False))  # two of each warm up
    assert all(sorted(turn) == list("abc") for turn in turns)
    assert len(set(turns)) == 6


def test_ratios_are_of_the_same_turn():
    time = iter(range(1000))
    spent = {"one": 1.0, "three": 3.0}
    clock = {"now": 0.0}

    def work(name):
        def call():
            # Every turn the machine is slower, for both alike.
            clock["now"] += spent[name] * (1 + next(time) // 2)

        return call

    def read(call):
        begin = clock["now"]
        call()
        return clock["now"] - begin

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "_cpu_clock", read)
        ratios, turns = timing.compare({"one": work("one"), "three": work("three")}, seconds=0)
    assert turns == timing.LEAST
    assert ratios == {"one": (1.0, 1.0, 1.0), "three": (3.0, 3.0, 3.0)}


def test_bytes_count_what_is_kept_once_and_no_parameters():
    linear, x = torch.nn.Linear(3, 5), torch.randn(2, 3)
    assert timing.saved_bytes(linear, x) == 0  # its input and its weight are there anyway

    class Twice(torch.nn.Module):
        def forward(self, x):
            y = linear(x)
            return y.exp() + y.sin().cos()  # keeps exp(y), y and sin(y)

    assert timing.saved_bytes(Twice(), x) == 3 * 2 * 5 * 4


def test_explicit_scores_are_the_same_function_as_the_floor():
    torch.manual_seed(0)
    floor, explicit = Encoder(3, 2, 8, 2), Explicit(3, 2, 8, 2)
    explicit.load_state_dict(floor.state_dict())
    x, valid = torch.randn(2, 5, 3), torch.tensor([[True] * 5, [True, True, False, False, False]])
    torch.testing.assert_close(explicit.eval()(x, valid), floor.eval()(x, valid))


@pytest.mark.parametrize("queries", [0, 6])
def test_the_floor_is_one_of_a_torch_encoder(queries):
    # The same sizes: torch has as many parameters, and in the decoder a block of attention more.
    ours, torchs = Encoder(3, 2, 8, 2, queries=queries), TorchEncoder(3, 2, 8, 2, queries=queries)
    counts = [sum(p.numel() for p in module.parameters()) for module in (ours, torchs)]
    assert counts[0] == counts[1] if not queries else counts[0] < counts[1]


def test_all_pairs_read_valid_steps_only():
    torch.manual_seed(0)
    fusion = AllPairs({"a": 3, "b": 2}, 8, 2, places=5)
    x = {"a": torch.randn(2, 5, 3), "b": torch.randn(2, 4, 2)}
    valid = {"a": torch.ones(2, 5, dtype=torch.bool), "b": torch.ones(2, 4, dtype=torch.bool)}
    valid["b"][1, 2:] = False
    out = fusion(x, valid)
    assert out.shape == (2, fusion.output_dim)
    x["b"][1, 2:] = 7.0
    torch.testing.assert_close(fusion(x, valid), out)


def test_explicit_reference_has_the_same_parameters():
    torch.manual_seed(0)
    config, lengths = reference.FAITHFUL["mosi-aligned"].model, dict.fromkeys(reference.DIMS, 4)
    shape = reference.Shape(reference.DIMS, lengths, "regression", aligned=True, stepwise=False)
    ours, other = (reference.SentimentModel(shape, config).eval() for _ in range(2))
    other.load_state_dict(ours.state_dict())
    other = reference.write_out(other)
    x = {name: torch.randn(2, 4, dim) for name, dim in reference.DIMS.items()}
    valid = {name: torch.ones(2, 4, dtype=torch.bool) for name in x}
    torch.testing.assert_close(other(x, valid=valid), ours(x, valid=valid), atol=1e-4, rtol=1e-4)
    torch.manual_seed(0)
    assert not torch.equal(other.train()(x, valid=valid)[0], ours(x, valid=valid)[0])


def test_quality_of_fusions_on_digits(capsys):
    assert quality.main(["--seeds", "1", "--epochs", "1", "--latents", "2"]) == 0
    out = capsys.readouterr().out
    assert "digits, 3 modalities, accuracy over 1 seeds" in out
    assert "num_latents=2:" in out


def test_quality_over_folds_tests_every_sample_once():
    data = load("digits")

    def samples(*parts):
        names = data.modalities
        return sorted(
            x.numpy().tobytes()
            for p in parts
            for x in torch.cat([p.modalities[n] for n in names], -1)
        )

    everybody, tested = samples(data.train, data.test), []
    for seed in range(3):
        train, validation, test = quality.split(data, seed, 3)
        assert samples(train, validation, test) == everybody
        assert len(test) == 599
        tested.append(test)
    assert samples(*tested) == everybody


def test_tables_have_a_line_for_each_setting():
    row = {"section": "s", "versus": "v", "what": "forward", "ratio": 1.234}
    rows = [row | {"setting": "L1", "name": "a"}, row | {"setting": "L2", "name": "b"}]
    assert report.tables(rows).splitlines() == [
        "| s: times v | a | b |",
        "|---|---|---|",
        "| L1, forward | 1.23 |  |",
        "| L2, forward |  | 1.23 |",
    ]
