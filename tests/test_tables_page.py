"""docs/tables.md agrees with the schemas, and what it shows for pandas runs as it stands there."""

import re

import botocore.session
import docs_script
import pytest
from fake_run import published, scored

PLANT = "plant"
"""The bucket of the page's example."""


@pytest.fixture
def plant(s3):
    client = botocore.session.get_session().create_client("s3")
    client.create_bucket(Bucket=PLANT)
    yield f"s3://{PLANT}/results"
    for entry in client.list_objects_v2(Bucket=PLANT)["Contents"]:
        client.delete_object(Bucket=PLANT, Key=entry["Key"])
    client.delete_bucket(Bucket=PLANT)


def test_the_page_is_up_to_date():
    make_tables = docs_script.load("make_tables.py")
    assert make_tables.PAGE.read_text(encoding="utf-8") == make_tables.page(), "run `make tables`"


def test_the_example_for_pandas_runs_at_an_endpoint_without_tls(s3, plant):
    assert s3.startswith("http://")
    published(plant, [("2024-06-03", [scored("a", 1.5), scored("b", 2.5)]), ("2024-06-04", [scored("c", 3.5)])])
    (example,) = re.findall(r"```python\n(.*?)```", (docs_script.DOCS / "tables.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(example, names)  # noqa: S102  # our own page
    night = names["night"].sort_values("uri")
    assert night.to_dict("records") == [
        {"uri": "s3://line/a", "lot": "lot1", "score": 1.5},
        {"uri": "s3://line/b", "lot": "lot1", "score": 2.5},
    ]
