import docs_script

from models import artifact


def test_one_artifact_keeps_its_structure_and_the_other_is_built_by_running_it(tmp_path, monkeypatch):
    loading = docs_script.load("benchmarks/gpu/loading.py")
    monkeypatch.setattr(loading, "BACKBONE", "test_resnet")
    monkeypatch.setattr(loading, "SIDE_PX", 64)
    whole, without = loading.write(tmp_path, "csflow")
    assert artifact.read(whole).config.backbone.structure is not None
    assert artifact.read(without).config.backbone.structure is None
    assert loading.write(tmp_path, "csflow") == [whole, without]
    found = loading.figures(without)
    assert found["artifact"] == "csflow-without-structure"
    assert found["total_gib"] >= found["imports_gib"] > 0 and found["load_gib"] >= 0
