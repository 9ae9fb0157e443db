from __future__ import annotations

import pytest
from tokenizers import decoders

from lossmith.tasks.encoder import PAD, UNKNOWN, encode, train_tokenizer

TEXTS = ["one two three four", "two three", "three"]


def words(text: str) -> list[str]:
    return train_tokenizer([text], "words", 100).encode(text).tokens


def test_padding_is_0_and_an_unknown_word_is_1():
    for kind in ("words", "subwords"):
        tokenizer = train_tokenizer(TEXTS, kind, 300)
        assert (tokenizer.token_to_id(PAD), tokenizer.token_to_id(UNKNOWN)) == (0, 1)
    assert encode(train_tokenizer(TEXTS, "words", 9), ["three never"], 9, "first")[0, 1] == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It<br />was <b class='x'>GOOD</b>.", ["it", "was", "good"]),
        ("calls m_json, twice", ["calls", "m_json", "twice"]),
        ("don't; the dogs' own", ["don't", "the", "dogs'", "own"]),
        ("10 x 3-4", ["10", "x", "3", "4"]),
        ("Ärger über Öl", ["ärger", "über", "öl"]),
        ("... !", []),
    ],
)
def test_a_word_is_letters_digits_underscores_and_apostrophes_in_lower_case(text, expected):
    assert words(text) == expected


@pytest.mark.parametrize(
    "text", ["plain words", "Naïve <br/> m_json\n\tdon't", "日本語 🙂", "two  "]
)
def test_subwords_lose_nothing_even_of_text_never_seen(text):
    tokenizer = train_tokenizer(["some other words"], "subwords", 300)
    tokenizer.decoder = decoders.ByteLevel()
    assert UNKNOWN not in tokenizer.encode(text).tokens
    assert tokenizer.decode(tokenizer.encode(text).ids) == f" {text}"


def test_subwords_merge_what_is_frequent():
    tokenizer = train_tokenizer(["lossmith lossmith lossmith"] * 5, "subwords", 400)
    assert len(tokenizer.encode("lossmith").ids) == 1


def test_the_most_frequent_words_fill_the_vocabulary():
    tokenizer = train_tokenizer(TEXTS, "words", 4)
    assert tokenizer.get_vocab() == {PAD: 0, UNKNOWN: 1, "three": 2, "two": 3}
    assert tokenizer.encode("one two").ids == [1, 3]


@pytest.mark.parametrize("vocabulary", [270, 300])
def test_the_subword_vocabulary_is_capped_too(vocabulary):
    text = "a long enough text to find very many pairs that could be merged in principle " * 3
    assert train_tokenizer([text], "subwords", vocabulary).get_vocab_size() == vocabulary


@pytest.mark.parametrize("kind", ["words", "subwords"])
def test_the_same_texts_give_the_same_vocabulary_whatever_the_ties(kind):
    texts = [f"w{i} v{i * 7 % 50} x{i}y" for i in range(50)]
    first, *others = [train_tokenizer(texts, kind, 290).get_vocab() for _ in range(4)]
    assert all(other == first for other in others)


def test_the_beginning_or_the_end_is_kept_and_padding_stands_on_the_other_side():
    tokenizer = train_tokenizer(TEXTS, "words", 10)
    one, two, three, four = (tokenizer.token_to_id(word) for word in TEXTS[0].split())
    assert encode(tokenizer, TEXTS, 3, "first").tolist() == [
        [one, two, three],
        [two, three, 0],
        [three, 0, 0],
    ]
    assert encode(tokenizer, TEXTS, 3, "last").tolist() == [
        [two, three, four],
        [0, two, three],
        [0, 0, three],
    ]


def test_rows_are_as_wide_as_the_longest_text_needs_and_never_empty():
    tokenizer = train_tokenizer(TEXTS, "words", 10)
    assert encode(tokenizer, TEXTS, 400, "first").shape == (3, 4)
    assert encode(tokenizer, ["", "..."], 400, "first").tolist() == [[0], [0]]
    assert encode(tokenizer, [], 400, "last").shape == (0, 1)
