"""All input is data: none of our packages can run it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "models", "pipeline", "jobs")
IMPORTS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "code", "codeop", "runpy"}
CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "torch.load", "torch.hub.load", "torch.jit.load"),
    *("torch.package.PackageImporter", "np.load", "numpy.load", "np.fromregex", "pd.read_pickle", "pandas.read_pickle"),
}
FLAGS = {"shell": True, "allow_pickle": True, "weights_only": False, "trust_remote_code": True}


def modules():
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def faults(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] in IMPORTS)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in IMPORTS:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in CALLS:
                yield name
            given = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
            yield from (f"{name}({flag}={setting})" for flag, setting in FLAGS.items() if given.get(flag) is setting)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_can_run_what_it_reads(path):
    assert list(faults(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "code", ["import pickle", "from joblib import load", "yaml.load(x)", "torch.load(f)", "run(x, shell=True)", "eval(x)"]
)
def test_the_search_finds_them(code):
    assert len(list(faults(ast.parse(code)))) == 1
