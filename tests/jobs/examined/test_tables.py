from tiny_publications import publish_images

from jobs.examined import tables


def test_tables_tell_their_protocol_and_retention(tmp_path):
    from pipeline.tables.delta import open_or_create
    from schemas import errors

    table = open_or_create(str(tmp_path), "errors", errors.SCHEMA)
    (finding,) = tables.tables(str(tmp_path))
    assert finding.level == "ok" and "reader 1" in finding.text and "90 days" in finding.text
    table.alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 1 days"})
    (finding,) = tables.tables(str(tmp_path))
    assert finding.level == "warn" and "delta.deletedFileRetentionDuration 'interval 97 days'" in finding.fix


def test_tables_whose_small_files_a_compaction_would_merge_are_named(tmp_path, monkeypatch):
    publish_images(str(tmp_path), "unit-1", ["a"])
    publish_images(str(tmp_path), "unit-2", ["b"])
    assert {finding.level for finding in tables.tables(str(tmp_path))} == {"ok"}
    monkeypatch.setattr(tables, "MANY_SPARE", 0)
    found = {finding.text.split(":")[0]: finding for finding in tables.tables(str(tmp_path))}
    assert found["maps"].level == "warn" and "2 files, 1 more than are needed" in found["maps"].text
    assert "--compact" in found["maps"].fix and found["scores"].level == "ok"
