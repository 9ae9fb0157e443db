"""Queries to a ranking of a whole corpus, by two towers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from lossmith.core.metric import Metric
from lossmith.core.module import Objective
from lossmith.core.spec import Inputs
from lossmith.data.embedded import embedded
from lossmith.data.queries import RetrievalData, split_retrieval
from lossmith.data.query_files import read_retrieval
from lossmith.metrics.retrieval import search_metrics
from lossmith.tasks.encoder import encode
from lossmith.tasks.hf import hf_tokens, is_hf
from lossmith.tasks.reader import Reader
from lossmith.tasks.relevant import Batch, Judged
from lossmith.tasks.retrieval_feeds import FEEDS
from lossmith.tasks.seen import row_bytes
from lossmith.tasks.settings import COMMON, ModelSetting, Setting
from lossmith.tasks.task import Description, Learner, Problem, Share, Task, describe_split
from lossmith.tasks.text import (
    ENCODER_SETTINGS,
    HF_PRESET,
    TEXT_PRESETS,
    Encoding,
    encode_texts,
    encoding_of,
    split_of,
)
from lossmith.tasks.text_encoder import PretrainedTextEncoder, TextEncoder
from lossmith.tasks.towers import TwoTowers, build_towers, rarity_of

SCORES_AT_ONCE = 1 << 24  # of queries x documents: 64 MB


class RetrievalProblem(Problem):
    """A corpus and queries in token ids, and who is relevant to whom."""

    def __init__(
        self,
        data: RetrievalData,
        documents: Tensor,
        queries: Mapping[str, Tensor],
        vocabulary: int,
        description: Description,
        encoder: TextEncoder | None = None,  # None: the ids were made otherwise, as in tests
    ) -> None:
        self.data, self.description, self.encoder = data, description, encoder
        self.rarity = rarity_of(documents.clamp(min=0), vocabulary)  # a pretrained one pads by -1
        self.documents, self.queries = documents, queries
        self.judged = {part: Judged(own, len(documents)) for part, own in data.parts.items()}

    def model(self, settings: Mapping[str, Any]) -> nn.Module:
        """Two towers."""
        return build_towers(settings, self.rarity)

    def batches(self, settings: Mapping[str, Any], seed: int, epoch: int) -> Iterable[Batch]:
        """Pairs of a query and a relevant document."""
        judged = self.judged["train"]
        return judged.batches(self.queries["train"], self.documents, settings, seed, epoch)

    def cost(self, model: nn.Module, batch: Batch, objective: Objective, feed: Inputs) -> Tensor:
        """The objective on one batch."""
        assert isinstance(model, TwoTowers)
        return FEEDS[feed](model, batch, objective)

    def inputs_of(self, part: str) -> Iterable[bytes]:
        """The token ids of each query."""
        return row_bytes(self.queries[part])

    @property
    def examples(self) -> int:
        """The pairs of a query and a document that is relevant to it."""
        return len(self.judged["train"].pairs[0])

    def apart(self, model: nn.Module, share: Share) -> nn.Module:
        """Towers of whose texts each process encodes some; the vectors are compared in all."""
        return cast(TwoTowers, model).apart(share)

    def reader(self) -> Reader:
        """The tokenizer and the corpus."""
        from lossmith.tasks.retrieval_reader import RetrievalReader

        assert self.encoder is not None
        width = next(iter(self.queries.values())).shape[1]
        return RetrievalReader(self.encoder, width, self.data.documents, self.data.names)

    @torch.no_grad()
    def evaluate(self, model: Any, part: str, metrics: Sequence[Metric]) -> dict[str, float]:
        """Each metric over the documents of every part, mean over queries."""
        score = self._scorer(model, part)
        values: dict[str, list[Tensor]] = {metric.name: [] for metric in metrics}
        rows = max(1, SCORES_AT_ONCE // len(self.documents))
        for some in torch.split(torch.arange(len(self.queries[part])), rows):
            relevant = self.judged[part].relevant(some)
            for name, value in search_metrics(score(some), *relevant, metrics).items():
                values[name].append(value)
        return {name: float(torch.cat(found).nanmean()) for name, found in values.items()}

    def _scorer(self, model: Any, part: str) -> Callable[[Tensor], Tensor]:
        """From places of queries to their scores of the whole corpus."""
        if isinstance(model, TwoTowers):
            ids, index = self.queries[part], model.index(self.documents)
            return lambda queries: model.scores(ids[queries], index)
        texts = self.data.parts[part].texts
        return lambda queries: cast(Tensor, model.scores([texts[i] for i in queries.tolist()]))


_SIZES = {
    "dimension": 256,
    "size": 256,
    "vocabulary": 20000,
    "length": 256,
    "keep": "first",
    "learning_rate": 1e-3,
}
RETRIEVAL_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "bag": {**TEXT_PRESETS["bag"], **_SIZES},
    "cnn": {**TEXT_PRESETS["cnn"], **_SIZES, "batch_size": 128},
}
# The vectors of a pretrained encoder are compared as they are, from the first step on.
HF_VECTORS: Mapping[str, Any] = {**HF_PRESET, "size": None, "dropout": 0.0}
RETRIEVAL_SETTINGS: Mapping[str, Setting] = {
    "query": Setting(str, "", "name of the query column; empty: guessed"),
    "positive": Setting(str, "", "name of the column of relevant documents; empty: guessed"),
    "negative": Setting(str, "", "names of columns of other documents; empty: guessed"),
    "label": Setting(str, "", "name of the column of grades; empty: guessed"),
    **ENCODER_SETTINGS,
    "size": Setting(int, None, "size of the vectors; empty: a pretrained encoder's own", low=1),
    "towers": Setting(
        str,
        "shared",
        "one encoder for queries and documents, or one for each",
        choices=("shared", "separate"),
    ),
    "negatives": Setting(
        int, 4, "documents of other pairs drawn for each pair, for the losses that take them", low=1
    ),
    "hard_negatives": Setting(
        int, 1, "of a query's own negatives, where the data has some, how many a step reads", low=0
    ),
    "scale": Setting(
        float, 20.0, "what multiplies the cosines, for the losses of scores", low=1e-6
    ),
}


class RetrievalTask(Task):
    """Queries to a ranking of a whole corpus."""

    family = "retrieval"
    default_losses = ("triplet", "sigmoid_contrastive", "info_nce")
    metric_names = ("ndcg@10", "mrr@10", "recall@10", "recall@100", "map")
    peers = ("bm25",)
    presets = RETRIEVAL_PRESETS
    settings = {
        "model": ModelSetting(
            str,
            "bag",
            "the encoder of the two towers",
            choices=tuple(RETRIEVAL_PRESETS),
            encoder=HF_VECTORS,
        ),
        **COMMON,
        **RETRIEVAL_SETTINGS,
    }
    feeds = {
        "queries+positives": "objective(queries, positives)  # both [B, d]; see also ignore_pairs=",
        "embeddings+labels": "objective(embeddings, labels)  # [2 B, d], [2 B]: a label a pair",
        "two views": "objective(queries, positives)  # both [B, d]",
        "triplet": "objective(query, positive, negative)  # all [B, d]",
        "pair+same": "objective(query, document, relevant)  # [B, d], [B, d], [B] of 0 and 1",
        "positive+negative": "objective(positive, negative)  # both [B], scaled cosines",
        "scores+relevance": "objective(scores, relevance)  # [B, B], scaled cosines in the batch",
    }

    def check(self, loss: str, settings: Mapping[str, Any]) -> None:
        """Raise unless the loss reads, has these knobs, and fits this task, or is BM25."""
        if self.is_peer(loss):
            from lossmith.tasks.bm25 import read_knobs

            read_knobs(loss)
        else:
            super().check(loss, settings)

    def problem(self, data: str, settings: Mapping[str, Any]) -> RetrievalProblem:
        """The data in tensors."""
        return _load(
            data,
            tuple(settings[role] or None for role in ("query", "positive", "negative", "label")),
            split_of(settings),
            encoding_of(settings),
        )

    def restore(self, files: Mapping[str, bytes]) -> Reader:
        """The tokenizer and the corpus."""
        from lossmith.tasks.retrieval_reader import RetrievalReader

        return RetrievalReader.restore(files)

    def learner(
        self, problem: Problem, loss: str, settings: Mapping[str, Any], seed: int
    ) -> Learner:
        """Our model under an objective, or BM25 as the anchor."""
        if self.is_peer(loss):
            from lossmith.tasks.bm25 import BM25Learner

            assert isinstance(problem, RetrievalProblem)
            return BM25Learner(problem, loss)
        return super().learner(problem, loss, settings, seed)

    def usage(self, loss: str) -> str:
        """The lines of PyTorch that use this loss outside the tool."""
        if self.is_peer(loss):
            return f"# {loss} has no objective: it counts the words that texts share."
        return super().usage(loss)


@lru_cache(maxsize=2)
def _load(
    data: str,
    roles: tuple[str | None, ...],
    split: tuple[float, float, int],
    encoding: Encoding,
) -> RetrievalProblem:
    test, valid, seed = split
    if data == "embedded":
        found = embedded("retrieval")
        assert isinstance(found, RetrievalData)
        source = found
    else:
        query, positive, negative, label = roles
        source = read_retrieval(
            data, query=query, positive=positive, negative=negative, label=label
        )
    return retrieval_problem(
        source, split_retrieval(source, test=test, valid=valid, seed=seed), seed, encoding
    )


def retrieval_problem(
    source: RetrievalData, whole: RetrievalData, seed: int, encoding: Encoding
) -> RetrievalProblem:
    """The texts encoded by a tokenizer that the training queries and the corpus teach."""
    length, keep = encoding[2:]
    parts = whole.parts
    asked = [text for part in parts.values() for text in part.texts]
    documents, encoder = _encoded(whole.documents, asked[: len(parts["train"])], encoding)
    pairs = sum(part.relevant for part in parts.values())
    note = f"{len(whole.documents):,} documents are ranked for each query."
    description = Description(
        name=whole.name,
        rows={name: len(part) for name, part in parts.items()},
        notes=(*whole.notes, note),
        fingerprint=whole.fingerprint,
        split=describe_split(source.parts, parts, seed),
        facts={
            "documents": len(whole.documents),
            "pairs": pairs,
            "vocabulary": encoder.vocabulary,
        },
    )
    # All at once, so that a query has the same padding in whichever part it stands.
    if is_hf(encoding[0]):
        queries = hf_tokens(encoding[0], asked, length, keep=keep)
    else:
        queries = encode(encoder.tokenizer, as_read(asked, encoder), length, keep)
    return RetrievalProblem(
        whole,
        documents,
        dict(zip(parts, torch.split(queries, [len(p) for p in parts.values()]), strict=True)),
        encoder.vocabulary,
        description,
        encoder,
    )


def _encoded(
    documents: Sequence[str], asked: Sequence[str], encoding: Encoding
) -> tuple[Tensor, TextEncoder]:
    """The corpus in token ids; what is searched is known before any query of the test is."""
    if is_hf(encoding[0]):
        return encode_texts([], documents, encoding)
    corpus, queries = ([plain(text) for text in texts] for texts in (documents, asked))
    return encode_texts([*queries, *corpus], corpus, encoding)


def as_read(texts: Sequence[str], encoder: TextEncoder) -> list[str]:
    """Texts as the towers read them: a pretrained tokenizer has its own way with words."""
    pretrained = isinstance(encoder, PretrainedTextEncoder)
    return list(texts) if pretrained else [plain(text) for text in texts]


def plain(text: str) -> str:
    """The text as both towers read it: lower case, and an identifier is its words.

    >>> plain("Call set_value")
    'call set value'
    """
    return text.lower().replace("_", " ")


TASK = RetrievalTask()
