"""Sources for a sequence-to-sequence model that is trained already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from lossmith.data.keywords import add_keywords, read_glossary
from lossmith.data.parallel import limit_words, read_parallel
from lossmith.data.roles import SOURCE
from lossmith.data.unlabelled import read_texts
from lossmith.tasks.codec import Codec
from lossmith.tasks.generation import ROWS_AT_ONCE, GenerationProblem, build_seq2seq, say
from lossmith.tasks.pairs import Pretrained, encode_part, encode_source
from lossmith.tasks.reader import Question, Reader, Record, from_json, to_json
from lossmith.tasks.seq2seq import Seq2Seq
from lossmith.tasks.task import Description

TOKENIZER, LIMITS = "tokenizer.json", "generation.json"


class GenerationReader(Reader):
    """Texts in tokens, the length of an output, and which words are too common for keywords."""

    def __init__(self, codec: Codec, longest: int, common: frozenset[str]) -> None:
        self.codec, self.longest, self.common = codec, longest, common

    def files(self) -> dict[str, bytes]:
        """The tokenizer in Hugging Face's format, and the two others."""
        limits = {"longest": self.longest, "common": sorted(self.common)}
        return {TOKENIZER: self.codec.tokenizer.to_str().encode(), LIMITS: to_json(limits)}

    @classmethod
    def restore(cls, files: Mapping[str, bytes]) -> GenerationReader:
        """The inverse of :meth:`files`."""
        limits = from_json(files[LIMITS])
        codec = Codec.restore(files[TOKENIZER].decode())
        return cls(codec, limits["longest"], frozenset(limits["common"]))

    def model(self, settings: Mapping[str, Any]) -> nn.Module:
        """A model with these tokens."""
        return build_seq2seq(settings, len(self.codec))

    def labelled(self, data: str, settings: Mapping[str, Any]) -> GenerationProblem:
        """Pairs, the test part of a folder or all of a file, with keywords as in training."""
        roles = {
            name: settings[name] or None for name in ("source", "target", "keywords", "test_set")
        }
        given = read_parallel(data, **roles)
        part = given.parts.get("test", given.parts["train"])
        whole = limit_words(replace(given, parts={"test": part}), settings["max_words"])
        glossary = settings["glossary"]
        listed = (
            read_glossary(glossary, source=roles["source"], target=roles["target"])
            if glossary
            else None
        )
        whole = add_keywords(whole, listed, settings["required"], self.common)
        rows = {"test": len(whole.parts["test"])}
        description = Description(whole.name, rows, whole.notes, whole.fingerprint, "as given")
        parts = {"test": encode_part(self.codec, whole.parts["test"], Pretrained.of(settings))}
        return GenerationProblem(self.codec, parts, description, settings, self.longest)

    def answers(self, model: nn.Module, question: Question) -> Iterator[list[Record]]:
        """The text for each source."""
        assert isinstance(model, Seq2Seq)
        model.eval()
        row = 0
        for texts in read_texts(question.source, question.settings["source"] or None, SOURCE):
            plain = [" ".join(text.split()) for text in texts]
            sources = encode_source(self.codec, plain, Pretrained.of(question.settings))
            order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
            batches = [order[i : i + ROWS_AT_ONCE] for i in range(0, len(order), ROWS_AT_ONCE)]
            lengths = 1, int(question.settings["longest"] or self.longest)
            said = say(model, self.codec, sources, batches, question.settings, lengths)
            yield [{"row": row + i, "text": text} for i, text in enumerate(said, start=1)]
            row += len(said)
