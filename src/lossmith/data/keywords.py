"""Keywords for parallel text: from a glossary, from a column, or mined as rare copied words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lossmith.data.errors import DataError
from lossmith.data.files import existing, format_of, read_bytes
from lossmith.data.parallel import ParallelData, ParallelPart
from lossmith.data.roles import SOURCE, TARGET, need_column
from lossmith.data.tables import load_table
from lossmith.kernels.terms import find_terms

Required = Literal["in_reference", "listed"]
RARE = 0.01  # the share of training targets that a mined keyword stands in, at most
TERM_WORDS = 4  # a longer entry of a .po glossary is a sentence, not a term


@dataclass(frozen=True)
class Term:
    """A term of the source language and what the target has to say for it."""

    source: str
    target: str


def add_keywords(
    data: ParallelData,
    glossary: Sequence[Term] | None,
    required: Required = "in_reference",
    common: frozenset[str] | None = None,
) -> ParallelData:
    """The data with keywords for every pair.

    A glossary asks for a term's translation wherever the source contains the term; otherwise the
    data's own keywords count; otherwise they are mined (:func:`mined`). ``in_reference`` drops
    what the target does not say itself: nobody can be asked for it word by word. ``common`` are
    the words too common to be mined, by default those of the train part.
    """
    parts = data.parts
    if glossary is not None:
        finder = _Glossary(glossary)
        lists = {
            name: [finder.apply(text) for text in part.sources] for name, part in parts.items()
        }
        origin = f"the translations of {len(glossary):,} glossary terms, where the source has one"
    elif data.has_keywords:
        lists = {name: list(part.keywords) for name, part in parts.items()}
        origin = "as the data lists them"
    else:
        lists = mined(parts, common)
        origin = (
            "words of 3 letters or more that source and target have in common, in at most "
            f"{RARE:.0%} of the training targets"
        )
    asked = sum(len(terms) for rows in lists.values() for terms in rows)
    made = {}
    for name, part in parts.items():
        rows = lists[name]
        if required == "in_reference":
            rows = [said(text, terms) for text, terms in zip(part.targets, rows, strict=True)]
        made[name] = replace(part, keywords=rows)
    kept = sum(len(terms) for part in made.values() for terms in part.keywords)
    having = sum(bool(terms) for part in made.values() for terms in part.keywords)
    total = sum(map(len, made.values()))
    notes = [f"Keywords: {origin}; {kept:,} in {having:,} of {total:,} pairs."]
    if kept < asked:
        notes.append(
            f"{asked - kept:,} more are not in the target word by word and are not asked for "
            "(required=listed asks for them too)."
        )
    if not kept:
        raise DataError(
            f"{data.name}: no pair has a keyword",
            expected="terms that occur in the texts",
            fix="Give a glossary of terms in these texts, or a column of keywords.",
        )
    return replace(data, parts=made, notes=(*data.notes, *notes))


def said(text: str, terms: Sequence[str]) -> tuple[str, ...]:
    """The terms that a text says, each at a place of its own.

    >>> said("a keyword argument", ["argument", "keyword argument"])
    ('keyword argument',)
    """
    found = find_terms(text, terms)
    return tuple(term for term, places in zip(terms, found, strict=True) if places)


# ---------------------------------------------------------------------------- mined


def mined(
    parts: dict[str, ParallelPart], common: frozenset[str] | None = None
) -> dict[str, list[tuple[str, ...]]]:
    """Rare words that stand on both sides: names, identifiers, technical words.

    A word is a run of letters, digits and ``_`` (dots and hyphens inside it belong to it), of three
    characters or more with a letter among them, as it is written. It is rare where at most one in
    a hundred training targets (and no fewer than one) has it.
    """
    if common is None:
        common = common_words(parts["train"].targets)
    return {
        name: [
            tuple(
                word
                for word in dict.fromkeys(technical_words(target))
                if word not in common and word in set(technical_words(source))
            )
            for source, target in zip(part.sources, part.targets, strict=True)
        ]
        for name, part in parts.items()
    }


def common_words(targets: Sequence[str]) -> frozenset[str]:
    """The words that more than one in a hundred targets has, and more than one of them all."""
    counts = Counter(word for text in targets for word in set(technical_words(text)))
    most = max(1, int(RARE * len(targets)))
    return frozenset(word for word, count in counts.items() if count > most)


def technical_words(text: str) -> list[str]:
    """The words that may be mined.

    >>> technical_words("``os.path`` is a module; v2 of re-use in 2024")
    ['os.path', 'module', 're-use']
    """
    words = re.findall(r"\w+(?:[.-]\w+)*", text)
    return [word for word in words if len(word) > 2 and re.search(r"[^\W\d_]", word)]


# ---------------------------------------------------------------------------- glossaries


class _Glossary:
    """Terms by one of their words, so that a text is asked about few of them."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self.by_word: dict[str, list[Term]] = {}
        for term in terms:
            words = re.findall(r"\w+", term.source.lower())
            self.by_word.setdefault(max(words, key=len) if words else "", []).append(term)

    def apply(self, text: str) -> tuple[str, ...]:
        """The translations of the terms that the text contains."""
        words = dict.fromkeys(["", *re.findall(r"\w+", text.lower())])
        near = [term for word in words for term in self.by_word.get(word, ())]
        places = find_terms(text, [term.source for term in near])
        asked = [term.target for term, place in zip(near, places, strict=True) if place]
        return tuple(dict.fromkeys(asked))


