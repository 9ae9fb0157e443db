"""The reference models of generation, and decoding with them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from lossmith.tasks.codec import BEGIN_ID, END_ID, PAD_ID, SPECIAL
from lossmith.tasks.decoding import NEVER, beam_search, greedy
from lossmith.tasks.seq2seq import AttentionRNN, Seq2Seq
from lossmith.tasks.transformer import Transformer

VOCABULARY = 12
MODELS = ("gru", "lstm", "transformer")


def made(kind: str, seed: int = 0) -> Seq2Seq:
    torch.manual_seed(seed)
    if kind == "transformer":
        model: Seq2Seq = Transformer(
            VOCABULARY, dimension=8, heads=2, layers=2, hidden=16, dropout=0.3
        )
    else:
        cell = nn.GRUCell if kind == "gru" else nn.LSTMCell
        model = AttentionRNN(VOCABULARY, cell=cell, dimension=8, hidden=6, dropout=0.3)
    return model.double().eval()


def sources(rows: int = 5, seed: int = 1) -> torch.Tensor:
    """Rows of unequal length, padding behind."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(len(SPECIAL), VOCABULARY, (rows, 7), generator=generator)
    length = torch.randint(1, 8, (rows, 1), generator=generator)
    length[0] = 7
    return torch.where(torch.arange(7) < length, ids, PAD_ID)


