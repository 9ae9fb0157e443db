"""Text to token ids, through Hugging Face ``tokenizers``: whole words, or subwords."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE, WordLevel
from tokenizers.normalizers import Lowercase, Replace
from tokenizers.normalizers import Sequence as NormalizerSequence
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.trainers import BpeTrainer, WordLevelTrainer
from torch import Tensor

PAD, UNKNOWN = "<pad>", "<unk>"
Kind = Literal["words", "subwords"]


def train_tokenizer(texts: Iterable[str], kind: Kind, vocabulary: int) -> Tokenizer:
    """Learn a vocabulary of at most that many tokens from the training texts."""
    if kind == "words":
        tokenizer = Tokenizer(WordLevel(unk_token=UNKNOWN))
        # Markup is no word; an apostrophe inside a word is part of it.
        tokenizer.normalizer = NormalizerSequence([Replace(Regex("<[^>]+>"), " "), Lowercase()])
        words = Regex(r"[^\p{L}\p{N}_']+")
        tokenizer.pre_tokenizer = Split(words, behavior="removed")
        trainer: WordLevelTrainer | BpeTrainer = WordLevelTrainer(
            vocab_size=vocabulary, special_tokens=[PAD, UNKNOWN], show_progress=False
        )
    else:
        tokenizer = Tokenizer(BPE(unk_token=UNKNOWN))
        tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
        trainer = BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[PAD, UNKNOWN],
            initial_alphabet=ByteLevel.alphabet(),
            show_progress=False,
        )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(
    tokenizer: Tokenizer, texts: Sequence[str], length: int, keep: str, *, full: bool = False
) -> Tensor:
    """Token ids ``[N, length]`` (0 = padding), keeping the first or the last ``length`` tokens.

    A row is only as wide as the longest text needs, or ``full``. Padding stands before the words
    when the end is kept, after them when the beginning is.
    """
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    width = length if full else max(1, min(length, max(map(len, rows), default=1)))
    ids = np.zeros((len(rows), width), dtype=np.int32)
    for i, row in enumerate(rows):
        if keep == "last":
            row = row[-width:]
            ids[i, width - len(row) :] = row
        else:
            row = row[:width]
            ids[i, : len(row)] = row
    return torch.from_numpy(ids)
