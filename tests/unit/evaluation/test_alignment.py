"""Word alignments: the error rate by hand, symmetrisation by its order, links out of attention."""

import gzip
import random
from pathlib import Path

import numpy as np
import pytest

from mtrain.errors import UserError
from mtrain.evaluation.alignment import (
    SYMMETRISATIONS,
    Gold,
    alignment_error_rate,
    format_links,
    read_alignments,
    symmetrise,
    word_links,
)
from mtrain.text.links import Link
from mtrain.text.tokenizer import word_numbers

SEEDS = range(60)

# Where the order decides: grown by a transcription of Moses' symal.cpp.
MOSES = [
    ("0-0 0-1", "0-0 1-1", "0-0 0-1 1-1"),
    ("0-2 2-0 2-1", "0-2 1-1 2-0", "0-2 1-1 2-0 2-1"),
    ("1-2 2-0 2-1", "0-1 1-2 2-0", "0-1 1-2 2-0 2-1"),
]


def random_directions(seed: int) -> tuple[set[Link], set[Link]]:
    """Return a source word for most target words, and the other way round, mostly agreeing."""
    generator = random.Random(seed)
    num_source, num_target = generator.randint(1, 12), generator.randint(1, 12)

    def near(place: int, length: int, other: int) -> int:
        return min(other - 1, max(0, place * other // length + generator.randint(-2, 2)))

    forward = {(near(j, num_target, num_source), j) for j in range(num_target)}
    backward = {(i, near(i, num_source, num_target)) for i in range(num_source)}
    kept_forward, kept_backward = (
        {link for link in sorted(links) if generator.random() < 0.9}
        for links in (forward, backward)
    )
    return kept_forward, kept_backward


def transposed(links: set[Link]) -> set[Link]:
    return {(target, source) for source, target in links}


def golds(*sure: set[Link]) -> list[Gold]:
    return [Gold(links, links) for links in sure]


def test_the_error_rate_by_hand() -> None:
    gold = Gold(sure={(0, 0), (1, 1)}, possible={(0, 0), (1, 1), (2, 1), (2, 2)})
    scored = alignment_error_rate([{(0, 0), (2, 2), (1, 0)}], [gold])
    assert (scored.links, scored.sure_links) == (3, 2)
    assert (scored.links_possible, scored.links_sure) == (2, 1)
    assert scored.precision == 2 / 3
    assert scored.recall == 1 / 2
    assert scored.aer == pytest.approx(1 - (1 + 2) / (3 + 2))


def test_sentences_weigh_as_much_as_they_have_links() -> None:
    wanted = golds({(0, 0)}, {(0, 0), (1, 1), (2, 2)})
    scored = alignment_error_rate([{(5, 5)}, {(0, 0), (1, 1), (2, 2)}], wanted)
    assert (scored.sentences, scored.precision, scored.recall) == (2, 3 / 4, 3 / 4)
    assert scored.aer == pytest.approx(1 / 4)  # not the mean of 1 and 0


@pytest.mark.parametrize("seed", SEEDS[:20])
def test_the_sure_links_themselves_have_no_error_and_neither_have_possible_ones_beside(
    seed: int,
) -> None:
    sure, others = random_directions(seed)
    gold = Gold(sure, sure | others)
    for links in (sure, sure | others):
        scored = alignment_error_rate([links], [gold])
        assert (scored.aer, scored.precision, scored.recall) == (0, 1, 1)


@pytest.mark.parametrize("seed", SEEDS[:20])
def test_without_possible_links_the_error_rate_is_one_minus_f(seed: int) -> None:
    links, sure = random_directions(seed)
    scored = alignment_error_rate([links], golds(sure))
    mean = scored.precision * scored.recall * 2 / max(1e-9, scored.precision + scored.recall)
    assert scored.aer == pytest.approx(1 - mean)


@pytest.mark.parametrize(
    ("links", "sure", "wanted"),
    [(set(), set(), (0, 1, 1)), (set(), {(0, 0)}, (1, 1, 0)), ({(0, 0)}, set(), (1, 0, 1))],
)
def test_no_links_are_no_division_by_zero(
    links: set[Link], sure: set[Link], wanted: tuple[int, int, int]
) -> None:
    scored = alignment_error_rate([links], golds(sure))
    assert (scored.aer, scored.precision, scored.recall) == wanted


def test_files_are_read_from_the_index_they_count_from(tmp_path: Path) -> None:
    path = tmp_path / "gold.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf1-1 2p3 2-1\r\n\n 1p1\t1-1\n"))
    first, second, third = read_alignments(path, first_index=1)
    assert first == Gold({(0, 0), (1, 0)}, {(0, 0), (1, 0), (1, 2)})
    assert second == Gold(set(), set())
    assert third == Gold({(0, 0)}, {(0, 0)})  # sure, for one of the two that say it


