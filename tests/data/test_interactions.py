from __future__ import annotations

import numpy as np
import pytest

from lossmith.data.errors import DataError
from lossmith.data.interactions import (
    InteractionData,
    make_interactions,
    read_interactions,
    split_interactions,
    unique_pairs,
)


def raised(path, **roles) -> DataError:
    with pytest.raises(DataError) as caught:
        read_interactions(path, **roles)
    return caught.value


def named(data: InteractionData, part: str = "train") -> list[tuple[str, str]]:
    pairs = data.parts[part]
    return [
        (data.user_ids[u], data.item_ids[i]) for u, i in zip(pairs.users, pairs.items, strict=True)
    ]


# ---------------------------------------------------------------------------- files

U_DATA = "2\t10\t3\t881250949\n1\t9\t5\t891717742\n1\t10\t1\t878887116\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("u.data", U_DATA),
        ("other.txt", U_DATA),
        ("ratings.dat", U_DATA.replace("\t", "::")),
        ("ratings.csv", "userId,movieId,rating,timestamp\n2,10,3,1\n1,9,5,2\n1,10,1,3\n"),
        ("ratings.csv", "rating,item_id,user\n3,10,2\n5,9,1\n1,10,1\n"),
        ("plays.dat", "userID\tartistID\tweight\n2\t10\t3\n1\t9\t5\n1\t10\t1\n"),
        ("plays.jsonl", '{"user":2,"item":10}\n{"user":1,"item":9}\n{"user":1,"item":10}\n'),
        ("lines.txt", "2 10\n1 9 10\n"),
    ],
)
def test_every_file_gives_the_same_pairs(name: str, content: str, write) -> None:
    data = read_interactions(write(name, content))
    assert (data.users, data.items) == (2, 2)
    assert named(data) == [("1", "9"), ("1", "10"), ("2", "10")]  # ids in numeric order
    assert data.parts["train"].users.dtype == data.parts["train"].items.dtype == np.int64


def test_ids_may_be_words(write) -> None:
    data = read_interactions(write("a.csv", "user,item\nzoe,b\nann,a\n"))
    assert (data.user_ids, data.item_ids) == (["ann", "zoe"], ["a", "b"])


def test_what_was_guessed_is_said(write) -> None:
    data = read_interactions(write("a.csv", "userID,artistID,weight\n1,2,3\n"))
    assert data.notes[0] == (
        "By the names of the columns, the user is 'userID', the item is 'artistID', "
        "the value is 'weight'."
    )
    assert "MovieLens" in read_interactions(write("u.data", U_DATA)).notes[0]
    assert "one line per user" in read_interactions(write("l.txt", "0 1\n1 2 3\n")).notes[0]


def test_roles_can_be_named(write) -> None:
    path = write("a.csv", "who,what,much\na,x,1\nb,y,5\n")
    data = read_interactions(path, user="who", item="what", value="much", minimum=2)
    assert named(data) == [("b", "y")]


def test_repeated_pairs_are_merged_and_counted(write) -> None:
    data = read_interactions(write("a.csv", "user,item\n1,2\n1,2\n1,3\n1,2\n"))
    assert len(data.parts["train"]) == 2
    assert "a.csv: 2 repeated pairs of user and item were merged." in data.notes


def test_a_minimum_keeps_the_values_that_reach_it(write) -> None:
    path = write("u.data", U_DATA)
    assert len(read_interactions(path).parts["train"]) == 3
    data = read_interactions(path, minimum=3)
    assert named(data) == [("1", "9"), ("2", "10")]
    assert "Kept are interactions whose 'rating' is 3 or more." in data.notes


def test_a_folder_with_one_log_is_that_log(write) -> None:
    folder = write("set/plays.dat", "userID\tartistID\tweight\n2\t10\t3\n").parent
    write("set/README.txt", "the user and the item\n")
    write("set/artists.dat", "id\tname\n10\tx\n")
    assert named(read_interactions(folder)) == [("2", "10")]
    write("set/tagged.dat", "userID\tartistID\ttagID\n2\t10\t3\n")
    assert named(read_interactions(folder)) == [("2", "10")]  # the only one with values
    write("set/more.csv", "user,item,count\n2,10,3\n")
    assert "could each be the interactions" in str(raised(folder))


def test_a_movielens_folder_is_its_u_data(write) -> None:
    folder = write("ml/u.data", U_DATA).parent
    write("ml/u.item", "1|Toy Story|1995\n")
    assert len(read_interactions(folder).parts["train"]) == 3


def test_a_folder_with_nothing_to_read_says_what_it_holds(write) -> None:
    folder = write("set/notes.md", "x").parent
    assert "holds 'notes.md'" in str(raised(folder))


def test_parts_and_lists_of_a_folder_are_kept(write) -> None:
    folder = write("g/train.txt", "0 1 3\n1 0\n2\n").parent
    write("g/valid.txt", "0 2\n")  # alone, this could be anything
    write("g/test.txt", "1 3 2\n2 1\n")
    write("g/item_list.txt", "org_id remap_id\na 0\nb 1\nc 2\nd 3\ne 4\n")
    write("g/user_list.txt", "org_id remap_id\nu 0\nv 1\nw 2\n")
    data = read_interactions(folder)
    assert (data.users, data.items) == (3, 5)  # an item that nobody used is in the catalogue
    assert named(data) == [("u", "b"), ("u", "d"), ("v", "a")]
    assert named(data, "valid") == [("u", "c")]
    assert named(data, "test") == [("v", "c"), ("v", "d")]
    assert (
        "Left out of test: 1 user without interactions to train on (1 of 3 interactions)."
        in data.notes
    )


