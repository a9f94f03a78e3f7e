"""WHAT: plain functions, arrays in, values out. No Prefect, MLflow, files, clock or network."""

import os

#: TensorFlow computes on one thread: a training's bits then depend on neither the number of cores
#: nor their load. Its networks are too small to gain by more; trainings side by side do.
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")

for _name in THREADS:  # TensorFlow reads them once, at its first operation
    os.environ.setdefault(_name, "1")
