"""The transformer reference: built as described, counted as by hand."""

from __future__ import annotations

import re

import pytest
import torch
import transformers
from packaging.version import Version
from peft_update_bench.fixtures.decoders import ATTENTIONS, DECODERS, build_decoder_step, build_step
from peft_update_bench.fixtures.instruments import computed
from peft_update_bench.fixtures.methods import METHODS
from peft_update_bench.fixtures.update_step import UpdateStep
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

SMALL = "llama_26m"
PROJECTIONS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
TOKENS = 12


def tiny(tied: bool = False) -> LlamaConfig:
    """Two layers, no two sizes equal, four heads of which pairs share keys and values."""
    return LlamaConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=88,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
    )


def rank_for(method: str) -> int | None:
    return 4 if METHODS[method].takes_rank else None


def shared_width(config: LlamaConfig) -> int:
    """The outputs of the key and of the value projection."""
    assert config.num_key_value_heads is not None
    return config.num_key_value_heads * config.hidden_size // config.num_attention_heads


def projection_flops(config: LlamaConfig, tokens: int) -> int:
    """Two FLOPs for every weight of every Linear and every token: attention and MLP."""
    weights = 2 * config.hidden_size**2 + 2 * config.hidden_size * shared_width(config)
    weights += 3 * config.hidden_size * config.intermediate_size
    return 2 * tokens * config.num_hidden_layers * weights


def attention_flops(config: LlamaConfig, tokens: int) -> int:
    """Scores and weighted values, each 2 × tokens² × width; a causal mask spares nothing."""
    return 2 * 2 * tokens**2 * config.hidden_size * config.num_hidden_layers


def head_flops(config: LlamaConfig, tokens: int) -> int:
    return 2 * tokens * config.hidden_size * config.vocab_size