def targets(rows: int = 5, length: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(len(SPECIAL), VOCABULARY, (rows, length), generator=generator)
    ids[:, 0] = BEGIN_ID
    return ids


@pytest.mark.parametrize("kind", MODELS)
def test_logits_have_a_row_for_each_given_token(kind):
    model = made(kind)
    assert model(sources(), targets()).shape == (5, 6, VOCABULARY)
    logits, state = model.step(
        targets()[:, 0], model.encode(sources()), model.start(model.encode(sources()))
    )
    assert logits.shape == (5, VOCABULARY) and all(len(one) == 5 for one in state)


@pytest.mark.parametrize("kind", MODELS)
def test_a_row_does_not_feel_the_padding_of_its_batch(kind):
    model, source, given = made(kind), sources(), targets()
    whole = model(source, given)
    for row in range(len(source)):
        own = source[row : row + 1, : int((source[row] != PAD_ID).sum())]
        torch.testing.assert_close(model(own, given[row : row + 1])[0], whole[row])
    wider = torch.nn.functional.pad(source, (0, 4))
    torch.testing.assert_close(model(wider, given), whole)


@pytest.mark.parametrize("kind", MODELS)
def test_no_place_sees_what_comes_after_it(kind):
    model, source, given = made(kind), sources(), targets()
    other = given.clone()
    other[:, 4:] = END_ID
    torch.testing.assert_close(model(source, given)[:, :4], model(source, other)[:, :4])
    assert not torch.equal(model(source, given)[:, 4:], model(source, other)[:, 4:])


@pytest.mark.parametrize("kind", MODELS)
def test_steps_with_a_cache_are_the_whole_pass(kind):
    model, source, given = made(kind), sources(), targets()
    memory = model.encode(source)
    state, steps = model.start(memory), []
    for token in given.unbind(dim=1):
        logits, state = model.step(token, memory, state)
        steps.append(logits)
    torch.testing.assert_close(torch.stack(steps, dim=1), model(source, given))


def test_attention_is_additive_and_reads_both_directions():
    """One step by hand, from the parameters, for one row without padding."""
    model = made("gru")
    assert isinstance(model, AttentionRNN)
    source = sources()[:1]
    values, keys, real, first = model.encode(source)
    words = model.embedding(source)
    there, _ = model.reader(words)
    back, _ = model.back_reader(words.flip(1))
    torch.testing.assert_close(values, torch.cat([there, back.flip(1)], dim=-1))
    torch.testing.assert_close(
        first, model.bridge(torch.cat([there[:, -1], back[:, -1]], dim=-1)).tanh()
    )
    energy = torch.stack(
        [model.energy(torch.tanh(model.key(value) + model.query(first[0]))) for value in values[0]]
    )
    context = (energy.softmax(dim=0) * values[0]).sum(dim=0)
    token = torch.tensor([BEGIN_ID])
    word = model.embedding(token)
    state = model.cell(torch.cat([word, context.unsqueeze(0)], dim=-1), first)
    hidden = model.readout(torch.cat([word, context.unsqueeze(0), state], dim=-1)).tanh()
    logits, _ = model.step(token, (values, keys, real, first), (first,))
    wanted = hidden @ model.embedding.table.weight.T + model.embedding.bias
    torch.testing.assert_close(logits, wanted)


def test_a_transformer_of_odd_sizes_says_what_to_take():
    with pytest.raises(ValueError, match=r"dimension=9 must be even .* heads=4; try dimension=8"):
        Transformer(VOCABULARY, dimension=9, heads=4, layers=1, hidden=4, dropout=0.0)


# ---------------------------------------------------------------------------- decoding


def uncached_greedy(model: Seq2Seq, source: torch.Tensor, most: int) -> list[list[int]]:
    """Row by row, the whole prefix again at every step."""
    rows = []
    for row in source:
        own, said = row[row != PAD_ID].unsqueeze(0), []
        while len(said) < most:
            logits = model(own, torch.tensor([[BEGIN_ID, *said]]))[0, -1]
            logits[list(NEVER)] = -torch.inf
            if not said:
                logits[END_ID] = -torch.inf
            token = int(logits.argmax())
            if token == END_ID:
                break
            said.append(token)
        rows.append(said)
    return rows


def enders(kind: str, seed: int) -> Seq2Seq:
    """A model that likes to end, so that rows have unequal lengths."""
    model = made(kind, seed)
    with torch.no_grad():
        model.embedding.bias[END_ID] = 1.0
    return model


@pytest.mark.parametrize(("kind", "seed"), list(itertools.product(MODELS, range(3))))
def test_greedy_in_batches_with_caches_is_greedy_row_by_row_without(kind, seed):
    model = enders(kind, seed)
    found = greedy(model, sources(), most=8)
    assert found == uncached_greedy(model, sources(), 8)


def test_outputs_do_not_all_have_one_length():
    lengths = {
        len(row)
        for kind in MODELS
        for s in range(3)
        for row in greedy(enders(kind, s), sources(), most=8)
    }
    assert len(lengths) > 2 and min(lengths) >= 1 and max(lengths) <= 8


@pytest.mark.parametrize(("kind", "seed"), list(itertools.product(MODELS, range(3))))
def test_one_beam_is_greedy(kind, seed):
    model = enders(kind, seed)
    for penalty in (0.0, 1.0):
        found = beam_search(model, sources(), beams=1, most=8, length_penalty=penalty)
        assert found == greedy(model, sources(), most=8)


@pytest.mark.parametrize("kind", MODELS)
def test_beams_of_a_batch_are_those_of_each_row_alone(kind):
    model = enders(kind, 0)
    rows = [row[row != PAD_ID].unsqueeze(0) for row in sources()]
    alone = [beam_search(model, row, beams=3, most=6)[0] for row in rows]
    assert beam_search(model, sources(), beams=3, most=6) == alone


def test_lengths_keep_to_their_bounds_and_nothing_special_is_said():
    for kind in MODELS:
        model = enders(kind, 1)
        for found in (
            greedy(model, sources(), most=5, least=3),
            beam_search(model, sources(), beams=3, most=5, least=3),
        ):
            assert all(3 <= len(row) <= 5 for row in found)
            assert all(token >= len(SPECIAL) for row in found for token in row)


class Table(Seq2Seq):
    """A model whose next token depends on the last one alone, with probabilities as given."""

    def __init__(self, p: dict[int, dict[int, float]]) -> None:
        super().__init__()
        self.log_p = torch.full((VOCABULARY, VOCABULARY), -50.0)
        for last, row in p.items():
            for token, share in row.items():
                self.log_p[last, token] = math.log(share)

    def encode(self, source):
        return (source,)

    def start(self, memory):
        return (memory[0][:, 0],)

    def step(self, token, memory, state):
        return self.log_p[token], state

    def forward(self, source, given):
        return self.log_p[given]


# The likeliest first token, 4, leads to many unlikely ends; 5 leads to one sure end.
GARDEN = {
    BEGIN_ID: {4: 0.6, 5: 0.4},
    4: {6: 0.4, 7: 0.3, 8: 0.3},
    5: {9: 1.0},
    **{token: {END_ID: 1.0} for token in (6, 7, 8, 9)},
}


def test_a_beam_finds_the_path_that_greedy_misses():
    model, source = Table(GARDEN), torch.tensor([[4]])
    assert greedy(model, source, most=5) == [[4, 6]]  # 0.6 * 0.4 = 0.24
    assert beam_search(model, source, beams=2, most=5) == [[5, 9]]  # 0.4


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
def test_a_beam_as_wide_as_the_tree_finds_the_best_of_all_paths(penalty):
    draw = torch.Generator().manual_seed(3)
    tokens = [4, 5, 6, END_ID]
    p = {}
    for last in (BEGIN_ID, 4, 5, 6):
        shares = torch.rand(4, generator=draw).add(0.05)
        p[last] = dict(zip(tokens, (shares / shares.sum()).tolist(), strict=True))
    model = Table(p)
    best, chosen = -math.inf, []
    for size in (1, 2, 3):
        for path in itertools.product(tokens[:3], repeat=size):
            steps = list(itertools.pairwise([BEGIN_ID, *path, END_ID]))
            log_p = 0.0
            for step, (last, token) in enumerate(steps):
                row = model.log_p[last].clone()
                if step == 0:
                    row[END_ID] = -torch.inf  # an output has a token
                row[list(NEVER)] = -torch.inf
                log_p += float(row.log_softmax(0)[token])
            score = log_p / (size + 1) ** penalty
            if score > best:
                best, chosen = score, list(path)
    found = beam_search(model, torch.tensor([[4]]), beams=81, most=4, length_penalty=penalty)
    assert found == [chosen]
