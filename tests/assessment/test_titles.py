"""Methods have titles for people, each its own."""

from research.assessment.titles import titles


def titles_of(*names):
    return [title for title, _ in titles(names, {}).values()]


def test_titles_are_short_where_they_can_be():
    names = ("point", "swag(rank=10)", "ensemble(ivon, num_members=3)", "platt")
    assert titles_of(*names) == ["As it is", "SWAG", "Ensemble: IVON", "Platt scaling"]


def test_the_options_distinguish_two_of_a_kind():
    distinct = titles_of("swag", "swag(rank=10)", "head: point(weight_decay=0.1)")
    assert distinct == ["SWAG", "SWAG (rank 10)", "Head: trained anew"]


def test_what_a_method_is_and_its_options():
    about = titles(["head: ensemble(point, num_members=5)"], {}).popitem()[1][1]
    assert "num members 5" in about
    assert about.endswith("Only the head was trained.")
