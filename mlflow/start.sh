#!/bin/sh
# The MLflow server as `holter up` starts it: loopback, SQLite and artifacts in the state folder.
set -eu
umask 077 # recordings' names and figures are nobody else's
home=${HOLTER_HOME:-.holter}
mkdir -p "$home/mlflow"
home=$(cd "$home" && pwd)
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
exec mlflow server --host 127.0.0.1 --port "${1:-5000}" --workers 1 \
    --backend-store-uri "sqlite:///$home/mlflow/mlflow.db" \
    --artifacts-destination "$home/mlflow/artifacts"
