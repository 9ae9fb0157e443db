"""A local pretrained encoder as a text model: ``--model hf:FOLDER``. Nothing is ever downloaded.

FOLDER is what Hugging Face's ``save_pretrained`` leaves (config.json, weights, tokenizer), or a
sentence-transformers folder, whose own pooling is then the default. Of an encoder-decoder (T5,
BART, Marian) the encoder is taken. The seam for other tasks is :func:`hf_tokens` and
:class:`Encoder`: texts to token ids, token ids to one vector each, or to one for each token.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.core.own import HF
from lossmith.tasks.settings import Setting

PADDING = -1  # beside every vocabulary, so that no token can be mistaken for it
POOLINGS = ("auto", "mean", "cls")
HF_SETTINGS: Mapping[str, Setting] = {
    "freeze": Setting(
        str, "no", "whether a pretrained encoder stays as it is", choices=("no", "yes")
    ),
    "pooling": Setting(
        str,
        "auto",
        "one vector of an encoder's many; auto: as its folder says, else the mean",
        choices=POOLINGS,
    ),
    "encoder_learning_rate": Setting(
        float, None, "step size of a pretrained encoder; empty: learning_rate", low=0.0
    ),
}


def parameter_groups(model: nn.Module, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an optimizer steps through: a pretrained encoder may go on at a pace of its own."""
    rate = settings.get("encoder_learning_rate")
    encoders = [part for part in model.modules() if isinstance(part, Encoder)]
    slow = [] if rate is None else [p for part in encoders for p in part.parameters()]
    known = {id(parameter) for parameter in slow}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in known]
    return [{"params": rest}, *([{"params": slow, "lr": rate}] if slow else [])]


@dataclass(frozen=True)
class Folder:
    """What lies in an encoder's folder."""

    transformer: Path
    pooling: str
    normalize: bool
    longest: int | None  # tokens, where the folder says it


def is_hf(model: object) -> bool:
    """Whether a model is named as a pretrained encoder.

    >>> is_hf("hf:models/tiny"), is_hf("bag")
    (True, False)
    """
    return str(model).startswith(HF)


@lru_cache(maxsize=8)
def read_folder(model: str) -> Folder:
    """Find the parts of an encoder's folder; a ValueError says what is missing."""
    path = Path(model.removeprefix(HF)).expanduser()
    if not path.is_dir():
        raise ValueError(
            f"model={model}: there is no folder {str(path)!r}. Expected a local folder with "
            "config.json, weights and tokenizer; a name on a hub is not looked up."
        )
    pooling, normalize, sentence, transformer = "mean", False, None, path
    if (path / "modules.json").is_file():
        for module in json.loads((path / "modules.json").read_text("utf-8")):
            kind, where = str(module["type"]).rpartition(".")[2], path / str(module["path"])
            if kind == "Transformer":
                transformer = where
                sentence = _number(where / "sentence_bert_config.json", "max_seq_length")
            elif kind == "Pooling":
                pooling = _pooling(model, where / "config.json")
            elif kind == "Normalize":
                normalize = True
            else:
                raise ValueError(
                    f"model={model}: its module {kind} is not supported; expected Transformer, "
                    "Pooling and Normalize."
                )
    if not (transformer / "config.json").is_file():
        raise ValueError(
            f"model={model}: {transformer} holds no config.json. Expected what "
            "model.save_pretrained and tokenizer.save_pretrained leave in one folder."
        )
    places = _number(transformer / "config.json", "max_position_embeddings")
    limits = [limit for limit in (sentence, places) if limit is not None]
    return Folder(transformer, pooling, normalize, min(limits, default=None))


def _number(path: Path, name: str) -> int | None:
    """What a file of settings says under a name, where it says a number above 0."""
    found = json.loads(path.read_text("utf-8")).get(name) if path.is_file() else None
    return found if isinstance(found, int) and found > 0 else None


def _pooling(model: str, path: Path) -> str:
    values = json.loads(path.read_text("utf-8"))
    named = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
    chosen = [name for key, name in named.items() if values.get(key)]
    others = [key for key, on in values.items() if key.startswith("pooling_mode") and on is True]
    if values.get("pooling_mode") in ("cls", "mean"):
        return str(values["pooling_mode"])
    if len(chosen) != 1 or len(others) != 1:
        raise ValueError(
            f"model={model}: {path} asks for {', '.join(others) or 'no pooling'}; expected the "
            "mean or the cls token alone. Say which with --set pooling=mean."
        )
    return chosen[0]


def transformers() -> Any:
    """The package, quiet and off line; a ValueError says how to install it."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        package: Any = importlib.import_module("transformers")
    except ModuleNotFoundError:
        raise ValueError(
            'a model hf:FOLDER needs transformers. Install it with: pip install "lossmith[hf]"'
        ) from None
    package.utils.logging.set_verbosity_error()
    package.utils.logging.disable_progress_bar()
    return package


@lru_cache(maxsize=2)
def _tokenizer(model: str) -> Any:
    folder = read_folder(model).transformer
    try:
        found = transformers().AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ValueError(
            f"model={model}: its tokenizer cannot be read ({_reason(error)})."
        ) from error
    # Of a folder without these an empty one is made, to which every word is unknown.
    names = found.vocab_files_names.values()
    if names and not any((folder / name).is_file() for name in names):
        raise ValueError(
            f"model={model}: {folder} holds no tokenizer ({' or '.join(sorted(names))}). Expected "
            "what tokenizer.save_pretrained leaves beside the weights."
        )
    return found


def _reason(error: Exception) -> str:
    """The first line of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def hf_tokens(model: str, texts: Sequence[str], length: int, *, keep: str = "first") -> Tensor:
    """Token ids ``[N, L]`` of the texts, the special tokens included; padding is -1.

    A text longer than ``length``, or than the encoder's folder allows, loses its end, or with
    ``keep="last"`` its beginning.
    """
    tokenizer, longest = _tokenizer(model), read_folder(model).longest
    tokenizer.truncation_side = "right" if keep == "first" else "left"
    most = min(length, longest or length, int(tokenizer.model_max_length))
    rows = tokenizer(list(texts), truncation=True, max_length=most)["input_ids"]
    ids = torch.full((len(rows), max(map(len, rows), default=1) or 1), PADDING, dtype=torch.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.int32)
    return ids


