"""The names of tags that runs and versions carry in MLflow."""

from __future__ import annotations

#: The version's: digest of its sealed chain.
CHAIN_SHA256_TAG = "holter.chain_sha256"
#: Tags of a run that hold the digest of one of its artifacts.
ARTIFACT_TAG = "holter.sha256."
#: Tags of a run that hold one digest of all artifacts under a folder.
FOLDER_TAG = "holter.sha256_folder."
#: Tags of a student's run and version: the version it learnt from, its run and its weights' digest.
TEACHER_TAG = "holter.teacher"
TEACHER_RUN_TAG = "holter.teacher_run_id"
TEACHER_SHA256_TAG = "holter.teacher_weights_sha256"
