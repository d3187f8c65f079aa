from tests.report.conftest import FIT, make_method, make_result, make_split


def steps(result: dict) -> str:
    return "\n".join(result["next"])


def with_method(nll: float, fit: dict | None) -> dict:
    before = make_method(splits={"test": make_split(nll=0.4)})
    after = make_method("MC dropout", splits={"test": make_split(nll=nll)}, temperature=fit)
    return make_result({"point": before, "method": after})


def test_a_temperature_that_helps_is_given_as_a_formula():
    assert "p ** (1 / 2.31)" in with_method(0.2, FIT)["next"][0]


def test_another_method_that_helps_is_named():
    step = with_method(0.2, None)["next"][0]
    assert "MC dropout: NLL 0.200 [0.180, 0.220] instead of 0.400 [0.360, 0.440]." in step
    assert "It takes 41.2 ms an image." in step
    assert "kept" not in step
    before, after = (make_method(splits={"test": make_split(nll=nll)}) for nll in (0.4, 0.2))
    given = make_result({"point": before, "method": after | {"milliseconds_per_image": None}})
    assert "ms an image" not in given["next"][0]  # there were predictions and no network
    trained = make_result({"point": before, "method": after | {"training_seconds": 75.0}})
    assert "took 1 min 15 s to train, takes 41.2 ms an image, and is kept" in trained["next"][0]


def test_a_method_within_chance_is_not_advised():
    assert "1 / 2.31" not in steps(with_method(0.39, FIT))


def test_more_images_at_the_rate_of_mistakes_so_far():
    few = make_result({"point": make_method(splits={"test": make_split(n=300, errors=4)})})
    assert "about 7,500 hold 100 mistakes" in steps(few)  # 100 mistakes at 4 in 300
    none = make_result({"point": make_method(splits={"test": make_split(errors=0)})})
    assert "no mistake in 1,000" in steps(none)
    assert "Collect" not in steps(make_result())


def test_abstaining_is_advised_where_it_helps():
    split = make_split(errors=40)
    split["metrics"]["accuracy_at_coverage_0.9"]["low"] = 0.95  # within the interval without it
    assert "to a person" in steps(make_result())
    assert "to a person" not in steps(make_result({"point": make_method(splits={"test": split})}))


def test_commands_survive_odd_file_names():
    splits = {name: make_split() for name in ("train", "valid", "test")}
    methods = {"point": make_method(splits=splits)}
    result = make_result(methods, model={"source": "my model; rm x.keras"})
    assert result["next"][-1].endswith("--data photos/ --model 'my model; rm x.keras'")


def test_someone_without_a_model_learns_how_to_bring_one():
    assert "--model model.keras" in make_result(model={"imported": False})["next"][-1]


def test_rounded_probabilities_call_for_logits():
    assert "linear last layer" in steps(make_result(model={"saturated_output": True}))
    assert "linear last layer" not in steps(make_result())


def test_mistakes_are_to_be_inspected(full_result):
    assert "most confident mistakes" in steps(full_result)
    assert "most confident mistakes" not in steps(make_result())