def hf_vocabulary(model: str) -> int:
    """How many tokens the encoder knows."""
    return len(_tokenizer(model))


class Encoder(nn.Module):
    """Token ids to one vector each: a pretrained Transformer and its pooling.

    Of an encoder-decoder it is the encoder; its decoder is left behind.
    """

    def __init__(self, model: str, *, pooling: str = "auto", freeze: bool = False) -> None:
        super().__init__()
        folder = read_folder(model)
        try:
            loaded = transformers().AutoModel.from_pretrained(
                str(folder.transformer), local_files_only=True
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ValueError(
                f"model={model}: its weights cannot be read ({_reason(error)})."
            ) from error
        if loaded.config.is_encoder_decoder:
            loaded = loaded.get_encoder()
        self.transformer: nn.Module = loaded.float()
        self.pooling = folder.pooling if pooling == "auto" else pooling
        self.normalize, self.frozen = folder.normalize, freeze
        self.dimension = int(loaded.config.hidden_size)
        if freeze:
            self.transformer.requires_grad_(False)

    def train(self, mode: bool = True) -> Encoder:
        """A frozen encoder has no dropout: its vectors are always the same."""
        super().train(mode)
        if self.frozen:
            self.transformer.eval()
        return self

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors ``[N, dimension]`` of token ids ``[N, L]``; padding is -1."""
        if not len(ids):
            return torch.zeros(0, self.dimension, device=ids.device)
        ids = ids[:, : max(int((ids != PADDING).sum(dim=1).max()), 1)]  # padding stands behind
        hidden, real = self.hidden(ids), ids != PADDING
        if self.pooling == "cls":
            vector = hidden[:, 0]
        else:
            kept = real.unsqueeze(-1).to(hidden.dtype)
            vector = (hidden * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1)
        return F.normalize(vector, dim=-1) if self.normalize else vector

    def hidden(self, ids: Tensor) -> Tensor:
        """A vector for each token, ``[N, L, dimension]``; those of padding mean nothing."""
        real = ids != PADDING
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            hidden: Tensor = self.transformer(
                input_ids=ids.clamp(min=0).long(), attention_mask=real.long()
            ).last_hidden_state
        return hidden

    @torch.no_grad()
    def looks_back_alone(self) -> bool:
        """Whether no token's vector depends on those behind it, as in a decoder (GPT)."""
        config: Any = self.transformer.config
        last = int(config.vocab_size) - 1
        ids = torch.tensor([[last, last - 1, last], [last, last - 1, last - 1]])
        was = self.training
        one, two = self.eval().hidden(ids)[:, :2]
        self.train(was)
        return torch.allclose(one, two, rtol=0.0, atol=1e-7)


class EncoderHead(nn.Module):
    """A pretrained encoder and one linear layer."""

    def __init__(self, encoder: Encoder, outputs: int, dropout: float) -> None:
        super().__init__()
        self.encoder, self.dropout = encoder, nn.Dropout(dropout)
        self.linear = nn.Linear(encoder.dimension, outputs)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits ``[N, outputs]`` of token ids ``[N, L]``."""
        logits: Tensor = self.linear(self.dropout(self.encoder(ids)))
        return logits


class EncoderVector(nn.Module):
    """A pretrained encoder's own vector, in ``size`` directions where that is another number.

    The projection is orthogonal at first: it turns the vectors, and what was near stays near. A
    frozen encoder always has one, so that there is something to train.
    """

    def __init__(self, encoder: Encoder, size: int | None, dropout: float) -> None:
        super().__init__()
        self.encoder, self.dropout = encoder, nn.Dropout(dropout)
        size = encoder.dimension if size is None else size
        self.projection: nn.Linear | None = None
        if encoder.frozen or size != encoder.dimension:
            self.projection = nn.Linear(encoder.dimension, size, bias=False)
            nn.init.orthogonal_(self.projection.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors ``[N, size]`` of token ids ``[N, L]``."""
        vectors: Tensor = self.dropout(self.encoder(ids))
        return vectors if self.projection is None else self.projection(vectors)


def hf_vectors(settings: Mapping[str, Any], size: int | None) -> nn.Module:
    """The encoder that ``settings`` ask for, with vectors of ``size``; None: of its own size."""
    return EncoderVector(hf_encoder(settings), size, settings["dropout"])


def hf_model(settings: Mapping[str, Any], outputs: int) -> nn.Module:
    """The model that ``settings`` ask for: ``model=hf:FOLDER``, ``freeze`` and ``pooling``."""
    return EncoderHead(hf_encoder(settings), outputs, settings["dropout"])


def hf_encoder(settings: Mapping[str, Any]) -> Encoder:
    """The encoder alone, for a task that has a head of its own, or none."""
    return Encoder(
        settings["model"], pooling=settings["pooling"], freeze=settings["freeze"] == "yes"
    )
