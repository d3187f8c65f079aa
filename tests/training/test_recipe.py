"""Recipes: read as text, never evaluated; a wrong one is an error of one line."""

import optax
import pytest

from research.models import chain
from research.models.layers import Dense
from research.runtime.errors import UserError
from research.training import recipe
from research.training.recipe import Context, Recipe, parse


def _context():
    model = chain.as_model(chain.Chain((Dense("predictions", 2),)))
    return Context(model, 10, 4, 2, optax.sgd(0.1), 0.1)


def test_a_line_is_read_and_written_again():
    recipes = parse("point, ensemble(mc_dropout(num_samples=3), num_members=2)")
    inner = Recipe("mc_dropout", None, (("num_samples", 3),))
    assert recipes == (Recipe("point"), Recipe("ensemble", inner, (("num_members", 2),)))
    assert parse(",".join(str(one) for one in recipes)) == recipes


def test_the_same_recipe_twice_is_one():
    assert parse("point,point") == (Recipe("point"),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("pint", "there is no method pint; choose from"),
        ("point(", "write them as in"),
        ("point(rank=3)", "point has no option rank"),
        ("ensemble", "ensemble is written as in ensemble(point)"),
        ("ensemble(point, point)", "is written as in"),
        ("mc_dropout(3)", "is written as in mc_dropout(num_samples=...)"),
        ("mc_dropout(num_samples=open('x'))", "give a number or a word"),
        ("mc_dropout(num_samples=[1, 2])", "give a number or a word"),
        ("mc_dropout(**x)", "write them as in"),
        ("__import__('os').system('true')", "write them as in"),
        ("1", "write them as in"),
        ("vector", "vector is written as in vector(point)"),
        ("ensemble(temperature(swag))", "put it outside, as in temperature(ensemble(point))"),
    ],
)
def test_bad_text_is_an_error_of_one_line(text, problem):
    with pytest.raises(UserError, match="methods") as caught:
        parse(text)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_change_the_training():
    assert parse("mc_dropout")[0].training.start == "point"
    training = parse("ensemble(mc_dropout(start=scratch, epochs=0.5))")[0].training
    assert (training.start, training.epochs) == ("scratch", 0.5)
    for wrong in ("point(start=nowhere)", "point(epochs=-1)", "point(keep=2)"):
        with pytest.raises(UserError, match=r"choose from|give a number"):
            parse(wrong)


def test_what_is_trained_first():
    def first(text):
        return str(parse(text)[0].start)

    assert first("point") == "None"
    assert first("mc_dropout(num_samples=2)") == "point"
    assert first("temperature(mc_dropout)") == "point"
    assert first("temperature(ensemble(mc_dropout, num_members=3))") == (
        "ensemble(point, num_members=3)"
    )


def test_calibrators_stand_around_a_method():
    calibrated = parse("vector(temperature(ensemble(mc_dropout)))")[0]
    assert recipe.calibrators_of(calibrated) == ("temperature", "vector")
    assert str(recipe.uncalibrated(calibrated)) == "ensemble(mc_dropout)"
    assert recipe.calibrators_of(parse("ensemble(point)")[0]) == ()
    assert recipe.build(calibrated, _context()).members == 5


def test_factories_get_the_context_by_their_parameters():
    method = recipe.build(
        parse("ensemble(mc_dropout(num_samples=3), num_members=2)")[0], _context()
    )
    assert (method.num_draws, method.members) == (6, 2)


def test_options_go_where_they_are_known_and_not_given():
    (ensemble,) = parse("ensemble(mc_dropout, num_members=2)")
    assert str(recipe.with_options(ensemble, num_samples=7, num_members=9)) == (
        "ensemble(mc_dropout(num_samples=7), num_members=2)"
    )


def test_every_base_method_has_a_training():
    names = recipe.method_names()
    assert {"point", "ensemble"} <= set(names)
    for name in names:
        if not recipe.is_wrapper(name):
            assert Recipe(name).training