def read_glossary(
    path: str | Path, *, source: str | None = None, target: str | None = None
) -> list[Term]:
    """The terms of a ``.po`` file, or of a table with a column for each side.

    Of a ``.po`` file an entry is a term if it is translated, is not marked as fuzzy, and is no
    sentence: at most four words, a letter among them, and no mark at the end. Emphasis and
    backquotes are dropped, and so is a remark in parentheses behind the translation. In a table
    the columns are called source and target, or as in the data (``source``, ``target``).
    """
    path = existing(path)
    if format_of(path) == ".po":
        entries = list(po_entries(path))
        pairs = [(plain(a), plain(b)) for a, b in entries if is_term(a)]
    else:
        table = load_table(path)
        columns = table.frame.columns
        names = [
            need_column(columns, role, given if given in columns else None, path)
            for role, given in ((SOURCE, source), (TARGET, target))
        ]
        pairs = [
            (" ".join(str(a or "").split()), " ".join(str(b or "").split()))
            for a, b in table.frame.select(names).rows()
        ]
    terms = [Term(a, b) for a, b in dict.fromkeys(pairs) if a and b]
    if not terms:
        raise DataError(
            "no term with a translation", path=path, expected="terms such as 'list' -> 'liste'"
        )
    return terms


def is_term(text: str) -> bool:
    """Whether an entry of a glossary's .po file is a term rather than a sentence.

    >>> [is_term(text) for text in ("garbage collection", "See :pep:`1`.", "``>>>``")]
    [True, False, False]
    """
    short = len(text.split()) <= TERM_WORDS and text[-1:] not in (".", ":", "!", "?")
    return short and re.search(r"[^\W\d_]", text) is not None


def plain(text: str) -> str:
    """A term without markup and without a remark in parentheses behind it.

    >>> plain("appelable (*callable*)"), plain("``>>>``")
    ('appelable', '>>>')
    """
    text = re.sub(r"(?<=\S)\s*\([^()]*\)$", "", text.strip())
    return " ".join(text.replace("*", "").replace("`", "").split())


_PO_LINE = re.compile(r'(?:(msgctxt|msgid|msgid_plural|msgstr|msgstr\[\d+\])\s+)?"(.*)"')
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_OPENERS = ("msgctxt", "msgid")


def po_entries(path: Path) -> Iterator[tuple[str, str]]:
    """The translated entries of a gettext file; fuzzy, obsolete and plural ones left out."""
    entry: dict[str, str] = {}
    fuzzy, key = False, ""
    for number, raw in enumerate(read_bytes(path).decode().split("\n"), start=1):
        line = raw.strip()
        field = _PO_LINE.fullmatch(line)
        # A comment, or a new msgid, ends the entry before it.
        if "msgstr" in key and (line.startswith("#") or (field and field[1] in _OPENERS)):
            yield from _translated(entry, fuzzy)
            entry, fuzzy, key = {}, False, ""
        if line.startswith("#") or not line:
            fuzzy = fuzzy or (line.startswith("#,") and "fuzzy" in line)
            continue
        key = field[1] or key if field else ""
        if not field or not key:
            raise DataError(
                f"{line if len(line) <= 60 else line[:57] + '...'!r} is not gettext",
                path=path,
                line=number,
                value=raw,
                expected='msgid "...", msgstr "...", a quoted line below one, or a # comment',
            )
        text = re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), field[2])
        entry[key] = entry.get(key, "") + text
    yield from _translated(entry, fuzzy)


def _translated(entry: dict[str, str], fuzzy: bool) -> Iterator[tuple[str, str]]:
    if entry.get("msgid") and entry.get("msgstr") and not fuzzy:
        yield entry["msgid"], entry["msgstr"]