@pytest.mark.parametrize("seed", SEEDS[:20])
def test_links_written_are_the_links_read(seed: int, tmp_path: Path) -> None:
    alignments = random_directions(seed)
    path = tmp_path / "links"
    path.write_text("".join(format_links(links) + "\n" for links in alignments))
    assert read_alignments(path) == golds(*alignments)


def test_links_are_written_in_order() -> None:
    assert format_links({(10, 0), (9, 3), (0, 0), (9, 2)}) == "0-0 9-2 9-3 10-0"
    assert format_links(set()) == ""


@pytest.mark.parametrize("bad", ["0", "0-", "-1-2", "a-b", "0--1", "1-2-3", "1s2", "0,1", "²-1",
                                 "9" * 5000 + "-1", "0-\udcff", "１-2"])  # fmt: skip
def test_what_is_no_link_is_named_with_its_line(bad: str, tmp_path: Path) -> None:
    path = tmp_path / "gold"
    path.write_bytes(f"0-0\n0-0 {bad} 1-1\n".encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"gold:2: '.{1,40}' is not a link"):
        read_alignments(path)


@pytest.mark.parametrize("link", ["0-1", "1-0", "1p0"])
def test_an_index_before_the_first_is_named_with_its_line(link: str, tmp_path: Path) -> None:
    path = tmp_path / "gold"
    path.write_text(f"1-1\n{link}\n")
    assert len(read_alignments(path)) == 2
    with pytest.raises(UserError, match=f"gold:2: the link {link}") as raised:
        read_alignments(path, first_index=1)
    assert "from 1 or from 0" in raised.value.hint


def test_growing_by_hand() -> None:
    """The agreed 0-0 reaches 1-1 and no further; 3-3 is far, 1-4 shares the word 1."""
    forward, backward = {(0, 0), (1, 1), (3, 3)}, {(0, 0), (1, 4), (3, 5)}
    grown = {(0, 0), (1, 1)}
    assert symmetrise(forward, backward, "intersection") == {(0, 0)}
    assert symmetrise(forward, backward, "grow-diag") == grown
    final = symmetrise(forward, backward, "grow-diag-final")
    assert final == {*grown, (3, 3), (1, 4), (3, 5)}
    assert symmetrise(forward, backward, "grow-diag-final-and") == {*grown, (3, 3)}
    assert symmetrise(backward, forward, "grow-diag-final-and") == {*grown, (3, 5)}


def test_growing_goes_on_from_what_has_grown_and_only_to_words_without_a_link() -> None:
    chain = {(place, place) for place in range(6)}
    assert symmetrise(chain, {(0, 0)}, "grow-diag") == chain
    assert symmetrise(chain, {(5, 5)}, "grow-diag") == chain  # against the order of the scan
    square = {(0, 0), (1, 1)}
    assert symmetrise(square, {*square, (0, 1)}, "grow-diag-final") == square


@pytest.mark.parametrize(("forward", "backward", "wanted"), MOSES)
def test_growing_goes_in_the_order_of_moses(
    forward: str, backward: str, wanted: str, tmp_path: Path
) -> None:
    path = tmp_path / "links"
    path.write_text(f"{forward}\n{backward}\n")
    first, second = read_alignments(path)
    assert format_links(symmetrise(first.sure, second.sure, "grow-diag")) == wanted


