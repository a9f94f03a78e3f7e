"""The vocabulary of MLflow: every tag, parameter and artifact folder that this project names.

A name that is stored stays as it is: versions that were sealed are verified by it. A name that ends
in a dot is the beginning of several, and the function below it makes one of them.
"""

from __future__ import annotations

#: How every tag and parameter of ours begins, but for those of git and Prefect.
PREFIX = "holter."

# Of every run: what it is, and which code and environment made it.
KIND_TAG = "holter.kind"
REASON_TAG = "holter.reason"
GIT_COMMIT_TAG = "git.commit"
GIT_DIRTY_TAG = "git.dirty"
GIT_CHANGES_TAG = "git.changes_sha256"
FLOW_RUN_TAG = "prefect.flow_run_id"
ENVIRONMENT_TAG = "holter.environment_sha256"
PYTHON_TAG = "holter.python"
TENSORFLOW_THREADS_TAG = "holter.tensorflow_threads"
#: The GPUs that TensorFlow computed on; a run without it had none.
ACCELERATOR_TAG = "holter.accelerator"
#: Digest of the code that shapes beat tables, and of what their signal is prepared by.
BEAT_CODE_TAG = "holter.beat_code_sha256"
PREPROCESSING_TAG = "holter.preprocessing_sha256"
#: Tags of a run that hold the digest of one of its artifacts.
ARTIFACT_TAG = "holter.sha256."
#: Tags of a run that hold one digest of all artifacts under a folder.
FOLDER_TAG = "holter.sha256_folder."

# Of a training's run and of the version that it made.
DATASET_TAG = "holter.dataset"
DATASET_SHA256_TAG = "holter.dataset_sha256"
SPEC_TAG = "holter.spec_sha256"
SIMULATED_TAG = "holter.simulated"
SPLIT_TAG = "holter.split_sha256"
SPLIT_SEED_TAG = "holter.split_seed"
PARADIGM_TAG = "holter.paradigm"
#: The network, by its name in the table of networks; a version without it is called by its network.
NETWORK_TAG = "holter.network"
TESTSET_TAG = "holter.testset"
TESTSET_SHA256_TAG = "holter.testset_sha256"
THRESHOLD_TAG = "holter.threshold"
SMOOTHING_CHANGE_TAG = "holter.smoothing_change"
#: How answers become what is told (`tasks.scores.rule`), as JSON.
CERTAINTY_TAG = "holter.certainty"
PARAMETERS_TAG = "holter.parameters"
MULTIPLY_ADDS_TAG = "holter.multiply_adds"
#: The runtime that a release is run by, or that a device ran it by; with a dot, one of those that
#: it may be run by.
RUNTIME_TAG = "holter.runtime"
#: Of a device's report: the runtime, its threads, and what it was chosen by.
CHOICE_TAG = "holter.choice"
#: The version's: digest of its sealed chain.
CHAIN_SHA256_TAG = "holter.chain_sha256"
#: The version that a student learnt from, its run and its weights' digest.
TEACHER_TAG = "holter.teacher"
TEACHER_RUN_TAG = "holter.teacher_run_id"
TEACHER_SHA256_TAG = "holter.teacher_weights_sha256"

# Of a run about a version: a request to a device, an evaluation, a look for drift.
MODEL_TAG = "holter.model"
VERSION_TAG = "holter.version"
MODEL_RUN_TAG = "holter.model_run_id"
MODEL_SHA256_TAG = "holter.model_sha256"
TRAINING_RUN_TAG = "holter.training_run_id"
TESTSET_RUN_TAG = "holter.testset_run_id"
TESTSET_PATH_TAG = "holter.testset_path"
DEVICE_TAG = "holter.device"
DEVICE_KIND_TAG = "holter.device_kind"
INSTALL_TAG = "holter.install"
ROLL_BACK_TAG = "holter.roll_back"
EDGE_RUN_TAG = "holter.edge_run_id"
#: Of a look for drift: what came of it, in words.
DRIFTED_TAG = "holter.drift"
#: The agent that holds a request; of a device's experiment, what its agent said last.
AGENT_TAG = "holter.agent"
#: Of a device's experiment: the group that it is in.
GROUP_TAG = "holter.group"

# Of a registered model.
#: The number of its ledger's newest entry and that one's SHA-256.
LEDGER_TAG = "holter.ledger"

# Parameters that may be logged once.
#: The agent that holds a request, by number of the claim.
CLAIM_PARAM = "holter.claim."
#: The report that is a request's only one, or that it was withdrawn.
REPORT_PARAM = "holter.report"
#: An entry of a ledger, before its number of six digits or more.
ENTRY_PARAM = "entry."
#: Of an evaluation: the patients that the version learnt from were left out.
UNSEEN_PARAM = "unseen"

# Folders of a run's artifacts.
INPUTS_FOLDER = "inputs"
TESTSET_FOLDER = "testset"
FIGURES_FOLDER = "figures"
CHAIN_FOLDER = "chain"
CARD_FOLDER = "card"
PROMOTIONS_FOLDER = "promotions"
EVALUATION_FOLDER = "evaluation"
DRIFT_FOLDER = "drift"
LINEAGE_FOLDER = "lineage"
REPORT_FOLDER = "report"


def artifact_tag(file: str) -> str:
    """The tag of a run, or of a version, that holds the digest of an artifact."""
    return f"{ARTIFACT_TAG}{file}"


def folder_tag(folder: str) -> str:
    """The tag of a run that holds one digest of all artifacts under a folder."""
    return f"{FOLDER_TAG}{folder}"


def dataset_sha256_tag(dataset: str) -> str:
    """The tag of an evaluation's run that holds the digest of a data set."""
    return f"{DATASET_SHA256_TAG}.{dataset}"


def runtime_tag(runtime: str) -> str:
    """The tag of a version that says how a runtime of its release did beside Keras, as JSON."""
    return f"{RUNTIME_TAG}.{runtime}"


def decision_tag(alias: str, name: str) -> str:
    """A tag that the last decision about an alias left on its version."""
    return f"{PREFIX}{alias}.{name}"


def claim_param(number: int) -> str:
    """The parameter of a request that names the agent of a claim."""
    return f"{CLAIM_PARAM}{number}"


def entry_param(number: int) -> str:
    """The parameter of a ledger's run that holds the entry of a number."""
    return f"{ENTRY_PARAM}{number:06d}"


def report_folder(claim: int) -> str:
    """Where a claim's report lies among its request's artifacts."""
    return REPORT_FOLDER if claim == 1 else f"{REPORT_FOLDER}-{claim}"
