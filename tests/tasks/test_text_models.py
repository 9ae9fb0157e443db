from __future__ import annotations

import pytest
import torch

from lossmith.tasks.tagging import TASK
from lossmith.tasks.text import build_text_model
from lossmith.tasks.text_models import Bag, ConvolutionalNet, RecurrentNet, SeparateBags

WORDS = 30


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def ids(rows: int = 5, length: int = 7) -> torch.Tensor:
    return torch.randint(2, WORDS, (rows, length), dtype=torch.int32)


def cnn(width: int = 3, dropout: float = 0.0) -> ConvolutionalNet:
    return ConvolutionalNet(
        WORDS, 2, dimension=4, filters=6, width=width, hidden=5, dropout=dropout
    )


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("model", TASK.settings["model"].choices)
def test_every_model_gives_a_row_of_logits_and_learns_in_all_its_parts(model, outputs):
    settings = TASK.resolve({"model": model, "dimension": 4, "hidden": 5, "filters": 6})
    made = build_text_model(settings, WORDS, outputs)
    logits = made(ids())
    assert logits.shape == (5, outputs)
    logits.square().sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("model", TASK.settings["model"].choices)
def test_a_row_does_not_depend_on_the_rows_beside_it(model):
    settings = TASK.resolve({"model": model, "dimension": 4, "hidden": 5, "filters": 6})
    made, texts = build_text_model(settings, WORDS, 3).eval(), ids()
    torch.testing.assert_close(made(texts)[2:3], made(texts[2:3]))


def test_a_bag_is_the_mean_of_its_words_and_padding_counts_for_nothing():
    bag, texts = Bag(WORDS, 2, dimension=4, dropout=0.0), ids()
    mean = bag.embedding.weight[texts.long()].mean(dim=1)
    torch.testing.assert_close(bag(texts), bag.linear(mean))
    padded = torch.cat([texts, torch.zeros_like(texts)], dim=1)
    torch.testing.assert_close(bag(padded), bag(texts))
    nothing = bag(torch.zeros_like(texts))
    torch.testing.assert_close(nothing, bag.linear.bias.expand_as(nothing))


def test_separate_bags_are_bags_of_their_own():
    outputs, dimension, texts = 3, 4, ids()
    separate = SeparateBags(WORDS, outputs, dimension=dimension, dropout=0.0)
    logits = separate(texts)
    for c in range(outputs):
        bag = Bag(WORDS, 1, dimension=dimension, dropout=0.0)
        with torch.no_grad():
            tables = separate.embedding.weight.view(WORDS, outputs, dimension)
            bag.embedding.weight.copy_(tables[:, c])
            bag.linear.weight.copy_(separate.weight[c : c + 1])
            bag.linear.bias.copy_(separate.bias[c : c + 1])
        torch.testing.assert_close(logits[:, c : c + 1], bag(texts))


def test_separate_bags_share_no_gradient():
    outputs, dimension = 3, 4
    separate = SeparateBags(WORDS, outputs, dimension=dimension, dropout=0.0)
    separate(ids())[:, 1].sum().backward()
    table = separate.embedding.weight.grad.view(WORDS, outputs, dimension)
    for grad in (table.transpose(0, 1), separate.weight.grad, separate.bias.grad):
        assert [bool(grad[c].any()) for c in range(outputs)] == [False, True, False]


def test_separate_bags_start_at_the_scale_of_one_bag():
    bag = Bag(4000, 8, dimension=16, dropout=0.0)
    separate = SeparateBags(4000, 8, dimension=16, dropout=0.0)
    assert separate.weight.shape == bag.linear.weight.shape
    assert separate.weight.std().item() == pytest.approx(bag.linear.weight.std().item(), rel=0.2)
    assert separate.embedding.weight.std().item() == pytest.approx(1.0, rel=0.05)


def test_the_cnn_takes_the_largest_response_of_each_filter_after_a_relu():
    model, texts = cnn().eval(), ids()
    words = model.embedding(texts).transpose(1, 2)
    before = model.filters(words).relu().amax(dim=-1)
    assert (before == 0).any() and (before > 0).any()  # both sides of the relu are met
    torch.testing.assert_close(model(texts), model.linear(model.hidden(before).relu()))


@pytest.mark.parametrize("length", [1, 2, 4])
def test_a_text_shorter_than_the_filter_is_padded(length):
    model, texts = cnn(width=5).eval(), ids(length=length)
    padded = torch.cat([texts, texts.new_zeros(5, 5 - length)], dim=1)
    torch.testing.assert_close(model(texts), model(padded))


def test_the_recurrent_net_without_dropout_is_an_lstm():
    model, texts = RecurrentNet(WORDS, 2, dimension=4, hidden=5, dropout=0.5).eval(), ids()
    lstm = torch.nn.LSTM(4, 5, batch_first=True)
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(model.cell.weight_ih)
        lstm.weight_hh_l0.copy_(model.cell.weight_hh)
        lstm.bias_ih_l0.copy_(model.cell.bias_ih)
        lstm.bias_hh_l0.copy_(model.cell.bias_hh)
    states, _ = lstm(model.embedding(texts))
    torch.testing.assert_close(model(texts), model.linear(states[:, -1]))
    assert torch.equal(model(texts), model(texts))


def test_the_forget_gate_starts_open_and_no_other():
    cell = RecurrentNet(WORDS, 2, dimension=4, hidden=5, dropout=0.0).cell
    bias = (cell.bias_ih + cell.bias_hh).view(4, 5)  # input, forget, cell, output
    assert bias.tolist() == [[0.0] * 5, [1.0] * 5, [0.0] * 5, [0.0] * 5]


def test_one_dropout_mask_holds_for_a_whole_sequence():
    model = RecurrentNet(WORDS, 2, dimension=12, hidden=10, dropout=0.5).train()
    inputs, states = [], []

    def look(module, given):
        word, (state, _) = given
        inputs.append(word == 0)
        states.append(state == 0)

    model.cell.register_forward_pre_hook(look)
    model(ids(rows=6))
    assert all(torch.equal(one, inputs[0]) for one in inputs)
    assert all(torch.equal(one, states[1]) for one in states[1:])  # the first state is all 0
    for mask in (inputs[0], states[1]):
        assert 0.25 < mask.float().mean() < 0.75
        assert not torch.equal(mask[0], mask[1])  # each text has a mask of its own