@pytest.mark.parametrize("seed", SEEDS)
def test_methods_take_more_and_more_of_the_union(seed: int) -> None:
    forward, backward = random_directions(seed)
    made = {name: symmetrise(forward, backward, name) for name in SYMMETRISATIONS}
    assert made["intersection"] == forward & backward
    assert made["union"] == forward | backward
    assert made["intersection"] <= made["grow-diag"] <= made["grow-diag-final"] <= made["union"]
    assert made["grow-diag"] <= made["grow-diag-final-and"] <= made["union"]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_final_step_leaves_no_linked_word_alone(seed: int) -> None:
    forward, backward = random_directions(seed)
    final = symmetrise(forward, backward, "grow-diag-final")
    for side in (0, 1):
        assert {link[side] for link in final} == {link[side] for link in forward | backward}
    both = symmetrise(forward, backward, "grow-diag-final-and")
    for link in forward | backward:  # at least one of its words is linked
        assert link[0] in {source for source, _ in both} or link[1] in {end for _, end in both}


@pytest.mark.parametrize("name", SYMMETRISATIONS)
@pytest.mark.parametrize("seed", SEEDS[:50])
def test_what_both_directions_say_stands_and_inputs_are_left_alone(name: str, seed: int) -> None:
    forward, backward = random_directions(seed)
    before = (set(forward), set(backward))
    assert symmetrise(forward, forward, name) == forward
    symmetrise(forward, backward, name)
    assert (forward, backward) == before


@pytest.mark.parametrize("name", ["intersection", "union"])
@pytest.mark.parametrize("seed", SEEDS[:50])
def test_what_depends_on_no_order_is_the_same_from_the_other_side(name: str, seed: int) -> None:
    forward, backward = random_directions(seed)
    turned = symmetrise(transposed(backward), transposed(forward), name)
    assert turned == transposed(set(symmetrise(forward, backward, name)))


def test_attention_of_pieces_becomes_links_of_words_by_hand() -> None:
    # source: two pieces of word 0, one of word 1, an end mark; target: word 0, two of word 1, end
    weights = np.array(
        [
            [0.3, 0.3, 0.4, 0.0],  # the two pieces of word 0 together are more than word 1
            [0.1, 0.1, 0.8, 0.0],
            [0.5, 0.1, 0.3, 0.1],  # alone it would choose word 0
            [0.0, 0.0, 0.0, 1.0],
        ]
    )
    assert word_links(weights, [0, 0, 1, -1], [0, 1, 1, -1]) == {(0, 0), (1, 1)}


def test_a_word_that_attends_most_to_what_is_no_word_has_no_link() -> None:
    weights = np.array([[0.4, 0.3, 0.3], [0.6, 0.2, 0.2]])
    assert word_links(weights, [0, -1, -1], [0, 1]) == {(0, 1)}  # 0.3 + 0.3 is one candidate
    assert word_links(weights, [-1, -1, -1], [0, 1]) == set()


@pytest.mark.parametrize("seed", range(20))
def test_each_word_has_one_link_at_most_and_end_marks_of_the_target_change_none(seed: int) -> None:
    generator = np.random.default_rng(seed)
    source_words, target_words = [0, 0, 1, 2, 2, 2, -1], [0, 1, 1, 2, 3, -1]
    weights = generator.dirichlet(np.ones(7), size=6).astype(np.float32)
    links = word_links(weights, source_words, target_words)
    assert {source for source, _ in links} <= {0, 1, 2}
    assert len({target for _, target in links}) == len(links) <= 4
    assert word_links(weights[:-1], source_words, target_words[:-1]) == links
    assert word_links(weights * 3, source_words, target_words) == links  # where the mean is the sum


def test_a_piece_a_word_is_the_largest_weight_of_each_row() -> None:
    weights = np.random.default_rng(1).random((5, 7))
    wanted = {(int(weights[target].argmax()), target) for target in range(5)}
    assert word_links(weights, word_numbers(["▁a"] * 7), word_numbers(["▁b"] * 5)) == wanted


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_links_to_nothing(shape: tuple[int, int]) -> None:
    assert word_links(np.zeros(shape), range(shape[1]), range(shape[0])) == set()
