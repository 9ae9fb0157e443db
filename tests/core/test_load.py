from __future__ import annotations

import sys

import pytest

from lossmith.core.load import LoadError, load


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder to stand in; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mylosses.py").write_text(
        "import helper_of_mine\n"
        "print('noise')\n"
        "class Box:\n    square = staticmethod(lambda p, t: ((p - t) ** 2).mean())\n"
        "def absolute(p, t):\n    return (p - t).abs().mean()\n"
        "factor = 0.5\n"
    )
    (tmp_path / "helper_of_mine.py").write_text("")
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def test_a_file_and_a_module_name_the_same_loss(capfd):
    loss, knobs = load("mylosses.py:absolute")
    assert loss.__name__ == "absolute" and knobs == {}
    assert load("mylosses:absolute")[0] is loss
    assert load("./mylosses.py:absolute")[0] is loss
    said = capfd.readouterr()
    assert said.out == "" and "noise" in said.err  # stdout is for the result


def test_a_dotted_name_goes_inside():
    assert load("mylosses.py:Box.square")[0] is sys.modules["mylosses"].Box.square


def test_a_file_with_the_name_of_a_module_of_python_is_that_file(folder):
    (folder / "json.py").write_text("def loss(p):\n    return p.mean()\n")
    assert load("json.py:loss")[0].__name__ == "loss"
    assert sys.modules["json"].__file__ != str(folder / "json.py")


def test_a_loss_of_the_registry_brings_its_knobs():
    loss, knobs = load("info_nce(temperature=0.2)")
    assert loss.__name__ == "info_nce" and knobs == {"temperature": 0.2}


def test_a_loss_of_torch_is_a_class():
    assert load("torch.nn:CrossEntropyLoss")[0].__name__ == "CrossEntropyLoss"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mylosse.py:absolute", "there is no file 'mylosse.py'. Did you mean 'mylosses.py'?"),
        ("mylosse:absolute", "there is no module 'mylosse'. Did you mean 'mylosses'?"),
        ("torch.nnn:CrossEntropyLoss", "there is no module 'torch.nnn'. Did you mean 'torch.nn'?"),
        ("mylosses.py:absolut", "mylosses.py has no 'absolut'. Did you mean 'absolute'?"),
        ("mylosses.py:factor", "factor is float 0.5; expected a function"),
        ("mylosses.py:Box.sqare", "Did you mean 'square'?"),
        ("mylosses.py", "To check a loss of a file, name it: mylosses.py:MyLoss."),
        ("torch.nn.CrossEntropyLoss", "with a colon: torch.nn:CrossEntropyLoss."),
        ("info_nec", "Did you mean 'info_nce'?"),
        ("info_nce(temprature=1)", "Did you mean 'temperature'?"),
        (":absolute", "does not read as"),
        ("mylosses.py:", "does not read as"),
        ("my losses:absolute", "neither a module nor a file"),
    ],
)
def test_a_mistake_is_answered_with_what_to_type(text, said):
    with pytest.raises(LoadError) as caught:
        load(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import torch\nx = 1 / 0\n", "bad.py:2\n    x = 1 / 0\n  ZeroDivisionError: division"),
        ("def f(:\n", "bad.py:1\n    def f(:\n  SyntaxError: "),
        ("import no_such_thing\n", "bad.py:1\n    import no_such_thing\n  ModuleNotFoundError"),
        ("raise SystemExit(3)\n", "bad.py:1\n    raise SystemExit(3)\n  SystemExit: 3"),
    ],
)
def test_an_error_of_the_users_module_shows_its_line_and_none_of_ours(folder, code, said):
    (folder / "bad.py").write_text(code)
    for text in ("bad.py:f", "bad:f"):
        with pytest.raises(LoadError) as caught:
            load(text)
        assert said in str(caught.value)
        assert "importlib" not in str(caught.value) and "load.py" not in str(caught.value)
