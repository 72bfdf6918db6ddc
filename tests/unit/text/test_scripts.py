"""Scripts of a text's letters, counted with and without the table of all code points."""

from mtrain.text.characters import script_numbers
from mtrain.text.scripts import LAST_LATIN, SCRIPT_NAMES, count_letters


def test_letters_of_a_latin_text_are_counted_as_the_table_counts_them() -> None:
    for code in range(ord(LAST_LATIN) + 1):
        script = SCRIPT_NAMES.get(int(script_numbers()[code]))
        assert count_letters(chr(code)) == ({script: 1} if script else {}), hex(code)
    every = "".join(map(chr, range(ord(LAST_LATIN) + 1)))
    assert count_letters(every)["Latn"] == count_letters(every + "\u0416")["Latn"] > 300
    assert count_letters("") == {}
