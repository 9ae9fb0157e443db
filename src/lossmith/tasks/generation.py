"""Text to text: translation, summaries, and whether the required keywords are said."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from lossmith.core.metric import Metric
from lossmith.core.module import Objective
from lossmith.core.spec import Inputs
from lossmith.data.embedded import embedded
from lossmith.data.keywords import add_keywords, common_words, read_glossary
from lossmith.data.parallel import ParallelData, limit_words, read_parallel, split_parallel
from lossmith.losses.classification import cross_entropy
from lossmith.metrics.generation import Outputs
from lossmith.tasks.codec import Codec
from lossmith.tasks.corpus_scores import corpus_score, signature
from lossmith.tasks.decoding import beam_search, greedy
from lossmith.tasks.hf import HF_SETTINGS, Encoder, is_hf
from lossmith.tasks.own_model import own_model
from lossmith.tasks.pairs import IGNORED, Batch, EncodedPart, Pretrained, encode_part
from lossmith.tasks.place import moved, place_of
from lossmith.tasks.reader import Reader
from lossmith.tasks.seq2seq import AttentionRNN, Seq2Seq, WholePrefix
from lossmith.tasks.settings import COMMON, ModelSetting, Setting
from lossmith.tasks.task import Description, Problem, Task, describe_split
from lossmith.tasks.transformer import Transformer, check_sizes

ROWS_AT_ONCE = 128  # in evaluation


class GenerationProblem(Problem):
    """Pairs of texts with the keywords that each target has to say."""

    def __init__(
        self,
        codec: Codec,
        parts: Mapping[str, EncodedPart],
        description: Description,
        settings: Mapping[str, Any],
        longest: int | None = None,
    ) -> None:
        self.codec, self.parts, self.description = codec, parts, description
        self.settings = settings
        self.least = 1  # tokens of an output
        if longest is None:
            longest = max(len(target) for target in parts["train"].target)
        self.longest = longest

    def model(self, settings: Mapping[str, Any]) -> nn.Module:
        """A fresh encoder-decoder."""
        return build_seq2seq(settings, len(self.codec))

    def as_if_trained(self) -> GenerationProblem:
        """Every output as long as the mean target; a fresh model often ends at once."""
        targets = self.parts["train"].target
        talkative = copy.copy(self)
        talkative.least = min(round(sum(map(len, targets)) / len(targets)), self._most)
        return talkative

    @property
    def _most(self) -> int:
        """Tokens of an output."""
        return int(self.settings["longest"] or self.longest)

    def inputs_of(self, part: str) -> Iterable[bytes]:
        """The token ids of each source."""
        return (one.numpy().tobytes() for one in self.parts[part].source)

    def reader(self) -> Reader:
        """The tokenizer, the length of the longest target, and the words of the training targets
        that are too common for keywords.
        """
        from lossmith.tasks.generation_reader import GenerationReader

        common = common_words(self.parts["train"].text.targets)
        return GenerationReader(self.codec, self.longest, common)

    def batches(self, settings: Mapping[str, Any], seed: int, epoch: int) -> Iterable[Batch]:
        """Pairs of like length together."""
        return self.parts["train"].shuffled(settings["batch_size"], seed, epoch)

    def cost(self, model: nn.Module, batch: Batch, objective: Objective, feed: Inputs) -> Tensor:
        """The objective on one batch; a term on keywords alone is added to cross-entropy."""
        logits = model(batch.source, batch.given)
        if feed == "logits+class":
            real = batch.target != IGNORED  # as a mask: not every objective ignores an index
            whole: Tensor = objective(logits, torch.where(real, batch.target, 0), mask=real)
            return whole
        divisors = self._divisors(batch, objective)
        if feed == "logits+keywords+marked":
            whole = objective(logits, batch.target, batch.phrases, batch.marked, divisor=divisors)
            return whole
        if feed == "logits+marked":
            over = divisors and divisors[2]
            term: Tensor = objective(logits, batch.target, batch.marked, divisor=over)
        else:
            term = objective(logits, batch.phrases, target=batch.target)
        return cross_entropy(logits, batch.target) + float(self.settings["factor"]) * term

    def _divisors(self, batch: Batch, objective: Objective) -> tuple[int, int, int] | None:
        """What each term of a hybrid divides by, if placement is over all tokens."""
        whole = objective.given.get("reduction", "mean") == "mean"
        if self.settings["placement_over"] == "marked" or not whole:
            return None
        real = (batch.target != IGNORED).sum(dim=1)
        shortest = [min(map(len, phrases), default=math.inf) for phrases in batch.phrases]
        asked = sum(short <= size for short, size in zip(shortest, real.tolist(), strict=True))
        tokens = int(real.sum())
        return tokens, asked, tokens

    @torch.no_grad()
    def evaluate(self, model: Any, part: str, metrics: Sequence[Metric]) -> dict[str, float]:
        """Each metric of what the model says on the whole part, in plain text."""
        model.eval()
        texts = self.parts[part].text
        names = {metric.base for metric in metrics}
        outputs = Outputs(
            self.say(model, part) if names - {"perplexity"} else texts.targets,
            texts.targets,
            texts.keywords,
            token_cost=self._token_cost(model, part) if "perplexity" in names else math.nan,
            corpus_score=corpus_score,
        )
        return {metric.name: float(metric.function(outputs)) for metric in metrics}

    def say(self, model: Seq2Seq, part: str) -> list[str]:
        """What the model makes of every source of a part."""
        encoded = self.parts[part]
        batches = encoded.in_order_of_length(ROWS_AT_ONCE)
        lengths = self.least, self._most
        return say(model, self.codec, encoded.source, batches, self.settings, lengths)

    def _token_cost(self, model: nn.Module, part: str) -> float:
        encoded = self.parts[part]
        total, tokens = 0.0, 0
        for rows in encoded.in_order_of_length(ROWS_AT_ONCE):
            batch = moved(encoded.batch(rows), place_of(model))
            logits = model(batch.source, batch.given).flatten(0, 1)
            target = batch.target.flatten()
            total += float(F.cross_entropy(logits, target, ignore_index=IGNORED, reduction="sum"))
            tokens += int((target != IGNORED).sum())
        return total / tokens


def build_seq2seq(settings: Mapping[str, Any], vocabulary: int) -> Seq2Seq:
    """The model that ``settings["model"]`` names."""
    own = own_model(settings, {"vocabulary": vocabulary})
    if own is not None:
        return own if isinstance(own, Seq2Seq) else WholePrefix.of(own, settings, vocabulary)
    shared = {name: settings[name] for name in ("dimension", "hidden", "dropout")}
    if _is_transformer(settings):
        sizes = {name: settings[name] for name in ("heads", "layers")}
        encoder = pretrained_encoder(settings) if is_hf(settings["model"]) else None
        return Transformer(vocabulary, **sizes, **shared, pretrained=encoder)
    cell = nn.LSTMCell if settings["model"] == "lstm" else nn.GRUCell
    return AttentionRNN(vocabulary, cell=cell, **shared)


def pretrained_encoder(settings: Mapping[str, Any]) -> Encoder:
    """The encoder that ``settings["model"]`` names; a decoder alone (GPT) raises."""
    encoder = Encoder(settings["model"], freeze=settings["freeze"] == "yes")
    if encoder.looks_back_alone():
        kind = type(encoder.transformer).__name__
        raise ValueError(
            f"model={settings['model']}: a {kind} is a decoder, each token of which sees those "
            "before it alone. Expected an encoder (BERT, a sentence-transformers folder) or an "
            "encoder-decoder (T5, BART, Marian), whose encoder is taken."
        )
    return encoder


def _is_transformer(settings: Mapping[str, Any]) -> bool:
    """Whether the decoder is that of the small Transformer, whatever reads the source."""
    return settings["model"] == "transformer" or is_hf(settings["model"])


def say(
    model: Seq2Seq,
    codec: Codec,
    sources: Sequence[Tensor],
    batches: Sequence[Sequence[int]],
    settings: Mapping[str, Any],
    lengths: tuple[int, int],
) -> list[str]:
    """What the model makes of each source; ``batches`` are the rows that are read together.

    An output has at least and at most so many tokens as ``lengths`` say.
    """
    least, most = lengths
    said: dict[int, list[int]] = {}
    for rows in batches:
        source = moved(pad_sequence([sources[i] for i in rows], True, 0), place_of(model))
        if settings["beams"] == 1:
            found = greedy(model, source, most=most, least=least)
        else:
            found = beam_search(
                model,
                source,
                beams=settings["beams"],
                most=most,
                least=least,
                length_penalty=settings["length_penalty"],
            )
        said.update(zip(rows, found, strict=True))
    return codec.decode([said[i] for i in range(len(sources))])


_RNN = {
    "dimension": 128,
    "hidden": 128,
    "dropout": 0.2,
    "epochs": 10,
    "batch_size": 64,
    "learning_rate": 2e-3,
}
_TRANSFORMER = {**_RNN, "hidden": 512, "dropout": 0.1, "learning_rate": 1e-3}
# Before a decoder that starts from nothing a pretrained encoder takes small steps.
_PRETRAINED = {**_TRANSFORMER, "encoder_learning_rate": 5e-5}
GENERATION_SETTINGS: Mapping[str, Setting] = {
    "source": Setting(str, "", "column, or ending of the files, of the source; empty: guessed"),
    "target": Setting(str, "", "column, or ending of the files, of the target; empty: guessed"),
    "test_set": Setting(str, "", "which of several test sets of a folder; empty: the first"),
    "keywords": Setting(str, "", "column with the keywords of each target; empty: guessed"),
    "glossary": Setting(str, "", "file of terms (.po, .csv, ...) whose translation is required"),
    "required": Setting(
        str,
        "in_reference",
        "which keywords are asked for: those that the reference says, or all",
        choices=("in_reference", "listed"),
    ),
    "max_words": Setting(int, 60, "pairs with a longer side are left out", low=1),
    "subset": Setting(int, 0, "training pairs that are used, drawn at random; 0: all", low=0),
    "tokenizer": Setting(str, "subwords", "what a token is", choices=("subwords", "words")),
    "vocabulary": Setting(int, 2000, "tokens known to the model", low=300),
    "dimension": Setting(int, None, "size of a token embedding", low=2),
    "hidden": Setting(int, None, "size of the state, or of a Transformer's hidden layer", low=1),
    "layers": Setting(int, 2, "layers of each side of the Transformer", low=1),
    "heads": Setting(int, 4, "heads of the Transformer's attention", low=1),
    "dropout": Setting(float, None, "dropout", low=0.0, high=0.95),
    "length": Setting(int, 128, "tokens of a source that a pretrained encoder reads", low=1),
    # A decoder looks at every token, so there is nothing to pool.
    **{name: one for name, one in HF_SETTINGS.items() if name != "pooling"},
    "factor": Setting(
        float, 0.5, "weight of keyword_presence or keyword_placement beside cross-entropy", low=0.0
    ),
    "placement_over": Setting(
        str,
        "tokens",
        "what a placement term's mean divides by: all tokens (2024's divisor), or those marked",
        choices=("tokens", "marked"),
    ),
    "beams": Setting(int, 1, "paths of beam search; 1: the likeliest token at each step", low=1),
    "length_penalty": Setting(float, 1.0, "beam search: 0 favours short output", low=0.0),
    "longest": Setting(int, 0, "tokens of an output; 0: those of the longest target", low=0),
}


class GenerationTask(Task):
    """Text to text."""

    family = "generation"
    default_losses = (
        "cross_entropy",
        "keyword_hybrid(presence=0.5, placement=0.0)",
        "keyword_hybrid(presence=0.0, placement=0.25)",
        "keyword_hybrid",
    )
    metric_names = ("keyword_recall", "bleu", "chrf", "all_keywords", "duplicates", "perplexity")
    trade_off = ("bleu", "keyword_recall")
    presets = {
        "gru": _RNN,
        "lstm": _RNN,
        "transformer": _TRANSFORMER,
    }
    settings = {
        "model": ModelSetting(
            str,
            "gru",
            "reference model",
            choices=tuple(presets),
            encoder=_PRETRAINED,
        ),
        **COMMON,
        **GENERATION_SETTINGS,
    }
    feeds = {
        "logits+class": "objective(logits, target, mask=real)  # [B, T, V], [B, T], [B, T]",
        "logits+keywords+marked": (
            "objective(logits, target, keywords, marked, divisor=(tokens, asked, tokens))"
            "  # marked [B, T] bool; keywords: token ids of each row"
        ),
        "logits+marked": (
            "lm.cross_entropy(logits, target) + factor * objective(logits, target, marked, "
            "divisor=tokens)"
        ),
        "logits+keywords": (
            "lm.cross_entropy(logits, target) + factor * objective(logits, keywords, target=target)"
        ),
    }

    def check(self, loss: str, settings: Mapping[str, Any]) -> None:
        """Raise unless the loss fits, and the sizes of the model go together."""
        super().check(loss, settings)
        if _is_transformer(settings):
            check_sizes(settings["dimension"], settings["heads"])

    def restore(self, files: Mapping[str, bytes]) -> Reader:
        """The tokenizer, the longest target's length, and the words too common for keywords."""
        from lossmith.tasks.generation_reader import GenerationReader

        return GenerationReader.restore(files)

    def problem(self, data: str, settings: Mapping[str, Any]) -> GenerationProblem:
        """The data in tensors."""
        codec, parts, description = _load(
            data,
            tuple(settings[name] or None for name in ("source", "target", "keywords", "test_set")),
            (settings["glossary"], settings["required"], settings["max_words"]),
            (settings["test"], settings["valid"], settings["split_seed"], settings["subset"]),
            (settings["tokenizer"], settings["vocabulary"]),
            Pretrained.of(settings),
        )
        return GenerationProblem(codec, parts, description, settings)


