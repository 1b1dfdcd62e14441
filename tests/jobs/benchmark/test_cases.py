import pytest
from pydantic import ValidationError
from tiny_model import BRIEF_MEMBERS

from jobs.benchmark.cases import DEFAULT, Case, cases, chosen, of_case
from jobs.command.errors import UsageError
from models import artifact, registry

TINY = {"backbone": "test_resnet", "size_px": 64, "precision": "float32"}
SMALL = {
    "csflow": {"whiten_dims": 4, "hidden": 4, "kernels": [3]},
    "padim": {"dims": 8},
    "patchsvdd": {"bank_size": 500},
    "ensemble": BRIEF_MEMBERS,
}


def test_there_is_a_case_for_every_detector():
    known = cases({})
    assert {case.detector for case in known.values()} == set(registry.names())
    assert DEFAULT in known and "csflow-b5-768" in known
    for name, case in known.items():
        assert str(case.size_px) in name and case.detector in name
        assert case.config(name).backbone is None or case.config(name).backbone.weights == "none"


@pytest.mark.parametrize("detector", registry.names())
def test_an_untrained_model_scores(detector, tmp_path):
    case = Case(about="", detector=detector, hyperparameters=SMALL.get(detector, {}), **TINY)
    subject = of_case("tiny", case, tmp_path)
    assert not (tmp_path / "tiny").exists()
    directory = subject.make()
    assert subject.make() == directory and artifact.read(directory).config.name == "tiny"
    loaded = artifact.load(artifact.read(directory))
    if detector == "padim":
        assert loaded.gaussian.mean.shape[1] == 8 and loaded.gaussian.mean.abs().sum() > 0
    if detector == "patchsvdd":
        assert loaded.large_bank.shape[0] == 500 and loaded.large_bank.abs().sum(1).min() > 0


def test_cases_are_chosen_by_name_and_the_default_may_have_another_size():
    known = cases({"mine": Case(about="", detector="padim", **TINY)})
    assert list(chosen(["mine", "patchsvdd-256"], known, None, None)) == ["mine", "patchsvdd-256"]
    assert chosen(["patchsvdd-256"], known, "float32", None)["patchsvdd-256"].precision == "float32"
    ((name, case),) = chosen([], known, None, 64).items()
    assert (name, case.size_px, case.precision) == ("csflow-mobilenetv1-64", 64, "float32")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((["padim-resnet-256"], None, None), "Did you mean 'padim-resnet18-256'"),
        ((["padim-resnet18-256"], None, 64), "--image-size must be left out"),
        (([], "fp8", None), "--precision must be float32, bf16 or fp16"),
        (([], None, 3), "--image-size must be 16 to 8192 pixels"),
        (([], None, 99_999), "--image-size must be 16 to 8192 pixels"),
    ],
)
def test_what_cannot_be_is_one_sentence(arguments, words):
    names, precision, image_size = arguments
    with pytest.raises(UsageError, match=words):
        chosen(names, cases({}), precision, image_size)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"detector": "nosuch"}, "detector must be one of"),
        ({"backbone": "nosuch"}, "backbone must be a timm model"),
        ({"size_px": 9000}, "less than or equal to 8192"),
    ],
)
def test_a_case_that_cannot_be_built_is_refused_as_it_is_read(setting, words):
    with pytest.raises(ValidationError, match=words):
        Case(**{"about": "", "detector": "padim", **TINY, **setting})
