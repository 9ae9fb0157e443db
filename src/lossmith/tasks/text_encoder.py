"""How a trained model reads texts: its tokenizer, the width of a row, the columns of a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from lossmith.data.unlabelled import read_texts
from lossmith.tasks.encoder import encode
from lossmith.tasks.hf import PADDING, hf_tokens, hf_vocabulary
from lossmith.tasks.place import ask
from lossmith.tasks.reader import Question, Record, from_json, to_json

TOKENIZER, ENCODER = "tokenizer.json", "encoder.json"


@dataclass(frozen=True)
class TextEncoder:
    """Texts to token ids just as in training, the padding included."""

    tokenizer: Tokenizer
    width: int
    keep: str

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return int(self.tokenizer.get_vocab_size())

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Token ids ``[N, width]``."""
        return encode(self.tokenizer, texts, self.width, self.keep, full=True)

    def files(self) -> dict[str, bytes]:
        """The tokenizer in Hugging Face's format, and what lies between it and the model."""
        layout = {"width": self.width, "keep": self.keep}
        return {
            TOKENIZER: (json.dumps(json.loads(self.tokenizer.to_str())) + "\n").encode(),
            ENCODER: to_json(layout),
        }

    @staticmethod
    def restore(files: Mapping[str, bytes]) -> TextEncoder:
        """The inverse of :meth:`files`."""
        layout = from_json(files[ENCODER])
        if "model" in layout:
            return PretrainedTextEncoder(**layout)
        return TextEncoder(Tokenizer.from_str(files[TOKENIZER].decode()), **layout)

    def outputs(self, model: nn.Module, question: Question) -> Iterator[Tensor]:
        """What the model says of each text of the source, some rows at a time."""
        model.eval()
        for texts in read_texts(question.source, question.settings["text"] or None):
            with torch.no_grad():
                yield ask(model, model, self.encode(texts))


@dataclass(frozen=True)
class PretrainedTextEncoder(TextEncoder):
    """The same by the tokenizer of a pretrained encoder, which stays in the encoder's folder."""

    tokenizer: None = None  # type: ignore[assignment]  # found by the name of the model
    width: int = 0
    keep: str = "first"
    model: str = ""

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return hf_vocabulary(self.model)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Token ids ``[N, width]``."""
        ids = hf_tokens(self.model, texts, self.width, keep=self.keep)
        return F.pad(ids, (0, self.width - ids.shape[1]), value=PADDING)

    def files(self) -> dict[str, bytes]:
        """Which encoder, and what lies between it and the model."""
        layout = {"model": self.model, "width": self.width, "keep": self.keep}
        return {ENCODER: to_json(layout)}


def numbered(
    outputs: Iterator[Tensor], say: Callable[[Tensor], list[list[Record]]]
) -> Iterator[list[Record]]:
    """The records of each row, led by its number (from 1) and, of several, by the rank."""
    row = 0
    for some in outputs:
        found: list[Record] = []
        for records in say(some):
            row += 1
            for rank, record in enumerate(records, start=1):
                place = {"row": row, "rank": rank} if len(records) > 1 else {"row": row}
                found.append({**place, **record})
        yield found
