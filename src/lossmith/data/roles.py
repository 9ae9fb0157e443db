"""Which column plays which part: by its name, never by its place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lossmith.core.words import did_you_mean
from lossmith.data.errors import DataError, listed


@dataclass(frozen=True)
class Role:
    """A part that a column can play, and the names under which it is recognised."""

    name: str  # the keyword argument and the command's option
    what: str
    plain: tuple[str, ...]  # these win over the others
    others: tuple[str, ...] = ()
    last: tuple[str, ...] = ()  # names that another kind of column may bear beside it


TEXT = Role(
    "text",
    "the text",
    ("text", "texts"),
    (
        *("sentence", "review", "reviewtext", "title", "comment", "commenttext", "content"),
        *("body", "document", "description", "message", "tweet", "question", "headline"),
        *("docstring", "utterance", "abstract", "summary"),
    ),
)
CLASS = Role(
    "label",
    "the label",
    ("label", "labels", "class"),
    (
        *("category", "target", "sentiment", "tag", "topic", "intent", "genre", "emotion"),
        *("language", "y"),
    ),
)
TAGS = Role(
    "label",
    "the labels",
    ("labels", "tags", "label"),
    (
        *("tag", "categories", "classes", "topics", "genres", "hashtags", "emotions", "targets"),
        *("keywords", "subjects"),
    ),
)
USER = Role(
    "user",
    "the user",
    ("user", "userid", "uid"),
    (
        *("userindex", "useridx", "customer", "customerid", "member", "memberid", "reader"),
        *("readerid", "listener", "listenerid", "profileid", "account", "accountid", "visitorid"),
        *("session", "sessionid", "reviewerid", "client", "clientid", "person", "personid"),
    ),
)
ITEM = Role(
    "item",
    "the item",
    ("item", "itemid", "iid"),
    (
        *("itemindex", "itemidx", "movie", "movieid", "film", "filmid", "artist", "artistid"),
        *("product", "productid", "asin", "parentasin", "book", "bookid", "isbn", "song"),
        *("songid", "track", "trackid", "article", "articleid", "news", "newsid", "game"),
        *("gameid", "app", "appid", "business", "businessid", "recipe", "recipeid", "video"),
        *("videoid", "show", "showid", "anime", "animeid", "place", "placeid", "location"),
        *("locationid", "poi", "poiid", "venue", "venueid", "doc", "docid", "repo", "repoid"),
    ),
)
# Where each row is a text: what belongs to it, one item or a list of them.
ITEMS = Role(
    "item",
    "the items",
    ("item", "items", "itemid", "tags", "hashtags"),
    (
        *("tag", "hashtag", "itemids", "labels", "topics", "categories", "genres", "products"),
        *("product", "productid", "articles", "entities", "subjects", "calls"),
    ),
    ("label", "category", "topic", "genre"),
)
VALUE = Role(
    "value",
    "the value",
    ("value", "rating", "weight", "count"),
    (
        *("ratings", "score", "stars", "counts", "plays", "playcount", "playcounts", "listens"),
        *("preference", "clicks", "views", "purchases", "quantity", "overall"),
    ),
)
NUMBER = Role(
    "target",
    "the target",
    ("target", "score", "rating", "value", "y"),
    (
        *("number", "stars", "price", "amount", "points", "outcome", "response", "similarity"),
        *("relatedness", "output", "size", "quantity", "overall", "grade"),
    ),
    ("label", "labels"),
)
QUERY = Role(
    "query",
    "the query",
    ("query", "queryid", "qid"),
    (
        *("group", "groupid", "session", "sessionid", "topic", "topicid", "question"),
        *("questionid", "search", "searchid", "srchid", "request", "requestid", "list", "listid"),
    ),
)
RELEVANCE = Role(
    "label",
    "the relevance",
    ("relevance", "label", "grade", "rel"),
    (
        *("relevancelabel", "relevancegrade", "labels", "target", "rating", "score", "judgment"),
        *("judgement", "gain", "click", "clicked", "clicks", "y"),
    ),
)
FEATURES = Role("features", "the features", ())
# Numbers that name a row and say nothing about it.
IDENTIFIERS = (
    *("id", "index", "row", "rowid", "rownumber", "rownr", "unnamed0", "docid", "documentid"),
    *("doc", "document", "url", "urlid", "itemid", "item", "pid", "passageid", "uuid", "key"),
)

SOURCE = Role(
    "source",
    "the source text",
    ("source", "src"),
    ("sources", "input", "inputs", "document", "article", "question", "prompt", "code"),
)
TARGET = Role(
    "target",
    "the target text",
    ("target", "tgt", "trg"),
    (
        *("targets", "output", "outputs", "translation", "summary", "headline", "answer"),
        *("reference", "response", "completion", "docstring"),
    ),
)
KEYWORDS = Role("keywords", "the keywords", ("keywords",), ("keyword", "keyphrases", "terms"))

# Of a pair of retrieval both sides are texts, also where other tasks expect an id by that name.
ASKED = Role(
    "query",
    "the query",
    ("query", "question", "anchor"),
    (
        *("queries", "questions", "querytext", "searchquery", "search", "claim", "docstring"),
        *("prompt", "request", "title", "sentence1", "text1", "premise"),
    ),
)
POSITIVE = Role(
    "positive",
    "the relevant document",
    ("positive", "positives", "pos"),
    (
        *("document", "documents", "doc", "passage", "answer", "answers", "context", "response"),
        *("code", "paragraph", "abstract", "article", "relevant", "sentence2", "text2"),
    ),
    ("text", "body", "content", "description"),
)
NEGATIVE = Role(
    "negative",
    "the document that is not relevant",
    ("negative", "negatives", "neg", "hardnegative", "hardnegatives"),
)
GRADE = Role("label", "the grade", ("relevance", "label", "grade", "rel", "score"))


def normalised(name: str) -> str:
    """The name without case and punctuation.

    >>> normalised("User_ID")
    'userid'
    """
    return re.sub(r"[^a-z0-9]", "", name.lower())


def find_column(
    columns: Sequence[str], role: Role, given: str | None, path: Path, *, line: int | None = 1
) -> str | None:
    """The column that plays the role: the one given, or the only one that bears its name.

    None if no column does; an error if the given one does not exist or several would do.

    >>> find_column(["id", "User ID"], USER, None, Path("log.csv"))
    'User ID'
    """
    if given is not None:
        if given in columns:
            return given
        raise DataError(
            f"no column {given!r} among {listed(list(columns))}",
            path=path,
            line=line,
            column=given,
            expected=f"{role.what} there",
            fix=did_you_mean(given, columns).strip() if _has_near(given, columns) else None,
        )
    for names in (role.plain, role.others, role.last):
        found = [column for column in columns if normalised(column) in names]
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(
                f"{listed(found)} could each be {role.what}",
                path=path,
                line=line,
                expected="one, or to be told which",
                fix=f"Say which: {option(role, found[0])}.",
            )
    return None


def need_column(
    columns: Sequence[str], role: Role, given: str | None, path: Path, *, line: int | None = 1
) -> str:
    """:func:`find_column`, where a table without that column is of no use."""
    found = find_column(columns, role, given, path, line=line)
    if found is not None:
        return found
    near = _nearest(role, columns)
    if near is not None:
        fix = f"If {near!r} is {role.what}, say so: {option(role, near)}."
    else:
        fix = (
            f"Say which column it is: {option(role, 'NAME')}. If the first line is data already, "
            f"put a line above it that names the columns."
        )
    raise DataError(
        f"no column for {role.what} among {listed(list(columns))}",
        path=path,
        line=line,
        expected=f"one named {', '.join(map(repr, (role.plain + role.others)[:6]))} or the like",
        fix=fix,
    )


def option(role: Role, value: str) -> str:
    """How a role is named by hand, on the command line and in Python.

    >>> option(TEXT, "title")
    "--text title (in Python, text='title')"
    """
    quoted = value if re.fullmatch(r"[\w.,-]+", value) else f'"{value}"'
    return f"--{role.name} {quoted} (in Python, {role.name}={value!r})"


def _has_near(given: str, columns: Sequence[str]) -> bool:
    return "Did you mean" in did_you_mean(given, columns)


def _nearest(role: Role, columns: Sequence[str]) -> str | None:
    """A column whose name looks like one of the role's: 'txt', 'labl', 'user_name'."""
    for column in columns:
        short = normalised(column)
        if 3 <= len(short) <= 20 and any(_alike(short, name) for name in role.plain):
            return column
    return None


def _alike(short: str, name: str) -> bool:
    contains = len(name) > 3 and name in short
    return contains or "Did you mean" in did_you_mean(short, [name])
