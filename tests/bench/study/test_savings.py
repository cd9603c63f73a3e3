"""The sentence that is judged with the transformer reference, and the command that judges it."""

from __future__ import annotations

import argparse

import pytest
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.study import savings

SMALL = "llama_26m"


def comparison(on_mobilenets: float, on_decoder: float) -> savings.Comparison:
    return savings.Comparison(savings.Update("lora", 4), SMALL, on_mobilenets, on_decoder)


@pytest.mark.parametrize(
    ("on_mobilenets", "on_decoder", "verdict"),
    [
        (0.25, 0.5, "half"),
        (0.2, 0.5, "half"),  # the lowest
        (0.19, 0.5, "less than half"),
        (0.3, 0.5, "half"),  # the highest
        (0.31, 0.5, "more than half"),
        (-0.1, 0.5, "nothing saved on the MobileNets"),
        (0.25, 0.0, "nothing saved on the decoder"),
        (0.25, -0.1, "nothing saved on the decoder"),
        (-0.1, -0.1, "nothing saved on the decoder"),
    ],
)
def test_verdict(on_mobilenets: float, on_decoder: float, verdict: str) -> None:
    assert comparison(on_mobilenets, on_decoder).verdict == verdict


def test_report_shows_savings_ratios_and_under_which_configuration_the_sentence_holds() -> None:
    options = savings.Options(ranks=(1, 4))
    peaks = {(network, update): 50 for network in savings.NETWORKS for update in savings.updates(options.ranks)}
    peaks |= {(network, savings.FULL): 100 for network in savings.NETWORKS}
    for network in savings.DEPTHWISE_SEPARABLE:
        peaks[network, savings.Update("lora", 1)] = 75
        peaks[network, savings.Update("dora", 4)] = 110
    lines = savings.report(peaks, options).splitlines()
    rows = {line.split("|")[1].strip(): line for line in lines if line.startswith("|")}
    assert rows["peak of fft"].count("100 Bytes") == len(savings.NETWORKS)
    assert "-10.0%" in rows["dora r=4"]
    assert (
        "- lora: reproduced with llama_26m at r=1, llama_1b at r=1 and llama_7b at r=1; more than half: "
        in "\n".join(lines)
    )
    assert any(
        line.startswith("- head: not reproduced; more than half: llama_26m, llama_1b and llama_7b") for line in lines
    )
    assert any("nothing saved on the MobileNets: llama_26m at r=4" in line for line in lines)


def test_command_measures_every_network(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(savings, "NETWORKS", ("mobilenet_v3_small", SMALL))
    monkeypatch.setattr(savings, "DEPTHWISE_SEPARABLE", ("mobilenet_v3_small",))
    monkeypatch.setattr(savings, "DECODER_NAMES", (SMALL,))
    main(["savings", "--ranks", "4", "--batch-size", "2", "--sequence-length", "16", "--attention", "eager"])
    shown = capsys.readouterr()
    assert "batch 2; images of 224×224, 10 classes; sequences of 16 tokens, eager attention" in shown.out
    assert "### Peak memory saved against full fine-tuning, batch 2" in shown.out
    assert "lora r=4" in shown.out
    assert shown.err.splitlines() == ["[1/2] mobilenet_v3_small", f"[2/2] {SMALL}"]


def test_the_batch_size_is_that_of_images_and_of_sequences() -> None:
    for network, expected in (("mobilenet_v3_small", (3, 3, 224, 224)), (SMALL, (3, 16))):
        options = savings.Options(batch_size=3, sequence_length=16)
        assert savings.build_step(network, savings.FULL, options).batch[0].shape == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "0"], "--batch-size: given '0', expected a whole number from 1 to 65536"),
        (["--batch-size", "65537"], "--batch-size: given '65537', expected"),
        (["--ranks", "0"], "--ranks: given '0', expected a whole number from 1 to 4096"),
        (["--ranks", "1,,4"], "--ranks: given '', expected a whole number from 1 to 4096"),
        (["--ranks", "4097"], "--ranks: given '4097', expected"),
        (["--sequence-length", "1e3"], "--sequence-length: given '1e3', expected a whole number from 1 to 131072"),
        (["--sequence-length", "131073"], "--sequence-length: given '131073', expected"),
        (["--sequence-length", "²"], "--sequence-length: given '²', expected"),
        (["--attention", "flash"], "--attention: invalid choice: 'flash'"),
        (["--rank", "4"], "unrecognized arguments: --rank 4"),
    ],
)
def test_bad_option_is_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["savings", *arguments])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_ranks_keep_their_order_and_lose_repetitions() -> None:
    parser = argparse.ArgumentParser()
    savings.add_arguments(parser)
    assert parser.parse_args(["--ranks", "16, 4,16"]).ranks == (16, 4)
