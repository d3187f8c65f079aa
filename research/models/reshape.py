"""The same network with more or less dropout, or a wider or narrower head."""

from research.models.chain import Dense, Dropout, Layer, cut


def reshape(
    layers: tuple[Layer, ...], dropout: float | None = None, head_width: int | None = None
) -> tuple[Layer, ...]:
    """Changes a network after its last convolution.

    Args:
        layers: the network, or only its head.
        dropout: the rate of every dropout layer there, 0 to below 1; None: as they are.
        head_width: units of every dense layer there but the last; None: as they are.
    """
    base, head = cut(layers)
    last = max((i for i, layer in enumerate(head) if isinstance(layer, Dense)), default=-1)

    def changed(i, layer):
        if isinstance(layer, Dropout) and dropout is not None:
            return layer._replace(rate=dropout)
        if isinstance(layer, Dense) and i != last and head_width is not None:
            return layer._replace(features=head_width)
        return layer

    return base + tuple(changed(i, layer) for i, layer in enumerate(head))
