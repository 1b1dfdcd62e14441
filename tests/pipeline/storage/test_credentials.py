import pytest

from pipeline.storage.credentials import way_to_s3

KEYS = "aws_access_key_id = a\naws_secret_access_key = b\n"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """No credentials from outside."""
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_SKIP_SIGNATURE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_without_any():
    assert way_to_s3() == "no credentials, endpoint http://127.0.0.1:9"


def test_unsigned(monkeypatch):
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    assert way_to_s3() == "no credentials, since AWS_SKIP_SIGNATURE is set, endpoint http://127.0.0.1:9"


def test_of_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    assert way_to_s3() == "credentials from the environment (AWS_ACCESS_KEY_ID), endpoint http://127.0.0.1:9"


@pytest.mark.parametrize(("section", "named"), [("default", "the default profile"), ("plant", "profile plant")])
def test_of_a_file(monkeypatch, nowhere, section, named):
    (nowhere / "credentials").write_text(f"[{section}]\n{KEYS}")
    if section != "default":
        monkeypatch.setenv("AWS_PROFILE", section)
    assert way_to_s3().startswith(f"credentials from {named} of the credentials file, ")


def test_a_profile_that_there_is_not(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "plant")
    assert "The config profile (plant) could not be found" in way_to_s3()
