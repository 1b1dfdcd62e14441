"""A cluster that cannot be joined, and nodes that cannot reach storage: one line, exit 2, and nothing is planned."""

import json
import os
import secrets

import pytest
import ray
from e2e_archives import command, encoded, scores
from ray_head import NO_KEYS, TOKEN, free_ports, one_error, one_line, started
from tiny_model import tiny_config, tiny_fitted

from models import artifact
from pipeline.state.lease import epochs
from pipeline.state.ledger import Ledger
from pipeline.storage.objects import Denied
from pipeline.storage.store import open_store

WRONG = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
NONE = {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": ""}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A head with a token, whose workers find no credentials for S3."""
    with started(tmp_path_factory.mktemp("ray"), TOKEN | NO_KEYS) as head:
        yield head


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    config = tiny_config(detector="csflow", input={"height": 64, "width": 64})
    return artifact.save(tmp_path_factory.mktemp("tiny") / "model", config, tiny_fitted(config), "# card").directory


@pytest.fixture
def bucket(s3_bucket):
    """A bucket with three images below in/."""
    store = open_store(f"{s3_bucket}/in")
    for i in range(3):
        store.put(f"{i}.png", encoded(i))
    return s3_bucket


def score(tiny, bucket, *more, check=False, **environment):
    places = ("--model", tiny, "--input", f"{bucket}/in", "--output", f"{bucket}/out", "--device", "cpu")
    return command("score", *places, *more, check=check, env=TOKEN | environment)


def for_workers(**variables):
    """What `ray job submit` tells a driver about the runtime environment of its workers."""
    return {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": {"env_vars": variables}})}


def drivers_keys():
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def nothing_was_begun(bucket):
    ledger = Ledger(f"{bucket}/out", "tiny")
    return ledger.entries.newest() == 0 and epochs(ledger).newest() == 0 and not list(open_store(f"{bucket}/out").list())


def addresses(head):
    """Name of a mistake that only a real head shows -> address, the driver's variables, what its line says. The others are in
    tests/pipeline/stages/test_cluster_address.py."""
    return {
        "no token": (head.address, NONE, ("wants a token, and this process sends none", "RAY_AUTH_TOKEN")),
        "wrong token": (head.address, WRONG, ("wants another token than this process sends", "RAY_AUTH_TOKEN")),
        "port of the dashboard": (f"127.0.0.1:{head.dashboard}", TOKEN, ("another program than Ray answers",)),
        "client's port": (f"127.0.0.1:{head.client}", TOKEN, ("does not know this request", "usually 6379")),
    }


@pytest.mark.parametrize("mistake", ["no token", "wrong token", "port of the dashboard", "client's port"])
def test_a_cluster_that_cannot_be_joined_is_one_line(mistake, head, tiny, bucket):
    address, variables, said = addresses(head)[mistake]
    done = score(tiny, bucket, "--address", address, **variables)
    one_line(done, address, *said)
    assert nothing_was_begun(bucket)


def test_nodes_without_credentials_are_named_before_anything_is_planned(head, tiny, bucket):
    done = score(tiny, bucket, "--address", head.address)
    one_error(
        done,
        "; got node ",
        f"cannot list the input {bucket}/in",
        "It uses no credentials, endpoint ",
        "docs/operating.md",
    )
    assert nothing_was_begun(bucket)


def test_nodes_with_wrong_keys_say_where_they_come_from(head, tiny, bucket, monkeypatch):
    wrong = drivers_keys() | {"AWS_SECRET_ACCESS_KEY": "wrong"}
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        try:
            next(open_store(bucket).list())
            pytest.skip("moto's server takes any key")
        except Denied:
            pass
    done = score(tiny, bucket, "--address", head.address, **for_workers(**wrong))
    one_error(done, "SignatureDoesNotMatch (403)", "It uses credentials from the environment (AWS_ACCESS_KEY_ID)")
    assert nothing_was_begun(bucket)


def test_storage_that_only_the_driver_reaches_is_the_node_s_fault(head, tiny, bucket):
    (closed,) = free_ports(1)
    keys = drivers_keys() | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{closed}", "AWS_MAX_ATTEMPTS": "1"}
    done = score(tiny, bucket, "--address", head.address, **for_workers(**keys))
    one_error(done, "; got node ", "cannot list the input", f"endpoint http://127.0.0.1:{closed}")
    assert nothing_was_begun(bucket)


def test_keys_in_the_runtime_environment_reach_the_workers(head, tiny, bucket):
    done = score(tiny, bucket, "--address", head.address, check=True, **for_workers(**drivers_keys()))
    assert "3 scored" in done.stdout
    assert len(scores(f"{bucket}/out")) == 3
    assert not [entry.key for entry in open_store(f"{bucket}/out").list() if "probe" in entry.key]


def test_doctor_joins_and_says_both_versions_and_what_nodes_lack(head, bucket):
    places = ("--input", f"{bucket}/in", "--output", f"{bucket}/out")
    done = command("doctor", "--address", head.address, *places, check=False, env=TOKEN)
    assert done.returncode == 2, done.stdout + done.stderr
    said = done.stdout.splitlines()
    (cluster,) = [line for line in said if line.startswith("ok   cluster")]
    assert f"Ray {ray.__version__} on Python " in cluster and "1 node(s) with 2 CPUs and 0 GPUs" in cluster
    (lacking,) = [line for line in said if line.startswith("fail nodes")]
    assert "; got node " in lacking and "It uses no credentials" in lacking
