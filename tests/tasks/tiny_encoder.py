"""A tiny pretrained encoder with random weights, in the folders that real ones come in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "film", "plot", "fine", "dull"]


def save_encoder(path: Path, *, dropout: float = 0.1) -> Path:
    """What ``save_pretrained`` of a model and of its tokenizer leave; 16 numbers for a text."""
    import transformers

    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=32, hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    return save_model(path, config)


def save_model(path: Path, config: Any) -> Path:
    """The same of a model that another configuration of transformers describes."""
    import transformers
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(
        path
    )
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).save_pretrained(path)
    return path


def as_sentence_transformer(folder: Path, path: Path, *, longest: int = 4) -> Path:
    """A copy with modules.json: the cls token's vector at unit length, ``longest`` tokens."""
    for file in folder.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    types = ["Transformer", "Pooling", "Normalize"]
    modules = [
        {"idx": i, "path": "" if i == 0 else f"{i}_{kind}", "type": f"a.models.{kind}"}
        for i, kind in enumerate(types)
    ]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": longest}))
    (path / "1_Pooling").mkdir()
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return path
