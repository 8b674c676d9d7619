"""A made-up export is what it says, the same for the same seed, in every layout."""

import hashlib
import json
import zipfile

import pytest


@pytest.fixture
def generate(benchmark_module):
    return benchmark_module("generate").generate


def conversations(path):
    with zipfile.ZipFile(path) as archive:
        names = sorted(n for n in archive.namelist() if n.startswith("conversations") and n.endswith(".json"))
        return [c for name in names for c in json.loads(archive.read(name))]


class TestGenerate:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"layout": "b", "shard": 4},
            {"layout": "c", "slim": True},
            {"indent": 2, "ascii_only": False},
            {"compact": True},
        ],
        ids=lambda o: "-".join(o) or "default",
    )
    def test_counts_what_it_writes(self, generate, tmp_path, options):
        """The statistics are those of the file."""
        counted = generate(tmp_path / "e.zip", conversations=10, seed=3, **options)

        found = conversations(tmp_path / "e.zip")
        nodes = [n for c in found for n in (c.get("mapping") or {}).values() if n["message"]]
        assert (counted.conversations, counted.messages) == (len(found), len(nodes)) == (10, len(nodes))
        assert counted.zip_bytes == (tmp_path / "e.zip").stat().st_size

    def test_gives_the_same_bytes_for_the_same_seed(self, generate, tmp_path):
        """Two runs can be compared, and a bug found in one can be shown in another."""
        digests = set()
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            generate(tmp_path / name, conversations=5, seed=seed)
            digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())

        assert len(digests) == 2

    def test_stops_at_a_size(self, generate, tmp_path):
        """The limit is passed by one conversation at most."""
        counted = generate(tmp_path / "e.zip", json_bytes=300_000)

        assert 300_000 <= counted.json_bytes < 2_000_000

    def test_marks_citations_where_they_stand(self, generate, tmp_path):
        """The offsets of every reference cut its mark out of the text."""
        generate(tmp_path / "e.zip", conversations=60, seed=5)
        checked = 0
        for conversation in conversations(tmp_path / "e.zip"):
            for node in conversation["mapping"].values():
                for reference in ((node["message"] or {}).get("metadata") or {}).get("content_references", ()):
                    if reference["type"] == "grouped_webpages":
                        text = node["message"]["content"]["parts"][0]
                        assert text[reference["start_idx"] : reference["end_idx"]] == reference["matched_text"]
                        checked += 1

        assert checked > 20

    def test_refuses_to_run_for_ever(self, generate, tmp_path):
        with pytest.raises(ValueError, match="give `conversations` or `json_bytes`"):
            generate(tmp_path / "e.zip")