def test_numbers_beyond_their_list_are_an_error(write) -> None:
    folder = write("g/train.txt", "0 1 3\n1 0\n").parent
    write("g/item_list.txt", "org_id remap_id\na 0\nb 1\n")
    assert "item 3 is not in item_list.txt" in str(raised(folder))
    write("g/item_list.txt", "org_id remap_id\na 0\nb 7\n")
    assert raised(folder).line == 3


def test_items_of_the_test_part_are_in_the_catalogue_but_its_new_users_are_not_tested(
    write,
) -> None:
    folder = write("set/train.csv", "user,item\n1,1\n2,1\n").parent
    write("set/test.csv", "user,item\n1,9\n3,1\n3,2\n2,1\n")
    data = read_interactions(folder)
    assert data.item_ids == ["1", "2", "9"]
    assert named(data, "test") == [("1", "9")]  # 3 is new, and 2 has item 1 already
    assert any("1 user without" in note and "(2 of 3" in note for note in data.notes)
    assert any("1 test interactions are in an earlier part" in note for note in data.notes)


@pytest.mark.parametrize(
    ("name", "content", "line", "said"),
    [
        ("a.csv", "user,item\n1,2\n,3\n", 3, "the user is blank"),
        ("a.csv", "user,item\n1,2\n1, \n", 3, "the item is blank"),
        ("a.csv", "1,2,3\n4,5,6\n", 1, "user,item,rating"),
        ("a.dat", "1\t2\t3\n4\t5\t6\n", 1, "holds numbers"),
        ("a.csv", "usr,item\n1,2\n", 1, "--user usr"),
        ("a.csv", "user,item\n1,2\n3\n", 3, "1 value"),
        ("a.csv", "user,movieid,artistid\n1,2,3\n", 1, "could each be the item"),
        ("a.csv", "user,item\n", None, "no rows"),
        ("a.txt", "0 1 2\n1 2\n" * 1 + "".join(f"{i} 3 4\n" for i in range(2, 80)) + "80 x\n", 81,
         "not numbers"),
    ],
)  # fmt: skip
def test_a_fault_is_placed(name, content, line, said, write) -> None:
    error = raised(write(name, content))
    assert error.line == line
    assert said in str(error)


def test_a_value_that_is_no_number_matters_only_to_a_minimum(write) -> None:
    path = write("a.csv", "user,item,rating\n1,2,5\n1,3,good\n")
    assert len(read_interactions(path).parts["train"]) == 2
    error = raised(path, minimum=3)
    assert (error.line, error.column, error.value) == (3, "rating", "good")


def test_a_minimum_without_values_is_an_error(write) -> None:
    assert "--value" in str(raised(write("a.csv", "user,item\n1,2\n"), minimum=3))
    assert "--value" in str(raised(write("a.txt", "0 1\n1 2 3\n"), minimum=3))


def test_a_minimum_that_keeps_nothing_is_an_error(write) -> None:
    assert "6 or more" in str(raised(write("u.data", U_DATA), minimum=6))


# ---------------------------------------------------------------------------- the split


def dense(users: int, items: int) -> InteractionData:
    grid = np.indices((users, items)).reshape(2, -1)
    pairs = unique_pairs(grid[0], grid[1], items)
    ids = [str(i) for i in range(max(users, items))]
    return make_interactions("made", ids[:users], ids[:items], {"train": pairs}, [])


def codes(data: InteractionData, part: str) -> set[int]:
    return set((data.parts[part].users * data.items + data.parts[part].items).tolist())


def test_the_parts_share_the_interactions_out() -> None:
    data = split_interactions(dense(20, 50), test=0.2, valid=0.1)
    assert {part: len(pairs) for part, pairs in data.parts.items()} == {
        "train": 720,
        "valid": 80,
        "test": 200,
    }
    assert codes(data, "train") | codes(data, "valid") | codes(data, "test") == set(range(1000))
    for pairs in data.parts.values():
        code = pairs.users * data.items + pairs.items
        assert (np.diff(code) > 0).all()  # sorted, each once


def test_the_split_follows_the_seed_and_nothing_else() -> None:
    one, same, other = (split_interactions(dense(9, 20), seed=seed) for seed in (1, 1, 2))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert codes(split_interactions(dense(9, 20), seed=1, valid=0), "test") == codes(one, "test")


def test_users_without_training_interactions_are_not_evaluated() -> None:
    data = split_interactions(dense(200, 2), test=0.5, valid=0)
    trained = set(data.parts["train"].users.tolist())
    assert set(data.parts["test"].users.tolist()) <= trained
    assert len(data.parts["test"]) < 200
    assert any("without interactions to train on" in note for note in data.notes)


def test_given_parts_stay_and_valid_0_trains_on_valid() -> None:
    given = split_interactions(dense(20, 50))
    assert split_interactions(given, seed=5).fingerprint == given.fingerprint
    merged = split_interactions(given, valid=0)
    assert codes(merged, "train") == codes(given, "train") | codes(given, "valid")
    assert list(merged.parts) == ["train", "test"]


def test_a_share_that_leaves_nothing_is_an_error() -> None:
    with pytest.raises(DataError, match="2 interactions are too few"):
        split_interactions(dense(1, 2), test=0.2)
    with pytest.raises(ValueError, match="test must lie"):
        split_interactions(dense(9, 9), test=0)
