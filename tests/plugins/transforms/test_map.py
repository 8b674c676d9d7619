"""A user's function sees every record and decides what becomes of it."""

import sys

import pytest

from muniment import Context, Dropped, PluginError, RecordError
from muniment.errors import ConfigError
from muniment.structure import anchored, structure
from muniment.testing import make_record
from muniment_plugins.transforms.map import Map

MODULE = """
from muniment import Dropped

def same(record):
    return record

def retitle(record):
    return record.evolve(title=str(record.conversation.title).upper())

def conversation(record):
    return record.evolve(title="new").conversation

def none(record):
    return None

def dropped(record):
    return Dropped("too long")

def number(record):
    return 3

def fails(record):
    raise ValueError("secret")

class Rules:
    @staticmethod
    def shorten(record):
        return record.evolve(title="short")

constant = 1
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with modules of a user; none of it is left behind."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name, text in {
        "my_rules": MODULE,
        "my_broken": "1 / 0",
        "my_needy": "import there_is_no_such_thing",
        "json": "raise SystemExit('the wrong json')",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
        if name != "json":
            monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def opened(folder, function):
    return Map(function=function, path=str(folder)).open(Context(run="r"))


class TestMap:
    def test_what_functions_return(self, folder):
        record = make_record("c1")

        assert opened(folder, "my_rules:same")(record) is record
        assert opened(folder, "my_rules:retitle")(record) == record.evolve(title="A TALK")
        assert opened(folder, "my_rules:conversation")(record) == record.evolve(title="new")
        assert opened(folder, "my_rules:none")(record) == Dropped("map: my_rules:none")
        assert opened(folder, "my_rules:dropped")(record) == Dropped("too long")
        assert opened(folder, "my_rules:Rules.shorten")(record) == record.evolve(title="short")

    def test_a_wrong_result_is_refused(self, folder):
        """Nothing else can be archived."""
        with pytest.raises(RecordError) as caught:
            opened(folder, "my_rules:number")(make_record("c1"))

        assert str(caught.value) == ("`my_rules:number` returned int; it must return a Record, a Conversation or None")

    def test_what_it_raises_passes(self, folder):
        """The engine puts the record into quarantine."""
        with pytest.raises(ValueError, match="secret"):
            opened(folder, "my_rules:fails")(make_record("c1"))

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            ("my_absent:f", "`my_absent:f`: there is no module `my_absent` in `FOLDER`, nor is one installed"),
            ("my_needy:f", "`my_needy:f`: module `my_needy` needs `there_is_no_such_thing`"),
            ("my_broken:f", "`my_broken:f`: importing `my_broken` failed (ZeroDivisionError: division by zero)"),
            ("my_rules:absent", "`my_rules:absent`: module `my_rules` has no function `absent`"),
            ("my_rules:constant", "`my_rules:constant`: module `my_rules` has no function `constant`"),
        ],
    )
    def test_what_cannot_be_found(self, folder, function, message):
        with pytest.raises(PluginError) as caught:
            opened(folder, function)

        assert str(caught.value).replace(str(folder), "FOLDER") == message

    def test_hides_no_installed_module(self, folder):
        """A user's file called `json.py` is not what others import."""
        opened(folder, "my_rules:same")

        assert sys.path[-1] == str(folder)
        assert sys.path[0] != str(folder)


class TestOptions:
    @pytest.mark.parametrize("function", ["my_rules", "my_rules:", ":f", "my rules:f", "a:b:c", "../x:f"])
    def test_a_reference_is_module_and_function(self, function):
        with pytest.raises(ConfigError, match="must be written `module:function`"):
            structure(Map, {"function": function}, owner="transform `map`")

    def test_looks_beside_the_pipeline_file(self, tmp_path):
        """The folder is the pipeline's unless another one is named."""
        made = structure(Map, {"function": "my_rules:f"}, owner="transform `map`")

        assert anchored(made, tmp_path).path == str(tmp_path)
        assert anchored(Map(function="a:b", path="rules"), tmp_path).path == str(tmp_path / "rules")
