"""Check the losses of other libraries, and write docs/results/check-peers.

``pip install pytorch-metric-learning==2.9.0 sentence-transformers==6.2.0`` and ``pip install
--no-deps recbole==1.2.1``, then ``python tools/check_peers.py``. A library that is not installed
keeps the results that are there, and so do the losses that ``--only TEXT`` leaves out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.check import check_loss
from lossmith.check.report import Report

OUT = Path(__file__).resolve().parent.parent / "docs" / "results" / "check-peers"
SIZE = 8  # of the embeddings that a check makes
CLASSES = 8


@dataclass(frozen=True)
class Case:
    """One loss of a peer, and what it is called with."""

    name: str
    make: Callable[[], Any]
    inputs: str


class OnEmbeddings(nn.Module):
    """A sentence-transformers loss, called with embeddings in place of sentences."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def __repr__(self) -> str:
        return type(self.loss).__name__

    def cost(self, columns: list[Tensor], labels: Tensor) -> Tensor:
        """What the loss makes of the embeddings, without the sentences."""
        value: Tensor = self.loss.compute_loss_from_embeddings(columns, labels)  # type: ignore[operator]
        return value


class Pairs(OnEmbeddings):
    """Two embeddings of each pair, and whether they belong together."""

    def forward(self, x1: Tensor, x2: Tensor, same: Tensor) -> Tensor:
        """The loss of the pairs."""
        return self.cost([x1, x2], same)


class Triplets(OnEmbeddings):
    """Anchors, positives and negatives."""

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """The loss of the triplets."""
        return self.cost([anchor, positive, negative], torch.empty(0))


class InBatch(OnEmbeddings):
    """Queries and their positives."""

    def forward(self, queries: Tensor, positives: Tensor) -> Tensor:
        """The loss of the batch."""
        return self.cost([queries, positives], torch.empty(0))


class Labelled(OnEmbeddings):
    """Embeddings with a class each."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of the batch."""
        return self.cost([embeddings], labels)