@lru_cache(maxsize=2)
def _load(
    data: str,
    roles: tuple[str | None, ...],
    terms: tuple[str, Any, int],
    split: tuple[float, float, int, int],
    encoding: tuple[Any, int],
    pretrained: Pretrained | None,
) -> tuple[Codec, Mapping[str, EncodedPart], Description]:
    source, target, keywords, test_set = roles
    glossary, required, max_words = terms
    test, valid, seed, subset = split
    if data == "embedded":
        given = cast(ParallelData, embedded("generation"))
    else:
        given = read_parallel(
            data, source=source, target=target, keywords=keywords, test_set=test_set
        )
    listed = read_glossary(glossary, source=source, target=target) if glossary else None
    whole = split_parallel(
        limit_words(given, max_words), test=test, valid=valid, seed=seed, subset=subset
    )
    whole = add_keywords(whole, listed, required)
    train = whole.parts["train"]
    # Of sources that others read the tokenizer need not know a word.
    read = train.sources if pretrained is None else ()
    codec = Codec([*read, *train.targets], *encoding)
    description = Description(
        name=whole.name,
        rows={name: len(part) for name, part in whole.parts.items()},
        notes=whole.notes,
        fingerprint=whole.fingerprint,
        split=describe_split(given.parts, whole.parts, seed),
        facts={"vocabulary": len(codec)},
        scorers=(signature("bleu"), signature("chrf")),
    )
    parts = {name: encode_part(codec, part, pretrained) for name, part in whole.parts.items()}
    return codec, parts, description


TASK = GenerationTask()
