"""Layers and losses from text."""

import pytest

from koubai import nn
from koubai.errors import InputError, UnknownNameError
from koubai.nn.notation import LOSSES, NOTATION


def test_items_are_layers():
    layers = nn.parse_layers("conv8x3s2p1, ReLU,conv4x5,pool2,avgpool3,flatten,dropout0.25,batchnorm,layernorm,64,10")
    assert [type(layer) for layer in layers] == [
        nn.Conv2D, nn.ReLU, nn.Conv2D, nn.MaxPool2D, nn.AvgPool2D, nn.Flatten, nn.Dropout, nn.BatchNorm, nn.LayerNorm,
        nn.Dense, nn.Dense,
    ]  # fmt: skip
    assert layers[0].output_shape((1, 9, 9)) == (8, 5, 5)
    assert layers[2].output_shape((8, 5, 5)) == (4, 1, 1)
    assert layers[4].output_shape((4, 9, 9)) == (4, 3, 3)
    assert (layers[6].p, layers[9].units, layers[10].units) == (0.25, 64, 10)


@pytest.mark.parametrize("example", NOTATION)
def test_every_example_of_the_notation_is_read(example):
    (layer,) = nn.parse_layers(example)
    assert isinstance(layer, nn.Layer)
    assert example.rstrip("0123456789.sp") in nn.parse_layers.__doc__ or example in nn.parse_layers.__doc__


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("64,rleu,10", "item 2 of layers: 'rleu': did you mean 'relu'"),
        ("64,,10", "item 2 of layers: ''"),
        ("", "item 1 of layers: ''"),
        ("conv8", "did you mean 'conv8x3"),
        ("-3", "item 1 of layers: '-3'"),
        ("0", "item 1, '0': .*units"),
        ("dropout1.5", r"item 1, 'dropout1.5': .*p"),
        ("64,dropout.,10", r"item 2, 'dropout.'"),
        ("relu,conv8x0", "item 2, 'conv8x0'"),
        ("pool0", "item 1, 'pool0'"),
    ],
)
def test_an_item_that_means_nothing_is_named(text, message):
    with pytest.raises(InputError, match=message):
        nn.parse_layers(text)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_by_name(name):
    assert type(nn.parse_loss(name)).__name__.lower() == name
    assert name in nn.parse_loss.__doc__


def test_losses_are_found_with_hyphens_and_a_misspelt_one_is_named():
    assert isinstance(nn.parse_loss("Cross-Entropy"), nn.CrossEntropy)
    assert isinstance(nn.parse_loss("binary_cross_entropy"), nn.BinaryCrossEntropy)
    with pytest.raises(UnknownNameError, match="did you mean 'mse'"):
        nn.parse_loss("msee")
