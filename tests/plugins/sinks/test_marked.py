"""An object is written once, whatever becomes of requests and answers."""

import random

import pytest
from attrs import define, field, frozen

from muniment import TransientError
from muniment_plugins.sinks._marked import ChangedError, UnclearError, write_once


@frozen
class There:
    version: str
    mark: str


@define
class Place:
    """A store of one object; ``fates`` say which of the next requests, or their answers, are lost."""

    fates: list[str] = field(factory=list)
    there: There | None = None
    writes: int = 0

    def find(self):
        return self.there

    def write(self, mark, version):
        fate = self.fates.pop(0) if self.fates else "ok"
        if fate == "request":
            raise UnclearError("lost")
        if version is not None and version != (self.there.version if self.there else ""):
            raise ChangedError("a")
        self.writes += 1
        self.there = There(str(self.writes), mark)
        if fate == "answer":
            raise UnclearError("lost")

    def put(self, mark, **options):
        options = {"if_absent": True, **options}
        write_once("a", mark, find=self.find, write=lambda v: self.write(mark, v), sleep=lambda s: None, **options)


class TestWriteOnce:
    @pytest.mark.parametrize("seed", range(20))
    @pytest.mark.parametrize("options", [{}, {"if_absent": False}, {"looks": True}], ids=["absent", "any", "looks"])
    def test_it_writes_once_whatever_is_lost(self, seed, options):
        drawn = random.Random(seed)
        place = Place([drawn.choice(["request", "answer"]) for _ in range(drawn.randrange(5))])
        place.put("mine", **options)

        assert (place.there.mark, place.writes) == ("mine", 1)

    @pytest.mark.parametrize("fates", [[], ["request"], ["request", "request"]])
    @pytest.mark.parametrize("looks", [False, True])
    def test_it_replaces_nobody_where_the_name_must_be_absent(self, fates, looks):
        place = Place(fates, There("7", "other"))

        with pytest.raises(FileExistsError):
            place.put("mine", looks=looks)
        assert place.there.mark == "other"

    @pytest.mark.parametrize("fates", [[], ["request"], ["answer"], ["request", "answer"]])
    def test_it_replaces_where_it_may(self, fates):
        place = Place(fates, There("7", "other"))
        place.put("mine", if_absent=False)

        assert (place.there.mark, place.writes) == ("mine", 1)

    def test_it_ends_where_nothing_arrives(self):
        place = Place(["request"] * 10)

        with pytest.raises(TransientError):
            place.put("mine")
        assert place.writes == 0
