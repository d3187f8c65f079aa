"""Methods have titles for people, each its own."""

from research.assessment.titles import told


def titles(*names):
    return [title for title, _ in told(names, {}).values()]


def test_titles_are_short_where_they_can_be():
    names = ("point", "swag(rank=10)", "ensemble(ivon, num_members=3)", "platt")
    assert titles(*names) == ["As it is", "SWAG", "Ensemble: IVON", "Platt scaling"]


def test_the_options_tell_two_of_a_kind_apart():
    told_apart = titles("swag", "swag(rank=10)", "head: point(weight_decay=0.1)")
    assert told_apart == ["SWAG", "SWAG (rank 10)", "Head: trained anew"]


def test_what_a_method_is_and_was_told():
    about = told(["head: ensemble(point, num_members=5)"], {}).popitem()[1][1]
    assert "num members 5" in about
    assert about.endswith("Only the head was trained.")
