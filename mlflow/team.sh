#!/bin/sh
# MLflow of a team's server: accounts, nothing allowed that was not granted, hosts and origins named.
set -eu
: "${HOLTER_DB:?user:password@host of PostgreSQL, with databases mlflow and auth}"
: "${HOLTER_DOMAIN:?the domain that mlflow. and prefect. are served below}"
: "${MLFLOW_AUTH_ADMIN_PASSWORD:?the first password of the account admin}"
: "${MLFLOW_FLASK_SERVER_SECRET_KEY:?a random key that signs sessions}"
if [ ${#MLFLOW_AUTH_ADMIN_PASSWORD} -lt 12 ]; then
    echo "MLFLOW_AUTH_ADMIN_PASSWORD: found ${#MLFLOW_AUTH_ADMIN_PASSWORD} characters; expected 12 or more" >&2
    exit 1
fi
umask 077
config=$(mktemp -d)/auth.ini
cat > "$config" <<INI
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = postgresql+psycopg2://$HOLTER_DB/auth
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
INI
export MLFLOW_AUTH_CONFIG_PATH="$config"
export MLFLOW_BACKEND_STORE_URI="postgresql+psycopg2://$HOLTER_DB/mlflow" # not in the process list
# Without it every account may make experiments and models, and owns what it makes.
export MLFLOW_ENABLE_WORKSPACES=true
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
exec mlflow server --app-name basic-auth --host "${HOLTER_LISTEN:-127.0.0.1}" \
    --port "${HOLTER_PORT:-5000}" --workers "${HOLTER_MLFLOW_WORKERS:-2}" \
    --artifacts-destination "${HOLTER_ARTIFACTS:-/artifacts}" --x-frame-options DENY \
    --allowed-hosts "mlflow.$HOLTER_DOMAIN" --cors-allowed-origins "https://mlflow.$HOLTER_DOMAIN"
