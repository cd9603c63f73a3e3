"""Peak memory saved by each method, small networks beside language models: ``update-bench savings``.

Answers one sentence of the study (arXiv 2507.23536): that PEFT is only half as memory-efficient on depthwise-separable
networks as on LLMs. Everything is computed, in float32: the convolutional networks under the default workload, the
decoders on sequences, both with the same batch size.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import humanize
from peft_update_bench.bench.units import NOTHING
from peft_update_bench.fixtures.architecture_names import CORE_ARCHITECTURES
from peft_update_bench.fixtures.decoder_names import ATTENTIONS, DECODER_NAMES, DEFAULT_SEQUENCE_LENGTH
from peft_update_bench.fixtures.methods import takes_rank
from peft_update_bench.fixtures.methods.names import STUDY_METHODS
from peft_update_bench.fixtures.workload import Workload
from tabulate import tabulate

if TYPE_CHECKING:
    from peft_update_bench.fixtures.update_step import UpdateStep

NETWORKS = (*CORE_ARCHITECTURES, *DECODER_NAMES)
DEPTHWISE_SEPARABLE = tuple(name for name in CORE_ARCHITECTURES if name.startswith("mobilenet"))

HALF = (0.4, 0.6)
"""Ratios that read as "half": half, give or take a fifth."""

RANK_LIMIT = 4096  # the widest decoder's layers have no more
BATCH_LIMIT = 65_536  # no small network is updated with more, and nothing is allocated
SEQUENCE_LIMIT = 131_072  # the longest context that a Llama is sold with


@dataclass(frozen=True)
class Update:
    """A method with its rank, None where it takes none."""

    method: str
    rank: int | None = None

    def __str__(self) -> str:
        return self.method if self.rank is None else f"{self.method} r={self.rank}"


FULL = Update("fft")

Peaks = Mapping[tuple[str, Update], int]
"""Peak bytes by network and update."""


@dataclass(frozen=True)
class Comparison:
    """Fractions of full fine-tuning's peak that an update saves: the MobileNets' mean, and one decoder's."""

    update: Update
    decoder: str
    on_mobilenets: float
    on_decoder: float

    @property
    def ratio(self) -> float | None:
        """None where the decoder saves nothing: there is then nothing to be half as efficient as."""
        return self.on_mobilenets / self.on_decoder if self.on_decoder > 0 else None

    @property
    def verdict(self) -> str:
        if self.ratio is None:
            return "nothing saved on the decoder"
        if self.ratio <= 0:
            return "nothing saved on the MobileNets"
        low, high = HALF
        if low <= self.ratio <= high:
            return "half"
        return "less than half" if self.ratio < low else "more than half"


def updates(ranks: Sequence[int]) -> list[Update]:
    """Every method of the study but full fine-tuning, at each rank where it takes one."""
    return [
        Update(name, rank)
        for name in STUDY_METHODS
        if name != FULL.method
        for rank in (ranks if takes_rank(name) else (None,))
    ]


@dataclass(frozen=True)
class Options:
    """What a run compares. `batch_size` counts images and sequences; the last two are the decoders'."""

    ranks: tuple[int, ...] = (1, 4, 16)
    batch_size: int = 1
    sequence_length: int = DEFAULT_SEQUENCE_LENGTH
    attention: str = "fused"


def peaks_of(network: str, options: Options) -> dict[tuple[str, Update], int]:
    """The peak of every update of `network`."""
    from peft_update_bench.fixtures.instruments import computed

    peaks = {}
    for update in (FULL, *updates(options.ranks)):
        peaks[network, update] = computed.measure(build_step(network, update, options)).highest_peak
    return peaks


def build_step(network: str, update: Update, options: Options) -> UpdateStep:
    """The update step, on the meta device, of a convolutional network or of a decoder."""
    if network in DECODER_NAMES:
        from peft_update_bench.fixtures.decoders import build_decoder_step

        return build_decoder_step(
            network,
            update.method,
            update.rank,
            options.sequence_length,
            options.batch_size,
            attention=options.attention,
        )
    from peft_update_bench.fixtures.update_step import build_update_step

    workload = Workload(batch_size=options.batch_size)
    return build_update_step(network, update.method, update.rank, workload, device="meta")


def measure(options: Options) -> dict[tuple[str, Update], int]:
    """Every network's peaks; progress goes to stderr."""
    peaks: dict[tuple[str, Update], int] = {}
    for index, network in enumerate(NETWORKS, 1):
        print(f"[{index}/{len(NETWORKS)}] {network}", file=sys.stderr, flush=True)
        peaks |= peaks_of(network, options)
    return peaks


def saved(peaks: Peaks, network: str, update: Update) -> float:
    """The fraction of full fine-tuning's peak that `update` does without; negative where it needs more."""
    return 1 - peaks[network, update] / peaks[network, FULL]


def compare(peaks: Peaks, ranks: Sequence[int]) -> list[Comparison]:
    """Every update, with each decoder."""
    return [comparison(peaks, update, decoder) for update in updates(ranks) for decoder in DECODER_NAMES]


def comparison(peaks: Peaks, update: Update, decoder: str) -> Comparison:
    """One update on the MobileNets and on a decoder."""
    return Comparison(
        update,
        decoder,
        on_mobilenets=fmean(saved(peaks, network, update) for network in DEPTHWISE_SEPARABLE),
        on_decoder=saved(peaks, decoder, update),
    )


