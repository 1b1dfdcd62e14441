"""Says in words by what a process reaches S3: a node often has other credentials, or another endpoint, than the driver."""

import os

from pipeline.storage.objects import BadUri
from pipeline.storage.s3_connection import current_connection

FOUND_IN = {
    "env": "the environment (AWS_ACCESS_KEY_ID)",
    "shared-credentials-file": "{profile} of the credentials file",
    "config-file": "{profile} of the config file",
    "assume-role": "a role that {profile} assumes",
    "assume-role-with-web-identity": "a web identity (a service account of Kubernetes, for example)",
    "container-role": "the role of the container",
    "iam-role": "the instance role",
    "sso": "the single sign-on of {profile}",
    "custom-process": "a program that {profile} names",
}
"""By botocore's word for where it found them."""


def way_to_s3() -> str:
    """Where this process's credentials were found, and its endpoint; it may ask the machine's metadata service."""
    try:
        connection = current_connection()
    except BadUri as error:
        return str(error)
    return f"{_credentials(connection.credentials, connection.unsigned)}, endpoint {connection.client.meta.endpoint_url}"


def _credentials(credentials: object, unsigned: bool) -> str:
    if unsigned:
        return "no credentials, since AWS_SKIP_SIGNATURE is set"
    if credentials is None:
        return "no credentials"
    method = str(getattr(credentials, "method", "unknown"))
    named = os.environ.get("AWS_PROFILE")
    profile = f"profile {named}" if named else "the default profile"
    return f"credentials from {FOUND_IN.get(method, method).format(profile=profile)}"
