"""A network of your own by one decorated function: `python add_network.py`.

In a module that `tasks/networks/models.py` imports, `holter train DATASET --model wide_average`
finds it, and conversion, registration and devices follow.
"""

import numpy as np

from tasks.networks.cost import multiply_adds
from tasks.networks.models import Model, available_models, build, model


@model("wide_average")
def wide_average() -> Model:
    """Build one wide convolution and an average over the beat."""
    import keras

    beat = keras.Input((300, 1), name="waveform")  # mV, the R peak at index 100
    x = keras.layers.Conv1D(16, 31, strides=4, activation="relu")(beat)
    x = keras.layers.GlobalAveragePooling1D()(x)
    answer = keras.layers.Dense(2, activation="softmax", name="af")(x)  # not AF, AF
    return keras.Model(beat, answer, name="wide_average")


def main() -> None:
    """Build it by its name, and ask it about a beat."""
    network = build("wide_average", seed=0)
    print(f"wide_average is one of {len(available_models())} networks")
    print(f"{network.count_params()} parameters, {multiply_adds(network)} multiply-adds a beat")
    answer = network(np.zeros((1, 300, 1), np.float32)).numpy()[0]
    print(f"untrained, of a flat beat: not AF {answer[0]:.2f}, AF {answer[1]:.2f}")


if __name__ == "__main__":
    main()