def rotary_flops(config: LlamaConfig, tokens: int) -> int:
    """Transformers before 5.19 multiply positions by frequencies, half a head's width of them, in one matrix product a
    batch; later ones element by element, which counts nothing."""
    if Version(transformers.__version__) >= Version("5.19"):
        return 0
    assert config.num_attention_heads is not None
    return 2 * tokens * (config.hidden_size // config.num_attention_heads // 2)


def logits(step: UpdateStep, tokens: Tensor) -> Tensor:
    _, _, mask, positions = step.batch
    result: Tensor = step.network(input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=False).logits
    return result


@pytest.mark.parametrize(
    ("name", "parameters"), [("llama_26m", 25_829_888), ("llama_1b", 1_100_048_384), ("llama_7b", 6_738_415_616)]
)
def test_decoders_have_the_published_sizes(name: str, parameters: int) -> None:
    step = build_decoder_step(name, "fft", None)
    assert sum(p.numel() for p in step.network.parameters()) == parameters
    assert {p.device.type for p in step.network.parameters()} == {"meta"}
    assert {p.dtype for p in step.network.parameters()} == {torch.float32}


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_adapters_are_on_attention_and_mlp_projections_only(method: str) -> None:
    step = build_decoder_step(SMALL, method, 4, sequence_length=TOKENS)
    adapted = {name.partition(".lora_")[0] for name, _ in step.network.named_modules() if ".lora_A" in name}
    layers = DECODERS[SMALL].num_hidden_layers
    assert len(adapted) == layers * len(PROJECTIONS)
    assert {name.rpartition(".")[2] for name in adapted} == PROJECTIONS
    trained = {name for name, p in step.network.named_parameters() if p.requires_grad}
    assert {name for name in trained if ".lora_" not in name} == {"lm_head.weight"}


@pytest.mark.parametrize("method", ["head", "bn_head"])
def test_head_methods_train_the_output_projection_and_cost_the_same(method: str) -> None:
    step = build_decoder_step(SMALL, method, None, sequence_length=TOKENS)
    assert [name for name, p in step.network.named_parameters() if p.requires_grad] == ["lm_head.weight"]
    assert computed.measure(step) == computed.measure(build_decoder_step(SMALL, "head", None, sequence_length=TOKENS))


def test_galore_projects_every_projection_and_nothing_else() -> None:
    config = tiny()
    step = build_step(config, "galore", 4, TOKENS)
    plain, projected = step.optimizer.param_groups
    assert projected["rank"] == 4
    assert len(projected["params"]) == config.num_hidden_layers * len(PROJECTIONS)
    norms = 2 * config.num_hidden_layers + 1
    assert len(plain["params"]) == norms + len(["embedding", "head"])
    flops = computed.measure(step).flops
    # Down to rank 4 and back up: two products with every projected weight's gradient.
    weights = sum(p.numel() for p in projected["params"])
    assert flops["optimizer"] == 2 * (2 * 4 * weights)
    assert flops["optimizer_refresh"] > flops["optimizer"]


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_forward_and_backward_flops_equal_a_count_by_hand(attention: str) -> None:
    config = tiny()
    flops = computed.measure(build_step(config, "fft", None, TOKENS, batch_size=1, attention=attention)).flops
    linear = projection_flops(config, TOKENS) + head_flops(config, TOKENS)
    scores = attention_flops(config, TOKENS)
    assert flops["forward"] == linear + scores + rotary_flops(config, TOKENS)
    # Every product has two gradients of its own cost; the fused kernel computes the scores once more.
    again = scores // 2 if attention == "fused" else 0
    assert flops["backward"] == 2 * linear + 2 * scores + again


def test_flops_grow_with_the_batch() -> None:
    config = tiny()
    one, three = (computed.measure(build_step(config, "fft", None, TOKENS, batch_size=n)).flops for n in (1, 3))
    rotary = rotary_flops(config, TOKENS)
    assert three["total"] - rotary == 3 * (one["total"] - rotary)


def test_lora_backward_skips_the_frozen_weights_gradients() -> None:
    config = tiny()
    rank = 4
    flops = computed.measure(build_step(config, "lora", rank, TOKENS, attention="eager")).flops
    shared = shared_width(config)
    inputs_and_outputs = [(config.hidden_size, config.hidden_size)] * 2 + [(config.hidden_size, shared)] * 2
    inputs_and_outputs += [(config.hidden_size, config.intermediate_size)] * 3
    adapters = sum(2 * TOKENS * rank * (i + o) for i, o in inputs_and_outputs) * config.num_hidden_layers
    linear, scores = projection_flops(config, TOKENS), attention_flops(config, TOKENS)
    assert flops["forward"] == linear + scores + head_flops(config, TOKENS) + adapters + rotary_flops(config, TOKENS)
    # The input of the first layer's query, key and value needs no gradient: the embedding is frozen.
    first = 2 * TOKENS * config.hidden_size * (config.hidden_size + 2 * shared)
    first_adapters = 3 * 2 * TOKENS * rank * config.hidden_size
    expected = linear - first + 2 * scores + 2 * head_flops(config, TOKENS) + 2 * adapters - first_adapters
    assert flops["backward"] == expected


def test_six_flops_a_weight_and_token_is_what_seven_billion_parameters_cost() -> None:
    config = DECODERS["llama_7b"]
    total = computed.measure(build_decoder_step("llama_7b", "fft", None, attention="eager")).flops["total"]
    weights = (projection_flops(config, 1) + head_flops(config, 1)) // 2
    assert weights == 6_607_077_376
    assert total == 6 * weights * 512 + 3 * attention_flops(config, 512) + rotary_flops(config, 512)
    assert total == pytest.approx(6 * 6_738_415_616 * 512, rel=0.001)


def test_full_fine_tuning_peaks_in_the_optimizer_at_four_times_the_parameters() -> None:
    step = build_decoder_step(SMALL, "fft", None, sequence_length=TOKENS)
    memory = computed.measure(step).memory
    parameters = 4 * 25_829_888
    counters = 4 * len(list(step.network.parameters()))
    # AdamW's root of the second moment and its quotient, and the quotient of the parameter before, which the loop's
    # variable still holds: an MLP's three projections are the largest, and neighbours.
    temporaries = 3 * (4 * 512 * 1376)
    loss = 4
    batch = sum(tensor.nbytes for tensor in step.batch)
    buffers = sum(buffer.nbytes for buffer in step.network.buffers())
    assert memory["peak_phase"] == "optimizer"
    assert memory["parameters"] == memory["gradients"] == parameters
    assert memory["optimizer_states"] == 2 * parameters + counters
    assert memory["peak"] == 4 * parameters + counters + temporaries + loss + batch + buffers


def test_seven_billion_parameters_need_what_design_says() -> None:
    full, lora = (
        computed.measure(build_decoder_step("llama_7b", method, rank)).memory["peak"]
        for method, rank in (("fft", None), ("lora", 8))
    )
    assert full == pytest.approx(101.4 * 2**30, rel=0.001)
    assert 1 - int(lora) / int(full) == pytest.approx(0.69, abs=0.01)


def test_eager_attention_keeps_one_matrix_of_scores_a_head() -> None:
    fused, eager = (
        computed.measure(build_decoder_step(SMALL, "lora", 4, attention=attention)).memory for attention in ATTENTIONS
    )
    config, length = DECODERS[SMALL], 512
    scores = 4 * length**2 * config.num_attention_heads * config.num_hidden_layers
    sums = 4 * length * config.num_attention_heads * config.num_hidden_layers  # the fused kernel's logsumexp
    assert int(eager["activations"]) - int(fused["activations"]) == pytest.approx(scores - sums, rel=0.15)


@pytest.mark.parametrize("method", METHODS)
def test_no_method_reads_a_value(method: str) -> None:
    """On the meta device an ``.item()`` is an error."""
    figures = computed.measure(build_step(tiny(), method, rank_for(method), TOKENS))
    assert figures.flops["forward"] >= 1
    assert sum(int(figures.memory[name]) for name in ("parameters", "optimizer_states")) < int(figures.memory["peak"])


@pytest.mark.parametrize("tied", [False, True])
def test_tied_weights_count_once(tied: bool) -> None:
    config = tiny(tied)
    figures = computed.measure(build_step(config, "fft", None, TOKENS))
    embedding = config.vocab_size * config.hidden_size
    untied = computed.measure(build_step(tiny(), "fft", None, TOKENS)).parameters["total"]
    assert figures.parameters["total"] == untied - (embedding if tied else 0)
    assert figures.memory["parameters"] == 4 * figures.parameters["total"]
    head = computed.measure(build_step(config, "head", None, TOKENS))
    assert head.parameters["trainable"] == embedding


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_network_is_the_one_that_transformers_runs(attention: str) -> None:
    step = build_step(tiny(), "fft", None, TOKENS, batch_size=2, attention=attention, device="cpu")
    stock = LlamaForCausalLM(tiny())
    stock.load_state_dict(step.network.state_dict())
    tokens = step.batch[0]
    torch.testing.assert_close(logits(step, tokens), stock(input_ids=tokens).logits)
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 97
    torch.testing.assert_close(logits(step, tokens)[:, :-1], logits(step, changed)[:, :-1])


@pytest.mark.parametrize("method", METHODS)
def test_a_real_step_trains_and_counts_the_same(method: str) -> None:
    step = build_step(tiny(), method, rank_for(method), TOKENS, attention="eager", device="cpu")
    figures = computed.measure(build_step(tiny(), method, rank_for(method), TOKENS, attention="eager"))
    with FlopCounterMode(display=False) as counter:
        loss = step.forward()
        step.backward(loss)
    assert counter.get_total_flops() == figures.flops["forward"] + figures.flops["backward"]
    step.optimizer_step()
    step.zero_grad()
    first = float(loss.detach())
    for _ in range(20):
        last = float(step())
    assert last < first


def test_a_bad_name_length_batch_or_attention_says_what_is_expected() -> None:
    with pytest.raises(ValueError, match=re.escape("'llama_8b'; expected one of llama_26m, llama_1b, llama_7b")):
        build_decoder_step("llama_8b", "fft", None)
    with pytest.raises(ValueError, match="the sequence length is 0; expected a whole number of at least 1"):
        build_decoder_step(SMALL, "fft", None, sequence_length=0)
    with pytest.raises(ValueError, match="the batch size is -1; expected"):
        build_decoder_step(SMALL, "fft", None, batch_size=-1)
    with pytest.raises(ValueError, match="attention is 'flash'; expected one of fused, eager"):
        build_decoder_step(SMALL, "fft", None, attention="flash")


def test_building_leaves_the_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    build_step(tiny(), "lora", 4, TOKENS, device="cpu")
    assert torch.equal(torch.random.get_rng_state(), before)