def report(peaks: Peaks, options: Options) -> str:
    """Both tables and the verdict, as Markdown."""
    comparisons = compare(peaks, options.ranks)
    conditions = (
        f"Computed: float32, AdamW, batch {options.batch_size}; images of 224×224, 10 classes; "
        f"sequences of {options.sequence_length} tokens, {options.attention} attention. "
        "Every method trains the head. GaLore's peak is its refreshing step's where that is higher."
    )
    parts = [
        f"### Peak memory saved against full fine-tuning, batch {options.batch_size}",
        savings_table(peaks, options.ranks),
        conditions,
        "### Savings on the MobileNets (mean of three) as a fraction of a decoder's",
        _ratio_table(comparisons),
        _verdicts(comparisons),
    ]
    return "\n\n".join(parts)


def savings_table(peaks: Peaks, ranks: Sequence[int]) -> str:
    """What each update saves on each network, as Markdown."""
    full = [humanize.naturalsize(peaks[network, FULL], binary=True) for network in NETWORKS]
    rows = [[str(u), *(f"{saved(peaks, network, u):+.1%}" for network in NETWORKS)] for u in updates(ranks)]
    return _markdown(["saved by", *NETWORKS], [["peak of fft", *full], *rows])


def _ratio_table(comparisons: Sequence[Comparison]) -> str:
    rows: dict[Update, list[str]] = {}
    for comparison in comparisons:
        cells = rows.setdefault(comparison.update, [str(comparison.update), f"{comparison.on_mobilenets:+.1%}"])
        cells.append(NOTHING if comparison.ratio is None else f"{comparison.ratio:.2f}")
    return _markdown(
        ["", "saved on MobileNets", *(f"as a fraction of {name}" for name in DECODER_NAMES)], list(rows.values())
    )


def _markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    alignment = ("left", *("right" for _ in headers[1:]))
    return tabulate(rows, headers=headers, tablefmt="pipe", colalign=alignment, disable_numparse=True)


def _verdicts(comparisons: Sequence[Comparison]) -> str:
    """The study's sentence, method by method: under which configuration it holds, and what holds elsewhere."""
    lines = [
        '"PEFT is only half as memory-efficient on depthwise-separable networks as on LLMs" '
        f"(half: a ratio of {HALF[0]} to {HALF[1]}):"
    ]
    for method in dict.fromkeys(comparison.update.method for comparison in comparisons):
        found: dict[str, dict[str, list[Comparison]]] = {}
        for comparison in comparisons:
            if comparison.update.method == method:
                found.setdefault(comparison.verdict, {}).setdefault(comparison.decoder, []).append(comparison)
        reproduced = found.pop("half", None)
        parts = ["not reproduced" if reproduced is None else f"reproduced with {_configurations(reproduced)}"]
        parts += [f"{verdict}: {_configurations(decoders)}" for verdict, decoders in found.items()]
        lines.append(f"- {method}: {'; '.join(parts)}")
    return "\n".join(lines)


def _configurations(by_decoder: Mapping[str, Sequence[Comparison]]) -> str:
    """``llama_1b at r=1, 4 and llama_7b at r=1``."""
    named = []
    for decoder, comparisons in by_decoder.items():
        ranks = ", ".join(str(c.update.rank) for c in comparisons if c.update.rank is not None)
        named.append(f"{decoder} at r={ranks}" if ranks else decoder)
    return " and ".join(named) if len(named) < 3 else f"{', '.join(named[:-1])} and {named[-1]}"


def _whole_number(limit: int) -> Callable[[str], int]:
    def parse(word: str) -> int:
        number = int(word) if word.isascii() and word.isdigit() and len(word) <= len(str(limit)) else 0
        if not 1 <= number <= limit:
            raise argparse.ArgumentTypeError(f"given {word!r}, expected a whole number from 1 to {limit}")
        return number

    return parse


def _ranks(value: str) -> tuple[int, ...]:
    """Comma-separated ranks without repetitions, in the order given."""
    parse = _whole_number(RANK_LIMIT)
    return tuple(dict.fromkeys(parse(word.strip()) for word in value.split(",")))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ranks", type=_ranks, default=Options.ranks, metavar="1,4", help="of lora, dora and galore; default: 1,4,16"
    )
    parser.add_argument(
        "--batch-size",
        type=_whole_number(BATCH_LIMIT),
        default=Options.batch_size,
        metavar="N",
        help="images, and the decoders' sequences, in a step; default: %(default)s",
    )
    parser.add_argument(
        "--sequence-length",
        type=_whole_number(SEQUENCE_LIMIT),
        default=Options.sequence_length,
        metavar="N",
        help="tokens in the decoders' sequence; default: %(default)s",
    )
    parser.add_argument(
        "--attention", choices=ATTENTIONS, default=Options.attention, help="the decoders'; default: %(default)s"
    )


def run(given: argparse.Namespace) -> int:
    """Print the tables on stdout; progress goes to stderr."""
    options = Options(given.ranks, given.batch_size, given.sequence_length, given.attention)
    print(report(measure(options), options))
    return 0
