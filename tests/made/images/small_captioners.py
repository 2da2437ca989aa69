"""Captioners with random weights in folders, as transformers and open_clip save them, and parameters that name them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from laion_dask import params
from laion_dask.clip.clip import DEMO_MODEL

WORDS = (
    *("a", "picture", "of", "red", "green", "blue", "star", "square", "circle", "on", "the", "two", "small", "large"),
    *("with", "and", "in", "front", "sky", "house", "dog", "cat", "tree", "sun", "moon", "##s", "##ing", "near"),
)
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]")
_VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}


def settings(model: str, **values: Any) -> params.Caption:  # noqa: ANN401 - whatever a parameter takes
    """Return parameters of captioning with the demo's CLIP as the ranker."""
    base: dict[str, Any] = {
        "model": model,
        "kind": "blip",
        "pretrained": None,
        "expect_sha256": None,
        "precision": "fp32",
        "prompt": "a picture of ",
        "samples": 4,
        "temperature": 1.0,
        "top_p": None,
        "top_k": None,
        "min_tokens": 2,
        "max_tokens": [6],
        "end_above": None,
        "repetition_penalty": 1.0,
        "seed": 1257,
        "rank": [{"name": "demo", "model": "demo", "keep": 1}],
        "repair": None,
        "keep_samples": True,
        "batch": 8,
    }
    return params.Caption(**base | values)


def tokenizer(folder: Path) -> Any:  # noqa: ANN401 - of transformers
    """Save BERT's tokenizer with a few words, and BLIP's begin token."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join([*_SPECIAL, *WORDS]) + "\n")
    made: Any = transformers.BertTokenizerFast(str(folder / "vocab.txt"), bos_token="[DEC]")  # noqa: S106 - a token of text
    made.save_pretrained(folder)
    return made


def blip(folder: Path, *, seed: int = 1, side: int = 32, scale: float = 8.0) -> Path:
    """Save a small BLIP; `scale` multiplies its last layer, so that its distributions are not flat."""
    import torch
    import transformers

    words = tokenizer(folder)
    torch.manual_seed(seed)
    text = {
        "vocab_size": len(words),
        "hidden_size": 32,
        "encoder_hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 40,
        "bos_token_id": words.convert_tokens_to_ids("[DEC]"),
        "sep_token_id": words.sep_token_id,
        "eos_token_id": words.sep_token_id,
        "pad_token_id": words.pad_token_id,
    }
    config = transformers.BlipConfig(
        text_config=text, vision_config=_VISION | {"image_size": side, "patch_size": 16}, projection_dim=16
    )
    network = transformers.BlipForConditionalGeneration(config)
    with torch.no_grad():
        network.text_decoder.cls.predictions.decoder.weight.mul_(scale)
        for layer in network.text_decoder.bert.encoder.layer:
            # Else random weights hardly look at the image.
            layer.crossattention.self.value.weight.mul_(30)
            layer.crossattention.output.dense.weight.mul_(30)
    network.save_pretrained(folder)
    transformers.BlipImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)
    return folder


def blip2(folder: Path, *, seed: int = 1) -> Path:
    """Save a small BLIP-2 with OPT as its language model."""
    import torch
    import transformers

    words = tokenizer(folder)
    words.add_special_tokens({"additional_special_tokens": ["<image>"]})
    torch.manual_seed(seed)
    config = transformers.Blip2Config(
        vision_config=_VISION | {"image_size": 32, "patch_size": 16},
        qformer_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "encoder_hidden_size": 32,
            "vocab_size": 40,
        },
        text_config={
            "model_type": "opt",
            "vocab_size": len(words),
            "hidden_size": 32,
            "ffn_dim": 48,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "word_embed_proj_dim": 32,
            "max_position_embeddings": 64,
            "pad_token_id": 0,
            "bos_token_id": 5,
            "eos_token_id": 3,
        },
        num_query_tokens=4,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    network = transformers.Blip2ForConditionalGeneration(config)
    with torch.no_grad():
        network.language_model.lm_head.weight.mul_(20)
        # Its embeddings are tied: behind the end of the prompt, that end would always be the most likely token.
        network.language_model.lm_head.weight[3] = 0
        network.language_projection.weight.mul_(50)
    network.save_pretrained(folder)
    processor = transformers.Blip2Processor(
        transformers.BlipImageProcessor(size={"height": 32, "width": 32}), words, num_query_tokens=4
    )
    processor.save_pretrained(folder)
    return folder


def coca(folder: Path, *, seed: int = 1) -> Path:
    """Save a small CoCa as open_clip does, with the vocabulary of the demo's CLIP."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    demo = json.loads((DEMO_MODEL / "open_clip_config.json").read_text())
    text = demo["model_cfg"]["text_cfg"]
    config = {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 32,
            "layers": 1,
            "width": 32,
            "patch_size": 16,
            "head_width": 16,
            "attentional_pool": True,
            "attn_pooler_heads": 2,
            "attn_pooler_queries": 4,
            "output_tokens": True,
        },
        "text_cfg": {
            "context_length": 24,
            "vocab_size": text["vocab_size"],
            "layers": 1,
            "width": 32,
            "heads": 2,
            "embed_cls": True,
            "output_tokens": True,
        },
        "multimodal_cfg": {
            "context_length": 24,
            "vocab_size": text["vocab_size"],
            "width": 32,
            "heads": 2,
            "layers": 1,
            "attn_pooler_heads": 2,
        },
        "custom_text": True,
    }
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": demo.get("preprocess_cfg", {})})
    )
    shutil.copy(DEMO_MODEL / "bpe.txt.gz", folder)
    torch.manual_seed(seed)
    network = open_clip.CoCa(**{name: value for name, value in config.items() if name != "custom_text"})
    # open_clip leaves these as they were allocated.
    torch.nn.init.normal_(network.text_decoder.text_projection)
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def t5(folder: Path, *, seed: int = 1) -> Path:
    """Save a small T5 that rewrites any text into something else."""
    import torch
    import transformers

    words = tokenizer(folder)
    torch.manual_seed(seed)
    config = transformers.T5Config(
        vocab_size=len(words),
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        pad_token_id=words.pad_token_id,
        eos_token_id=words.sep_token_id,
        decoder_start_token_id=words.pad_token_id,
    )
    network = transformers.T5ForConditionalGeneration(config)
    with torch.no_grad():
        # Else it would write nothing but special tokens.
        network.shared.weight[: len(_SPECIAL)] = 0
    network.save_pretrained(folder)
    return folder
