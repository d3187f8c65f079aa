"""Which weights are stochastic."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.method import Model
from research.models import chain
from research.models.vgg import VGG16
from research.posteriors.parameters import fan_in, join, split
from research.runtime.errors import UserError

IMAGES = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)


@pytest.fixture(scope="module")
def vgg():
    model = chain.as_model(VGG16(10, "cifar", 0.05))
    return model, jax.eval_shape(model.init, jax.random.key(0), IMAGES)


@pytest.mark.parametrize(
    ("which", "layers"),
    [("last", {"predictions"}), ("head", {"fc1", "fc2", "predictions"}), ("all", None)],
)
def test_the_named_Dense_are_uncertain(vgg, which, layers):
    model, params = vgg
    stochastic, deterministic = split(params, model, which, with_biases=True)
    assert {path.split("/")[0] for path in stochastic} == (layers or set(params))
    assert len(stochastic) + len(deterministic) == 2 * 16
    assert not set(stochastic) & set(deterministic)
    assert join(stochastic, deterministic) == params


def test_pitfall_10_biases_are_stochastic_only_with_an_option(vgg):
    model, params = vgg
    stochastic, deterministic = split(params, model, "head", with_biases=False)
    assert set(stochastic) == {"fc1/kernel", "fc2/kernel", "predictions/kernel"}
    assert "predictions/bias" in deterministic


def test_nested_modules_and_their_fan_in():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Block(name="block")(x)

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2, name="second")(nn.Dense(4, name="first")(x))

    params = jax.jit(Net().init)(jax.random.key(0), jnp.ones((1, 3)))["params"]
    model = Model(None, None, ("block",), ("block",))
    stochastic, deterministic = split(params, model, "last", with_biases=True)
    assert not deterministic
    paths = ("block/first/kernel", "block/first/bias", "block/second/bias")
    assert [fan_in(path, stochastic) for path in paths] == [3, 3, 4]
    np.testing.assert_array_equal(
        join(stochastic, deterministic)["block"]["second"]["kernel"],
        params["block"]["second"]["kernel"],
    )


def test_a_bare_layer_and_a_scale_have_a_fan_in():
    assert fan_in("bias", {"kernel": jnp.ones((5, 2)), "bias": jnp.ones(2)}) == 5
    assert fan_in("norm/scale", {"norm/scale": jnp.ones(4)}) == 1


def test_a_network_without_a_head_is_an_error():
    model = Model(None, None, ("conv",), ())
    with pytest.raises(UserError, match=r"bayes=head.*choose bayes=all"):
        split({"conv": {"kernel": jnp.ones((3, 3, 1, 2))}}, model, "head", with_biases=True)
