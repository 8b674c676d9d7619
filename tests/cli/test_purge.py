"""`hold` and `purge` on the command line."""

import json

import pytest

KEY = "chatgpt:c1"


@pytest.fixture(params=["archive.db", "chats"])
def archive(request, muniment, export):
    result = muniment("import", export, "--to", request.param, "-q")
    assert result.exit_code == 0, result.output
    return request.param


@pytest.fixture
def key(muniment, archive, folder):
    """Return the key of one record, as a plan of all of them names it."""
    assert muniment("purge", "plan", archive, "--keep-days", 0, "--reason", "r", "--out", "keys.json").exit_code == 0
    return json.loads((folder / "keys.json").read_text())["records"][0]["key"]


def held(muniment, archive):
    return json.loads(muniment("hold", "list", archive, "--json").stdout)


class TestHold:
    def test_it_is_added_listed_and_released(self, muniment, archive, key):
        """With who says so, and why."""
        result = muniment("hold", "add", archive, "--conversation", key, "--reason", "case 7", "--actor", "ann@host")
        assert (result.exit_code, result.stdout.split(": ")[1]) == (0, "1 record is held\n")
        (entry,) = held(muniment, archive)
        assert (entry["key"], entry["reason"], entry["actor"]) == (key, "case 7", "ann@host")
        assert "case 7" in muniment("hold", "list", archive).stdout

        assert muniment("hold", "release", archive, "--conversation", key, "--reason", "closed").exit_code == 0
        assert held(muniment, archive) == []
        assert muniment("hold", "list", archive).stdout == "nothing is held\n"
        assert muniment("verify", archive, "-q").exit_code == 0

    def test_a_key_that_nobody_knows_is_a_mistake(self, muniment, archive):
        """Unless it is held ahead."""
        add = ("hold", "add", archive, "--conversation", "chatgpt:none", "--reason", "r")
        result = muniment(*add)

        assert result.exit_code == 1
        assert "there is no record `chatgpt:none`; to hold what is not there yet, add --ahead" in result.stderr
        assert muniment(*add, "--ahead").exit_code == 0
        assert (
            "is not held in"
            in muniment(*("hold", "release"), *add[2:3], "--conversation", "x:y", "--reason", "r").stderr
        )

    def test_all_is_held(self, muniment, archive):
        assert muniment("hold", "add", archive, "--all", "--reason", "audit").exit_code == 0
        assert [e["key"] for e in held(muniment, archive)] == ["all"]

        result = muniment("purge", "plan", archive, "--keep-days", 0, "--reason", "r", "--out", "p.json", "--json")
        assert json.loads(result.stdout)["purge"] == 0
        assert muniment("hold", "add", archive, "--reason", "r").exit_code == 2


class TestPurge:
    def test_it_is_planned_looked_at_and_run(self, muniment, archive, key, folder):
        """The plan can be read by its owner only; the run asks."""
        result = muniment("purge", "plan", archive, "--conversation", key, "--reason", "request 12", "--out", "p.json")
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines() == [
            "1 record to purge, 0 held, 0 kept", "look at it, then run it: muniment purge run p.json",
        ]  # fmt: skip
        assert (folder / "p.json").stat().st_mode & 0o777 == 0o600

        refused = muniment("purge", "run", "p.json", input="n\n")
        assert refused.exit_code != 0
        assert "purge these records for good?" in refused.stdout
        done = muniment("purge", "run", "p.json", input="y\n")
        assert done.exit_code == 0, done.output
        assert "purged 1 record; 1 tombstone in the chain" in done.stdout
        assert muniment("verify", archive, "-q").exit_code == 0
        again = muniment("purge", "run", "p.json", "--yes", "--json")
        assert json.loads(again.stdout)["before"] == 1

    def test_the_same_export_does_not_bring_it_back(self, muniment, archive, key, export):
        """It counts as unchanged."""
        muniment("purge", "plan", archive, "--conversation", key, "--reason", "r", "--out", "p.json")
        assert muniment("purge", "run", "p.json", "--yes").exit_code == 0
        assert muniment("import", export, "--to", archive, "-q").exit_code == 0

        muniment("purge", "plan", archive, "--keep-days", 0, "--reason", "r", "--out", "left.json")
        result = muniment("purge", "plan", archive, "--conversation", key, "--reason", "r", "--out", "q.json")
        assert f"there is no record `{key}`; was it purged before?" in result.stderr

    def test_it_is_said_what_is_purged(self, muniment, archive):
        more = ("--reason", "r", "--out", "p.json")

        assert muniment("purge", "plan", archive, *more).exit_code == 2
        assert muniment("purge", "plan", archive, "--keep-days", 1, "--conversation", KEY, *more).exit_code == 2
        assert muniment("purge", "plan", archive, "--keep-days", 400, *more).exit_code == 0
        again = muniment("purge", "plan", archive, "--keep-days", 400, *more)
        assert "there is a file `p.json` already; choose another name for the plan" in again.stderr

    def test_the_pack_of_a_hand_over_has_its_events(self, muniment, archive, key, folder):
        """The chain goes with it."""
        muniment("hold", "add", archive, "--conversation", key, "--reason", "case 7")
        result = muniment("export", archive, "--to", "pack", "--bagit")
        assert result.exit_code == 0, result.output

        assert any(b'"kind":"hold"' in f.read_bytes() for f in (folder / "pack").rglob("*.json"))