class ScoresForModel(nn.Module):
    """Stands for a cross-encoder: its documents are places in a table of scores."""

    num_labels = 1
    scores: Tensor

    @property
    def device(self) -> torch.device:
        """Where the scores are."""
        return self.scores.device

    def preprocess(self, pairs: list[tuple[Any, int]], **more: Any) -> dict[str, Tensor]:
        """The places of the documents."""
        return {"places": torch.tensor([document for _, document in pairs], dtype=torch.long)}

    def forward(self, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
        """Their scores."""
        return {"scores": self.scores[tokens["places"]]}


class Lists(nn.Module):
    """A listwise loss of the cross-encoder, called with scores in place of texts."""

    def __init__(self, name: str, **knobs: Any) -> None:
        super().__init__()
        losses = importlib.import_module("sentence_transformers.cross_encoder.losses")
        # All pairs to the model at once: its mini-batches are no affair of the loss.
        self.loss = getattr(losses, name)(ScoresForModel(), mini_batch_size=-1, **knobs)

    def __repr__(self) -> str:
        return type(self.loss).__name__

    def forward(self, scores: Tensor, relevance: Tensor) -> Tensor:
        """The loss of the lists."""
        self.loss.model.scores = scores.flatten()
        places = torch.arange(scores.numel()).view(scores.shape).tolist()
        try:
            value: Tensor = self.loss([list(range(len(scores))), places], list(relevance))
        finally:
            del self.loss.model.scores  # nothing is kept from call to call
        return value


def metric_learning() -> Iterator[Case]:
    """Its best known losses of embeddings and labels, with their defaults."""
    losses = importlib.import_module("pytorch_metric_learning.losses")
    plain = (
        "Contrastive TripletMargin NTXent SupCon MultiSimilarity Circle LiftedStructure "
        "TupletMargin NPairs RankedList Angular FastAP NCA Margin SignalToNoiseRatioContrastive "
        "GeneralizedLiftedStructure IntraPairVariance PNP DynamicSoftMargin Instance Histogram"
    )
    knobs: dict[str, dict[str, Any]] = {"RankedList": {"margin": 0.4, "Tn": 10}}
    for word in plain.split():
        make = getattr(losses, f"{word}Loss")
        yield Case(make.__name__, _bound(make, knobs.get(word, {})), "embeddings+labels")
    with_classes = (
        "ArcFace CosFace SubCenterArcFace SphereFace LargeMarginSoftmax NormalizedSoftmax "
        "ProxyNCA ProxyAnchor SoftTriple"
    )
    for word in with_classes.split():
        make = getattr(losses, f"{word}Loss")
        size = {"num_classes": CLASSES, "embedding_size": SIZE}
        yield Case(make.__name__, _bound(make, size), "embeddings+labels")


def sentence_transformers() -> Iterator[Case]:
    """The losses of the bi-encoder on embeddings, and of the cross-encoder on scores."""
    losses = importlib.import_module("sentence_transformers.sentence_transformer.losses")
    kinds: dict[str, tuple[type[OnEmbeddings], str, str]] = {
        "pair+same": (Pairs, "Contrastive OnlineContrastive CoSENT AnglE CosineSimilarity", "Loss"),
        "triplet": (Triplets, "Triplet", "Loss"),
        "queries+positives": (
            InBatch,
            "MultipleNegativesRanking MultipleNegativesSymmetricRanking",
            "Loss",
        ),
        "embeddings+labels": (
            Labelled,
            "BatchAll BatchHard BatchHardSoftMargin BatchSemiHard",
            "TripletLoss",
        ),
    }
    for inputs, (adapter, words, end) in kinds.items():
        for word in words.split():
            make = getattr(losses, word + end)
            yield Case(make.__name__, _adapted(adapter, make), inputs)
    ordered = {"respect_input_order": False}
    for name in ("LambdaLoss", "ListNetLoss", "RankNetLoss", "ADRMSELoss"):
        yield Case(f"cross-encoder {name}", _listwise(name, {}), "scores+relevance")
    for name in ("ListMLELoss", "PListMLELoss"):
        yield Case(f"cross-encoder {name}", _listwise(name, ordered), "scores+relevance")


def recbole() -> Iterator[Case]:
    """RecBole's pairwise loss; its others are sums of squared weights."""
    losses = importlib.import_module("recbole.model.loss")
    yield Case("BPRLoss", losses.BPRLoss, "positive+negative")


def _bound(make: Callable[..., Any], knobs: dict[str, Any]) -> Callable[[], Any]:
    return lambda: make(**knobs)


def _adapted(adapter: type[OnEmbeddings], make: Callable[..., Any]) -> Callable[[], Any]:
    return lambda: adapter(make(None))


def _listwise(name: str, knobs: dict[str, Any]) -> Callable[[], Any]:
    return lambda: Lists(name, **knobs)


PEERS: dict[str, Callable[[], Iterator[Case]]] = {
    "pytorch-metric-learning": metric_learning,
    "sentence-transformers": sentence_transformers,
    "recbole": recbole,
}


def check(case: Case) -> Report:
    """The report of one loss, made anew so that no state is left of another check."""
    torch.manual_seed(0)
    return check_loss(case.make(), inputs=case.inputs, seconds=40.0)


def main() -> int:
    """Check what is installed; write the reports and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="renew the losses whose name contains this")
    parser.add_argument("--peer", choices=PEERS, help="this library alone")
    chosen = parser.parse_args()
    only = chosen.only
    sys.modules["check_peers"] = sys.modules[__name__]  # adapters are found again when unpickled
    OUT.mkdir(parents=True, exist_ok=True)
    for peer, cases in PEERS.items():
        if chosen.peer not in (None, peer):
            continue
        try:
            version = importlib.metadata.version(peer)
            todo = [case for case in cases() if only is None or only in case.name]
        except ModuleNotFoundError as error:
            print(f"{peer}: {error}; its results stay as they are")
            continue
        reports: dict[str, Any] = {} if only is None else _kept(peer)
        for case in todo:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                report = check(case)
            reports[case.name] = report.to_dict()
            print(f"{peer} {case.name}: {', '.join(report.broken) or 'nothing broken'}", flush=True)
            # At once, so that a run that is stopped leaves what it has.
            kept = {"peer": peer, "version": version, "torch": torch.__version__.split("+")[0]}
            text = json.dumps({**kept, "reports": reports}, indent=1)
            (OUT / f"{peer}.json").write_text(text + "\n", "utf-8")
    write_tables()
    return 0


def _kept(peer: str) -> dict[str, Any]:
    path = OUT / f"{peer}.json"
    return dict(json.loads(path.read_text("utf-8"))["reports"]) if path.exists() else {}


def write_tables() -> None:
    """The tables of the page, from every report that is there; the words around them are kept."""
    page = OUT / "README.md"
    start, end = "<!-- tables: written by tools/check_peers.py -->", "<!-- end of tables -->"
    before, rest = page.read_text("utf-8").split(start)
    tables = "\n\n".join(table(peer) for peer in PEERS if (OUT / f"{peer}.json").exists())
    page.write_text(f"{before}{start}\n\n{tables}\n\n{end}{rest.split(end)[1]}", "utf-8")


def table(peer: str) -> str:
    """One peer: each loss, and the laws that it breaks."""
    kept = json.loads((OUT / f"{peer}.json").read_text("utf-8"))
    lines = [
        f"### {peer} {kept['version']}",
        "",
        "| loss | called with | laws tested | broken |",
        "| --- | --- | ---: | --- |",
    ]
    for name, values in kept["reports"].items():
        report = Report.from_dict(values)
        tested = sum(finding.status in ("held", "broken") for finding in report.findings)
        broken = ", ".join(f"`{law}`" for law in report.broken) or "none"
        lines.append(f"| `{name}` | {report.inputs} | {tested} | {broken} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
