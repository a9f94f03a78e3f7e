-- Beside mlflow's own database, which POSTGRES_DB makes.
CREATE DATABASE prefect;
CREATE DATABASE auth;
