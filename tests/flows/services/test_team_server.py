"""The team server of mlflow/: no start without secrets, nginx alone is published, and it works."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conftest import ROOT
from tests.services import free_port, postgres, running, s3_server

HOME = ROOT / "mlflow"
SECRETS = {
    "HOLTER_DB_PASSWORD": "d" * 20,
    "HOLTER_MLFLOW_ADMIN_PASSWORD": "correct horse battery",
    "HOLTER_SESSION_KEY": "s" * 20,
    "HOLTER_PREFECT_PASSWORD": "p" * 20,
}
NEEDED = {**SECRETS, "HOLTER_DOMAIN": "ecg.example", "HOLTER_TLS": "/tls"}


def compose() -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load((HOME / "compose.yml").read_text())
    return value


def test_nginx_alone_is_published() -> None:
    """Of the services only nginx has a port outside, and none has more rights than it needs."""
    services = compose()["services"]
    assert [name for name, one in services.items() if "ports" in one] == ["proxy"]
    assert services["db"]["networks"] == ["inside"]
    assert compose()["networks"]["inside"]["internal"] is True
    for name, one in services.items():
        assert "no-new-privileges:true" in one["security_opt"], name
        assert name == "db" or (one["cap_drop"] == ["ALL"] and one["read_only"]), name


def test_no_secret_has_a_default() -> None:
    """Every secret is demanded where it is used; the example leaves each of them empty."""
    text = (HOME / "compose.yml").read_text()
    for name in NEEDED:
        uses = re.findall(rf"\$\{{{name}([^}}]*)\}}", text)
        assert uses, name
        assert all(use.startswith(":?") for use in uses), name
    example = (HOME / "env.example").read_text()
    lines = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    assert lines == dict.fromkeys(NEEDED, "")


def test_compose_takes_it_and_refuses_an_empty_secret() -> None:
    """Compose reads the file when everything is said, and names what is missing otherwise."""
    found = shutil.which("docker-compose")
    if found is None:
        pytest.skip("no Compose: apt-get install docker-compose")
    words = [found, "-f", str(HOME / "compose.yml"), "config"]
    env = {"PATH": os.environ["PATH"], **NEEDED}
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in NEEDED:
        refused = subprocess.run(words, env={**env, name: ""}, capture_output=True, text=True)
        assert refused.returncode != 0, name
        assert name in refused.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"MLFLOW_AUTH_ADMIN_PASSWORD": ""}, "the first password"),
        ({"MLFLOW_AUTH_ADMIN_PASSWORD": "short"}, "found 5 characters; expected 12 or more"),
        ({"MLFLOW_FLASK_SERVER_SECRET_KEY": ""}, "a random key"),
        ({"HOLTER_DOMAIN": ""}, "the domain"),
        ({"HOLTER_DB": ""}, "PostgreSQL"),
    ],
)
def test_mlflow_does_not_start_without(change: dict[str, str], said: str) -> None:
    """The server's script ends at once, and says what is missing."""
    env = {**team_environment("u@127.0.0.1:9"), **change}
    words = ["sh", str(HOME / "team.sh")]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert said in done.stderr


def team_environment(database: str) -> dict[str, str]:
    """What the server's script wants; `mlflow` is the one of the Python that runs the tests."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOLTER_DB": database,
        "HOLTER_DOMAIN": "ecg.example",
        "MLFLOW_AUTH_ADMIN_PASSWORD": SECRETS["HOLTER_MLFLOW_ADMIN_PASSWORD"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": SECRETS["HOLTER_SESSION_KEY"],
    }


def certificate(folder: Path) -> ssl.SSLContext:
    """A certificate of our own for the two names, and a client's trust in it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ecg.example")])
    names = [x509.DNSName(f"{one}.ecg.example") for one in ("mlflow", "prefect")]
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return ssl.create_default_context(cafile=str(folder / "cert.pem"))


def nginx_config(folder: Path, port: int, mlflow: int, prefect: int) -> Path:
    """The template as the image fills it in, in a main file as the image has one."""
    values = {
        "HOLTER_DOMAIN": "ecg.example",
        "MLFLOW_UPSTREAM": f"127.0.0.1:{mlflow}",
        "PREFECT_UPSTREAM": f"127.0.0.1:{prefect}",
        "TLS_FOLDER": str(folder),
        "TLS_PORT": str(port),
    }
    text = (HOME / "templates" / "holter.conf.template").read_text()
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    assert "${" not in text
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = folder / "nginx.conf"
    main.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{text}\n}}\n"
    )
    return main


