"""Text to token ids and back again, through Hugging Face ``tokenizers``; the way back is exact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.decoders import Fuse
from tokenizers.models import BPE, WordLevel
from tokenizers.normalizers import Prepend
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.trainers import BpeTrainer, WordLevelTrainer

from lossmith.tasks.encoder import PAD, UNKNOWN

BEGIN, END = "<s>", "</s>"
SPECIAL = (PAD, UNKNOWN, BEGIN, END)
PAD_ID, UNKNOWN_ID, BEGIN_ID, END_ID = range(len(SPECIAL))
Kind = Literal["words", "subwords"]


class Encoded(NamedTuple):
    """The token ids of a text, and which characters each token covers."""

    ids: list[int]
    places: list[tuple[int, int]]


class Codec:
    """A vocabulary of at most that many tokens, learnt from the training texts alone.

    Source and target share it, so that what is copied is the same token on both sides. A token
    carries the space before it: joined together, the tokens are the text. Whole words outside the
    vocabulary become ``<unk>`` and are lost; subwords (byte-level BPE) lose nothing.

    >>> codec = Codec(["a C++ list, again"], "words", 20)
    >>> codec.decode([codec.encode(["a C++ tuple"])[0].ids])
    ['a C++']
    """

    def __init__(self, texts: Iterable[str], kind: Kind, vocabulary: int) -> None:
        special = list(SPECIAL)
        if kind == "words":
            self.tokenizer = Tokenizer(WordLevel(unk_token=UNKNOWN))
            self.tokenizer.normalizer = Prepend(" ")
            word = Regex(r" ?[\p{L}\p{N}_]+| ?[^\s\p{L}\p{N}_]")
            self.tokenizer.pre_tokenizer = Split(word, behavior="isolated")
            self.tokenizer.decoder = Fuse()
            trainer: WordLevelTrainer | BpeTrainer = WordLevelTrainer(
                vocab_size=vocabulary, special_tokens=special, show_progress=False
            )
        else:
            self.tokenizer = Tokenizer(BPE(unk_token=UNKNOWN))
            self.tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
            self.tokenizer.decoder = ByteLevelDecoder()
            trainer = BpeTrainer(
                vocab_size=vocabulary,
                special_tokens=special,
                initial_alphabet=ByteLevel.alphabet(),
                show_progress=False,
            )
        self.tokenizer.train_from_iterator(texts, trainer)

    @classmethod
    def restore(cls, tokenizer: str) -> Codec:
        """A codec of a tokenizer as JSON, ``codec.tokenizer.to_str()``."""
        made = cls.__new__(cls)
        made.tokenizer = Tokenizer.from_str(tokenizer)
        return made

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """The tokens of each text, without a mark for its beginning or end."""
        return [Encoded(one.ids, one.offsets) for one in self.tokenizer.encode_batch(list(texts))]

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The text of each row of ids; special tokens leave nothing."""
        return [text.strip() for text in self.tokenizer.decode_batch([list(row) for row in rows])]
