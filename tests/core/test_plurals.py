import pytest

from tasks.core.plurals import age, clock, pluralize, seconds_of


@pytest.mark.parametrize(
    ("count", "noun", "plural", "expected"),
    [
        (0, "clip", "", "0 clips"),
        (1, "clip", "", "1 clip"),
        (2, "clip", "", "2 clips"),
        (1, "address", "addresses", "1 address"),
        (0, "address", "addresses", "0 addresses"),
        (11, "address", "addresses", "11 addresses"),
    ],
)
def test_a_count_has_its_noun_in_the_right_number(count, noun, plural, expected):
    assert pluralize(count, noun, plural) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0:00"),
        (7, "0:07"),
        (59.4, "0:59"),
        (59.6, "1:00"),
        (750, "12:30"),
        (3599.4, "59:59"),
        (3599.6, "1:00:00"),
        (3723, "1:02:03"),
        (36_000, "10:00:00"),
    ],
)
def test_a_position_is_shown_as_a_clock(seconds, expected):
    assert clock(seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-3, "0 s"),  # another machine's clock may be ahead
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (86_399, "23 h"),
        (86_400, "1 day"),
        (172_799, "1 day"),
        (172_800, "2 days"),
    ],
)
def test_an_age_is_shown_in_its_largest_unit(seconds, expected):
    assert age(seconds) == expected


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("90", 90), ("90.5", 90.5), ("12:30", 750), ("1:02:03", 3723), ("0:00:07.25", 7.25)]
)
def test_a_position_is_read_as_people_write_it(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:75", "1:60:00", "1:2:3:4", "noon", "1e3", "nan", " 5", "٣", "12:"])
def test_text_that_is_no_position_is_refused(text):
    with pytest.raises(ValueError, match=r"must have minutes and seconds below 60|must be a position such as 90"):
        seconds_of(text)
