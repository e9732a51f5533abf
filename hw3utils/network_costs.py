"""What a layer table adds up to: totals, bytes, and what small kernels save.

For sums over `architectures.layer_table`; nothing here looks at a network.
"""

import pandas as pd

__all__ = ["memory", "stack_savings", "totals"]

_COUNTS = ("activations", "weights", "biases", "parameters", "multiply_accumulates")


def totals(table: pd.DataFrame) -> dict[str, int]:
    """Return the sums of a layer table's columns of counts.

    Returns
    -------
    dict
        ``activations`` (the input's own numbers included), ``weights``, ``biases``,
        ``parameters`` and ``multiply_accumulates``.
    """
    return {name: int(table[name].sum()) for name in _COUNTS}


def memory(table: pd.DataFrame, batch_size: int = 1, bytes_per_number: int = 4) -> dict[str, int]:
    """Return the bytes that prediction and training keep, as estimated from a layer table.

    Training with SGD and momentum keeps every layer's output until the backward pass has used it,
    as many gradients again, and for each parameter its value, its gradient and its momentum. What
    an implementation adds (work space, fragmentation) or saves (a prediction drops each output
    once it is used, gradients are freed on the way) is not in it: real numbers differ.

    Parameters
    ----------
    table : pandas.DataFrame
        From `architectures.layer_table`.
    batch_size : int
        Images in a minibatch; the activations grow with it, the parameters do not.
    bytes_per_number : int
        4 for float32, 2 for bfloat16.

    Returns
    -------
    dict
        Bytes: ``activations``, ``activation_gradients``, ``parameters``, ``parameter_gradients``,
        ``momentum``, and the sums ``forward`` and ``forward_and_backward``.

    Raises
    ------
    ValueError
        A number is not a positive integer.
    """
    _check_positive(batch_size=batch_size, bytes_per_number=bytes_per_number)
    counts = totals(table)
    activations = counts["activations"] * batch_size * bytes_per_number
    parameters = counts["parameters"] * bytes_per_number
    return {
        "activations": activations,
        "activation_gradients": activations,
        "parameters": parameters,
        "parameter_gradients": parameters,
        "momentum": parameters,
        "forward": activations + parameters,
        "forward_and_backward": 2 * activations + 3 * parameters,
    }


def stack_savings(kernel: int, channels: int) -> pd.DataFrame:
    """Compare one K×K convolution with the stack of 3×3 convolutions of the same receptive field.

    All convolutions have ``channels`` inputs and outputs, stride 1 and no biases. The stack has
    N = (K − 1)/2 layers, because 3N − N + 1 = K (Simonyan & Zisserman 2015, Sec. 2.3).

    Returns
    -------
    pandas.DataFrame
        Two rows, the single layer and the stack: ``design``, ``layers``, ``formula``, ``weights``
        (also the multiply–accumulates at each position), ``relus``, ``saving`` (fraction of the
        single layer's weights).

    Raises
    ------
    ValueError
        The kernel is even (no stack of 3×3 has an even receptive field) or smaller than 3, or a
        number is not a positive integer.
    """
    _check_positive(kernel=kernel, channels=channels)
    if kernel < 3 or kernel % 2 == 0:
        raise ValueError(
            f"kernel={kernel}: a stack of 3×3 convolutions has an odd receptive field of 3 or "
            "more; choose 3, 5, 7, …"
        )
    depth = (kernel - 1) // 2
    single, stacked = kernel**2 * channels**2, depth * 9 * channels**2
    rows = [
        (f"one {kernel}×{kernel}", 1, f"{kernel}²·{channels}²", single, 1, 0.0),
        (f"{depth} × 3×3", depth, f"{depth}·3²·{channels}²", stacked, depth, 1 - stacked / single),
    ]
    columns = ["design", "layers", "formula", "weights", "relus", "saving"]
    return pd.DataFrame(rows, columns=columns)


def _check_positive(**numbers: int) -> None:
    """Refuse anything but positive integers, by name."""
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name}={number!r}: expected a positive integer")
