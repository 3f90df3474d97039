"""Models from their ``config.json``: sizes that servers print, and what is refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.capacity.catalogue import NAMES, find_config, find_known, find_model
from qwenkit.capacity.gpu import GIB
from qwenkit.capacity.model_config import KNOWLEDGE, ModelConfig, Quantization
from qwenkit.errors import InvalidValue

DENSE = {
    "architectures": ["Qwen2ForCausalLM"],
    "num_hidden_layers": 28,
    "hidden_size": 3584,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
}
# Qwen1.5-MoE-A2.7B: 14.3 B parameters, of which 2.7 B work on each token.
MIXTURE = {
    "num_hidden_layers": 24,
    "hidden_size": 2048,
    "num_attention_heads": 16,
    "vocab_size": 151936,
    "intermediate_size": 5632,
    "num_experts": 60,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 1408,
    "shared_expert_intermediate_size": 5632,
}


def read(**changed: Any) -> ModelConfig:
    return ModelConfig.read({**DENSE, **changed}, "a model")


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen-7B-Chat", 7.72),
        ("Qwen-14B-Chat", 14.2),
        ("Qwen1.5-0.5B", 0.464),
        ("Qwen1.5-32B-Chat", 32.5),
        ("Qwen2-1.5B-Instruct", 1.54),
        ("Qwen2.5-7B-Instruct", 7.62),
        ("Qwen2.5-72B", 72.7),
        ("Qwen3-0.6B", 0.596),
        ("Qwen3-14B", 14.8),
        ("Qwen3-30B-A3B-Instruct-2507", 30.5),
        ("Qwen3-235B-A22B", 235),
        ("Qwen3-Next-80B-A3B-Instruct", 79.7),
        ("Meta-Llama-3-8B-Instruct", 8.03),
        ("Mistral-7B-Instruct-v0.2", 7.24),
        ("Mixtral-8x7B-Instruct-v0.1", 46.7),
        ("DeepSeek-V2-Lite-Chat", 15.7),
    ],
)
def test_parameters_are_those_that_the_makers_state(name: str, billions: float) -> None:
    assert find_model(name).parameters / 1e9 == pytest.approx(billions, rel=0.006)


# Published values of decoders that the catalogue does not name.
DEEPSEEK_V3 = {
    **{"num_hidden_layers": 61, "hidden_size": 7168, "num_attention_heads": 128},
    **{"num_key_value_heads": 128, "intermediate_size": 18432, "moe_intermediate_size": 2048},
    **{"n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8},
    **{"first_k_dense_replace": 3, "kv_lora_rank": 512, "q_lora_rank": 1536, "v_head_dim": 128},
    **{"qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "vocab_size": 129280},
}
GLM_4_9B = {
    **{"architectures": ["ChatGLMModel"], "num_layers": 40, "hidden_size": 4096},
    **{"num_attention_heads": 32, "multi_query_group_num": 2, "kv_channels": 128},
    **{"ffn_hidden_size": 13696, "padded_vocab_size": 151552, "seq_length": 131072},
}
OPT = {
    **{"architectures": ["OPTForCausalLM"], "num_hidden_layers": 24, "hidden_size": 2048},
    **{"num_attention_heads": 32, "ffn_dim": 8192, "vocab_size": 50272},
}
GPT_OSS_20B = {
    **{"architectures": ["GptOssForCausalLM"], "num_hidden_layers": 24, "hidden_size": 2880},
    **{"num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 201088},
    **{"intermediate_size": 2880, "num_local_experts": 32, "num_experts_per_tok": 4},
    **{"quantization_config": {"quant_method": "mxfp4"}, "tie_word_embeddings": False},
}


@pytest.mark.parametrize(
    ("config", "billions", "active"),
    [
        (DEEPSEEK_V3, 671, 37 - 1.3),
        (GLM_4_9B, 9.4, 8.2),
        (OPT, 1.3, 1.2),
        (GPT_OSS_20B, 20.9, 3.6 - 0.6),
    ],
    ids=["DeepSeek-V3", "GLM-4-9B", "OPT-1.3B", "gpt-oss-20b"],
)
def test_any_decoder_is_read(config: dict[str, Any], billions: float, active: float) -> None:
    model = ModelConfig.read(config, "another").model()
    assert model.parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert model.linear_parameters / 1e9 == pytest.approx(active, rel=0.02)


@pytest.mark.parametrize(
    ("name", "gpus", "gib"),
    [
        ("Qwen3-8B", 1, 15.2683),  # logs of vLLM 0.9.1
        ("Qwen3-30B-A3B", 4, 14.2474),  # vllm-project/vllm issue 17469
        ("DeepSeek-V2-Lite", 1, 29.3010),  # vllm-project/vllm pull request 4650
        ("Qwen2.5-32B-Instruct", 2, 30.7098),  # vllm-project/vllm issue 15815
        ("Qwen-7B-Chat", 1, 14.392),  # tests/data/gpu/h200-vllm-0.26.json
        ("Qwen-7B-Chat-Int8", 1, 8.533),
    ],
)
def test_weights_are_what_servers_print(name: str, gpus: int, gib: float) -> None:
    assert find_model(name).split(gpus).weights_bytes / GIB == pytest.approx(gib, rel=0.007)


def test_active_parameters_of_mixtures() -> None:
    assert find_model("Qwen3-30B-A3B").linear_parameters / 1e9 == pytest.approx(3.3 - 0.6, abs=0.1)
    assert find_model("Qwen3-235B-A22B").linear_parameters / 1e9 == pytest.approx(21, abs=0.3)
    shared = ModelConfig.read(MIXTURE, "Qwen1.5-MoE-A2.7B")
    assert shared.model().parameters / 1e9 == pytest.approx(14.3, abs=0.1)
    assert shared.model().linear_parameters / 1e9 == pytest.approx(2.7 - 0.6, abs=0.1)
    some = ModelConfig.read({**MIXTURE, "mlp_only_layers": [0, 5]}, "mixture")
    every_other = ModelConfig.read({**MIXTURE, "decoder_sparse_step": 2}, "mixture")
    assert (some.dense_layers, every_other.dense_layers) == (2, 12)
    assert find_config("DeepSeek-V2-Lite").dense_layers == 1  # type: ignore[union-attr]


def test_latent_attention_caches_one_vector_for_all_heads() -> None:
    model = find_model("DeepSeek-V2-Lite")
    assert model.kv_bytes_per_token == 2 * 27 * (512 + 64)
    assert model.split(8).kv_bytes_per_token == model.kv_bytes_per_token  # each GPU holds it whole


def test_layers_with_linear_attention_cache_nothing() -> None:
    model = find_model("Qwen3-Next-80B-A3B-Instruct")
    assert model.kv_bytes_per_token == 2 * 2 * 12 * 2 * 256  # one layer of four
    kinds = ["linear_attention", "full_attention"] * 14
    half = read(layer_types=kinds, linear_num_key_heads=4, linear_key_head_dim=128).model()
    assert half.kv_bytes_per_token == read().model().kv_bytes_per_token / 2


def test_qwen_v1_counts_both_halves_of_its_ffn() -> None:
    config = find_config("modelscope:qwen/Qwen-7B-Chat-Int8@v1.0.3")
    assert config is not None
    assert (config.architecture, config.ffn, config.head_dim) == ("QWenLMHeadModel", 11008, 128)
    assert (config.context, config.dtype) == (8192, "")
    assert config.quantization == Quantization("gptq", 8, 128)


def test_spellings_of_newer_transformers() -> None:
    nested = {"text_config": {**DENSE, "dtype": "bfloat16", "architectures": None}}
    outer = {"architectures": ["Some_VLForConditionalGeneration"], "vision_config": {"depth": 1}}
    config = ModelConfig.read({**outer, **nested}, "vision")
    assert config.architecture == "Some_VLForConditionalGeneration"
    assert (config.dtype, config.layers) == ("bfloat16", 28)
    assert read(torch_dtype="torch.float16").dtype == "float16"
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    assert read(rope_parameters=rope).context == 131_072
    assert read(rope_scaling={"rope_type": "llama3", "factor": 8.0}).context == 32_768
    assert read(rope_scaling=None, seq_length=2048).context == 2048


@pytest.mark.parametrize(
    ("quantization", "bytes_each"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, 0.5 + 2.5 / 128),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, 0.5 + 2.5 / 64),
        ({"quant_method": "gptq_marlin", "bits": 8, "group_size": -1}, 1.0),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 1.0),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, 1.0),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 32}}},
                "ignore": ["lm_head"],
            },
            0.5 + 2.5 / 32,
        ),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 0.5),
    ],
)
def test_quantised_layers_weigh_what_their_files_hold(
    quantization: dict[str, Any], bytes_each: float
) -> None:
    config = read(quantization_config=quantization)
    plain, stored = read().model(), config.model()
    assert stored.quantization == quantization["quant_method"]
    assert stored.linear_bytes == pytest.approx(plain.linear_parameters * bytes_each)
    assert stored.weights_bytes - stored.linear_bytes == pytest.approx(2 * plain.head_bytes)
    for name in ("self_attn", "model.layers.*.self_attn", "re:.*self_attn.*"):
        kept = read(quantization_config={**quantization, "modules_to_not_convert": [name]})
        assert stored.linear_bytes < kept.model().linear_bytes < plain.linear_bytes
    some = read(quantization_config={**quantization, "ignore": ["model.layers.0.mlp", "lm_head"]})
    assert some.model().linear_bytes == stored.linear_bytes  # of one layer: it is not counted


def test_tied_embeddings_are_held_once() -> None:
    assert read(tie_word_embeddings=True).tied
    assert not read().tied
    assert read(architectures=["GemmaForCausalLM"]).tied  # its class ties them by default
    tied, not_tied = read(tie_word_embeddings=True).model(), read().model()
    assert not_tied.weights_bytes - tied.weights_bytes == not_tied.head_bytes


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"num_hidden_layers": None}, "num_hidden_layers"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers"),
        ({"hidden_size": "3584"}, "hidden_size"),
        ({"hidden_size": True}, "hidden_size"),
        ({"num_attention_heads": 27}, "num_attention_heads"),
        ({"num_key_value_heads": 5}, "num_key_value_heads"),
        ({"vocab_size": 1e6}, "vocab_size"),
        ({"num_experts": 8}, "num_experts_per_tok"),
        ({"num_experts": 8, "num_experts_per_tok": 9}, "num_experts_per_tok"),
        ({"kv_lora_rank": 512}, "qk_rope_head_dim"),
        ({"quantization_config": "gptq"}, "quantization_config"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 7}}, "bits"),
        ({"quantization_config": {"quant_method": "new"}}, "bits"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder"),
        ({"text_config": [1]}, "text_config"),
    ],
)
def test_a_missing_or_impossible_field_is_named(changed: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read(**changed)
    assert caught.value.name == key
    assert caught.value.rule
    assert "config.json of a model" in caught.value.fix


KEYS = sorted({key for keys in KNOWLEDGE["spellings"].values() for key in keys})
OTHERS = ("architectures", "quantization_config", "rope_scaling", "text_config", "mlp_only_layers")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 40_000) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*KEYS, *OTHERS, "quant_method", "factor"]), inner)
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(st.sampled_from([*KEYS, *OTHERS, "kv_lora_rank"]), VALUES, max_size=4))
def test_any_config_is_read_or_refused_by_name(changed: dict[str, Any]) -> None:
    try:
        model = read(**changed).model()
    except InvalidValue:
        return
    assert 0 < model.linear_bytes < model.weights_bytes
    assert model.kv_bytes_per_token > 0


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(NAMES),
    st.sampled_from(["layers", "hidden", "ffn", "vocabulary", "expert_ffn", "experts"]),
    st.integers(2, 5),
)
def test_a_larger_shape_is_never_smaller(name: str, field: str, times: int) -> None:
    config = find_config(name)
    assert config is not None
    larger = replace(config, **{field: getattr(config, field) * times})
    small, large = config.model(), larger.model()
    assert large.weights_bytes >= small.weights_bytes
    assert large.kv_bytes_per_token >= small.kv_bytes_per_token
    assert large.parameters >= small.parameters


def test_names_are_read_as_the_hubs_write_them() -> None:
    assert len(NAMES) >= 30
    for name in NAMES:
        known = find_known(f"hf:someone/{name.upper()}@main")
        assert known is not None, name
        for sibling in known.siblings:
            assert find_config(sibling) is not None, sibling
    for unknown in ("Qwen9-7B", "", "7B", "Qwen3-8B-Reranker", "a/b/"):
        assert find_known(unknown) is None
    stored = find_config("Qwen2.5-72B-Instruct-AWQ")
    assert stored is not None
    assert (stored.ffn, stored.dtype) == (29696, "float16")  # padded for the groups
    typed = find_known("qwen3-8b-awq")
    assert typed is not None
    assert f"{typed.hub}/{typed.config.name}" == "modelscope:Qwen/Qwen3-8B-AWQ"
