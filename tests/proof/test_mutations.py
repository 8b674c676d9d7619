"""`verify` finds what was done to an archive, raises no false alarm, and a second verifier agrees."""

from pathlib import Path


class TestVerifiers:
    def test_they_find_a_hundred_random_mutations(self, mutations):
        """Of 100 archives as they were made none is doubted, of 100 changed ones all are."""
        tally = mutations.run(100, seed=20260102)

        assert (tally.alarms, tally.missed, tally.disagreed) == ([], [], [])
        assert (tally.rounds, tally.found, tally.agreed) == (100, 100, 100)

    def test_they_find_a_mutation_of_every_kind_of_archive(self, mutations):
        """One archive of each kind, as it was made and changed."""
        kinds = tuple(mutations.archives.KINDS)
        tally = mutations.run(len(kinds), seed=1)

        assert (tally.alarms, tally.missed, tally.disagreed) == ([], [], [])
        assert tally.found == len(kinds)

    def test_the_second_is_short_and_alone(self, second_verifier):
        """Under 300 lines, without muniment."""
        text = Path(second_verifier.__file__).read_text()

        assert len(text.splitlines()) < 300
        assert "import muniment" not in text and "from muniment" not in text