@pytest.fixture(scope="module")
def nginx() -> str:
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip("no nginx: apt-get install nginx-light")
    return found


def test_nginx_takes_the_configuration(nginx: str, tmp_path: Path) -> None:
    """`nginx -t` finds nothing wrong with the template, filled in."""
    certificate(tmp_path)
    config = nginx_config(tmp_path, free_port(), 5000, 4200)
    done = subprocess.run([nginx, "-t", "-c", str(config)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


@pytest.fixture(scope="module")
def team(nginx: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The whole server as compose starts it, but for the containers; gives a way to ask it."""
    folder = tmp_path_factory.mktemp("team")
    context = certificate(folder)
    port, mlflow, prefect = free_port(), free_port(), free_port()
    with (
        postgres(folder, "mlflow", "auth", "prefect") as database,
        s3_server(folder, "holter") as s3,
    ):
        env = {**team_environment(database), **s3, "HOLTER_PORT": str(mlflow)}
        env |= {"HOLTER_ARTIFACTS": "s3://holter/mlflow", "HOLTER_MLFLOW_WORKERS": "1"}
        # As compose starts it: nginx looks at the names there.
        words = [sys.executable, "-m", "prefect", "server", "start", "--port", str(prefect)]
        prefect_env = {
            "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{database}/prefect",
            "PREFECT_SERVER_API_AUTH_STRING": f"holter:{SECRETS['HOLTER_PREFECT_PASSWORD']}",
            "PREFECT_HOME": str(folder / "prefect"),
        }
        with (
            running(["sh", str(HOME / "team.sh")], folder / "mlflow.log", mlflow, env),
            running(words, folder / "prefect.log", prefect, prefect_env),
            running(
                [nginx, "-c", str(nginx_config(folder, port, mlflow, prefect))],
                folder / "nginx.log",
                port,
            ),
        ):
            yield lambda *words, **options: ask(context, port, *words, **options)


def ask(
    context: ssl.SSLContext,
    port: int,
    name: str,
    path: str,
    *,
    user: str = "",
    data: bytes | None = None,
    method: str | None = None,
    origin: str = "",
) -> int:
    """The status of an answer over TLS from `name`, as a client that trusts the certificate."""

    class Here(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> Any:
            import http.client

            class Connection(http.client.HTTPSConnection):
                def connect(self) -> None:
                    import socket

                    plain = socket.create_connection(("127.0.0.1", port), 60)
                    self.sock = context.wrap_socket(plain, server_hostname=name)

            return self.do_open(Connection, request)

    request = urllib.request.Request(f"https://{name}{path}", data=data, method=method)
    if user:
        request.add_header("Authorization", f"Basic {b64encode(user.encode()).decode()}")
    if origin:
        request.add_header("Origin", origin)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.build_opener(Here).open(request, timeout=60) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


SEARCH = "/api/2.0/mlflow/experiments/search"
ARTIFACT = "/api/2.0/mlflow-artifacts/artifacts/probe/x.bin"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_team_s_server(team: Any) -> None:
    """Accounts are asked for, other names, origins and too large requests are refused."""
    admin = f"admin:{SECRETS['HOLTER_MLFLOW_ADMIN_PASSWORD']}"
    prefect = f"holter:{SECRETS['HOLTER_PREFECT_PASSWORD']}"
    search = b'{"max_results": 5}'
    mlflow = "mlflow.ecg.example"
    assert team(mlflow, SEARCH, data=search) == 401
    assert team(mlflow, SEARCH, data=search, user="admin:password1234") == 401
    assert team(mlflow, SEARCH, data=search, user=admin) == 200
    assert team(mlflow, SEARCH, data=search, user=admin, origin="https://evil.example") == 403
    assert team(mlflow, SEARCH, data=b" " * (17 << 20), user=admin) == 413
    assert team(mlflow, ARTIFACT, data=b"x" * (18 << 20), user=admin, method="PUT") == 200
    assert team(mlflow, ARTIFACT, user=admin) == 200
    assert team("prefect.ecg.example", "/api/admin/version") == 401
    assert team("prefect.ecg.example", "/api/admin/version", user=prefect) == 200
    with pytest.raises(urllib.error.URLError):
        team("other.ecg.example", "/")
