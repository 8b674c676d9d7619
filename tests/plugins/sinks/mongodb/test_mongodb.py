"""Conversations in MongoDB, on a real server."""

import gridfs
import pytest
from msgspec.structs import replace

from muniment import Asset, Context, Counts, FatalError, FilePart, InputError, Message, TextPart
from muniment.canonical import source_hash
from muniment.testing import make_asset, make_record
from muniment_plugins.sinks.mongodb import MongoDB

MEGABYTE = 2**20


def longer(record, *texts):
    """Return a newer version with more messages."""
    messages = record.conversation.messages
    more = tuple(
        Message(id=f"m{len(messages) + i}", role="user", parent_id=messages[-1].id, parts=(TextPart(t),))
        for i, t in enumerate(texts)
    )
    conversation = replace(record.conversation, messages=messages + more)
    return replace(record, conversation=conversation, source_hash=source_hash(conversation), raw=None)


class TestReading:
    def test_by_query(self, place):
        """What stands in the database is found in the ordinary way."""
        place.store([make_record("c1", ["Hello", "Hi"]), make_record("c2", ["Bye"])])

        found = place.db.conversations.find_one({"messages.parts.content": "Bye"})
        assert (found["_id"], found["messages"][0]["role"]) == ("test:c2", "user")
        assert found["run"] == place.db.runs.find_one()["_id"]

    def test_message_by_message(self, place):
        """One document per message, and one without messages for the conversation."""
        place.store([make_record("c1", ["Hello", "Hi"])], sink=place.sink(documents="message"))

        found = place.db.messages.find({"conversation": "test:c1"}).sort("position")
        assert [m["parts"][0]["content"] for m in found] == ["Hello", "Hi"]
        assert place.db.conversations.find_one()["message_count"] == 2

    def test_by_word(self, place):
        """A text index, which a part's `language` does not disturb."""
        part = TextPart("print(walrus)", language="python")
        record = make_record("c1", messages=(Message(id="m", role="user", parts=(part,)),))

        for documents, collection in (("conversation", "conversations"), ("message", "messages")):
            sink = place.sink(text_index=True, documents=documents, collection_prefix=documents)
            place.store([record], sink=sink)
            found = place.db[f"{documents}{collection}"].find_one({"$text": {"$search": "walrus"}})
            assert found is not None

    def test_whether_it_is_stored_reads_no_conversation(self, place):
        """The index alone answers."""
        place.store([make_record("c1")])

        query = place.db.conversations.find(
            {"_id": {"$in": ["test:c1"]}}, {"source_hash": 1, "plan_hash": 1}, hint="muniment_known"
        )
        assert query.explain()["executionStats"]["totalDocsExamined"] == 0


class TestLarge:
    @pytest.mark.parametrize("documents", ["conversation", "message"])
    def test_conversations_beyond_a_document(self, place, documents):
        """A message of 20 MB and a conversation of 17 MB come back, also after they were merged."""
        import random

        noise = random.Random(1)
        sink = place.sink(documents=documents)
        single = make_record("single", ["x" * (20 * MEGABYTE)], raw=False)
        many = make_record("many", [noise.randbytes(MEGABYTE // 2).hex() for _ in range(17)], raw=False)
        place.store([single, many], sink=sink)
        newer = longer(many, "one more")

        assert place.store([newer], sink=sink) == Counts(read=1, stored=1)

        assert place.stored(sink)["single"].conversation == single.conversation
        assert place.stored(sink)["many"].conversation == newer.conversation
        further = place.db.messages if documents == "message" else place.db.further
        assert len(set(further.distinct("revision", {"conversation": "test:many"}))) == 1
        assert place.db["records.files"].count_documents({}) == 2
        assert place.db.versions.count_documents({"record_sha256": {"$exists": True}}) == 1

    def test_a_rewrite_forgets_all_of_what_was(self, place):
        """Text that a new plan takes away is nowhere any more."""
        import random

        record = make_record("c1", [random.Random(1).randbytes(6 * MEGABYTE).hex()], raw=False)
        place.store([record])
        place.store([longer(record, "more")])
        assert place.db["records.files"].count_documents({}) == 2

        place.db.conversations.update_many({}, {"$set": {"plan_hash": "another"}})
        thin = make_record("c1", ["redacted"], raw=False)
        place.store([thin], on_plan_change="rewrite")

        assert place.stored()["c1"].conversation == thin.conversation
        assert place.db.versions.count_documents({}) == 0
        assert [place.db[f"records.{part}"].count_documents({}) for part in ("files", "chunks")] == [0, 0]


class TestVersions:
    def test_the_state_before_is_kept(self, place):
        """Merging keeps what was superseded."""
        old = make_record("c1")
        place.store([old])
        place.store([longer(old, "more")])

        version = place.db.versions.find_one()
        assert (version["conversation"], version["source_hash"]) == ("test:c1", old.source_hash)

    def test_beside_what_is_stored_already(self, place):
        """A batch may hold a newer version and then the one that is there."""
        old = make_record("c1")
        place.store([old])

        assert place.store([longer(old, "more"), old], chunk_records=2).stored == 1
        assert len(place.stored()["c1"].conversation.messages) == 3

    @pytest.mark.parametrize(
        ("policy", "counts", "versions"),
        [
            ("keep", Counts(read=1, unchanged=1), 0),
            ("new_version", Counts(read=1, stored=1), 1),
            ("rewrite", Counts(read=1, stored=1), 0),
        ],
    )
    def test_another_plan(self, place, policy, counts, versions):
        """`on_plan_change` decides what becomes of a record that was stored under another plan."""
        place.store([make_record("c1")])
        place.db.conversations.update_many({}, {"$set": {"plan_hash": "another"}})
        place.db.checkpoints.delete_many({})

        assert place.store([make_record("c1")], on_plan_change=policy) == counts
        assert place.db.versions.count_documents({}) == versions


class TestAssets:
    def test_stand_in_gridfs(self, place):
        """Any tool for GridFS reads them, by their SHA-256; the same bytes are there once."""
        data = bytes(range(256)) * 20_000
        asset = make_asset(data)
        records = [
            make_record(f"c{i}", assets=(asset,), messages=(Message(id="m", role="user", parts=(FilePart(asset.id),)),))
            for i in range(2)
        ]
        place.store(records, assets={asset.sha256: data})

        bucket = gridfs.GridFSBucket(place.db, "assets")
        assert bucket.open_download_stream_by_name(asset.sha256).read() == data
        assert place.db["assets.files"].count_documents({}) == 1
        assert place.db.uploads.count_documents({}) == 0

    def test_what_a_killed_run_left_is_removed(self, place):
        """Chunks without their entry are never taken for a file."""
        place.store([make_record("c1")])
        place.db.uploads.insert_one({"_id": "dead", "role": "assets"})
        place.db["assets.chunks"].insert_one({"files_id": "dead", "n": 0, "data": b"half"})

        place.store([make_record("c2")])

        assert place.db["assets.chunks"].count_documents({}) == 0
        assert place.db.uploads.count_documents({}) == 0

    def test_a_missing_asset_is_no_upload(self, place):
        """Without its SHA-256 there is nothing to store."""
        record = make_record("c1", assets=(Asset(id="gone", missing="not in the export"),))

        assert place.store([record]).stored == 1


class TestRefused:
    def test_a_document_is_quarantined_alone(self, place):
        """A validator of the database's owner refuses one; the others are stored, and the equation holds."""
        place.db.create_collection("conversations", validator={"title": {"$ne": "forbidden"}})
        records = [make_record(f"c{i}", title="forbidden" if i == 2 else "fine") for i in range(4)]

        report = place.run(records, max_unit_records=10)

        assert report.sinks["contract"] == Counts(read=4, stored=3, quarantined=1)
        assert report.exit_code == 3
        entry = place.db.quarantine.find_one()
        assert entry["stage"] == "write" and entry["record"] == "test:c2"
        assert entry["reason"] == (
            "the server refuses the document (validation failed, code 121); see the validator and the indexes of"
            " `conversations`"
        )
        assert place.db.runs.find_one()["quarantined"] == 1

    def test_document_after_document_ends_the_run(self, place):
        """A validator that fits nothing of ours is a mistake, not a property of the records."""
        place.db.create_collection("conversations", validator={"nothing": "has this"})

        with pytest.raises(FatalError, match="refuses document after document"):
            place.run([make_record(f"c{i}") for i in range(60)], max_unit_records=100)
        assert place.db.conversations.count_documents({}) == 0


class TestPreparing:
    def test_names_the_indexes_that_are_missing(self, place):
        """With `create_indexes: false` they are left to an administrator, with the commands."""
        sink = place.sink(create_indexes=False)
        with pytest.raises(FatalError, match="lacks what `create_indexes: false` leaves to you") as caught:
            place.run([make_record()], sink=sink)

        command = (
            'db.getCollection("conversations").createIndex({"_id": 1, "source_hash": 1, "plan_hash": 1},'
            ' {"name": "muniment_known"})'
        )
        assert command in str(caught.value)
        place.run([make_record()])
        assert place.store([make_record("c2")], sink=sink).stored == 1

    def test_other_names(self, place):
        """A prefix for all, and single names."""
        place.store([make_record()], sink=place.sink(collection_prefix="m_", collections={"conversations": "chats"}))

        assert {"chats", "m_versions", "m_meta", "m_assets.files"} <= set(place.db.list_collection_names())

    @pytest.mark.parametrize(
        ("meta", "message"),
        [
            ({"version": 99, "documents": "conversation"}, "written by a newer muniment (archive version 99)"),
            ({"version": 1, "documents": "message"}, "holds an archive with `documents: message`"),
        ],
    )
    def test_refuses_another_archive(self, place, meta, message):
        """A newer schema, or another layout."""
        place.db.meta.insert_one({"_id": "archive", **meta})

        with pytest.raises(FatalError) as caught:
            place.run([make_record()])
        assert message in str(caught.value)

    def test_refuses_a_collation(self, place):
        """Under one that ignores case two conversations could be one."""
        place.db.create_collection("conversations", collation={"locale": "en", "strength": 1})

        with pytest.raises(FatalError, match="`conversations` has a collation"):
            place.run([make_record()])

    def test_refuses_a_view(self, place):
        """Nothing can be stored in one."""
        place.db.create_collection("conversations", viewOn="elsewhere", pipeline=[])

        with pytest.raises(FatalError, match="`conversations` is a view"):
            place.run([make_record()])


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"uri": "localhost"}, "`uri` begins with `mongodb://` or `mongodb+srv://`"),
            (
                {"uri": "mongodb://me:hunter2@host/"},
                "`uri` holds a secret; leave it out there and say `password: ${secret:env:MONGODB_PASSWORD}`",
            ),
            (
                {"uri": "mongodb://host/?tlsCertificateKeyFilePassword=x"},
                "`uri` holds a secret; leave it out there and say `password: ${secret:env:MONGODB_PASSWORD}`",
            ),
            ({"database": "a.b"}, "`a.b` cannot be the name of a MongoDB database"),
            ({"collections": {"conversations": "x", "versions": "x"}}, "two collections are named `x`"),
            (
                {"write_concern": "0"},
                "`write_concern` is at least one member: without an answer nothing is known to be stored",
            ),
            (
                {"collection_prefix": "$"},
                "a collection's name is not empty, holds no `$` and does not begin with `system.`",
            ),
        ],
    )
    def test_are_checked_together(self, options, problem):
        """Before anything runs."""
        assert list(MongoDB(**options).check()) == [problem]

    def test_that_are_right_have_no_problem(self):
        """A user in the address is no secret."""
        assert list(MongoDB(uri="mongodb+srv://me@cluster.example.org/?authSource=admin").check()) == []

    def test_an_unknown_collection_is_named(self):
        """With those that there are."""
        (problem,) = MongoDB(collections={"chats": "x"}).check()

        assert problem.startswith("`collections` has no `chats`; it may name `conversations`, `messages`")

    def test_fewer_members_promise_less(self):
        """`plan` says so."""
        assert MongoDB().guarantee == "effectively once"
        assert MongoDB(write_concern="1").guarantee != "effectively once"

    def test_a_password_needs_a_user(self):
        """Otherwise it would not be used."""
        from muniment import Secret

        assert list(MongoDB(password=Secret("env:P")).check()) == [
            "`password` needs a user: `uri: mongodb://user@host/`"
        ]


class TestRepair:
    def repaired(self, place, records):
        """Tell what is damaged, forget it, and store again."""
        damages = []
        with place.sink().open_target(Context(run="survey")) as target:
            found = [r.conversation.id for r in target.survey(damages.append)]
            target.forget([], [], damages)
        place.db.checkpoints.delete_many({})
        return found, [d.keys for d in damages], place.store(records)

    def test_a_damaged_record_is_named_and_replaced(self, place):
        """The others are read; afterwards all are whole, and nothing of the damage is kept."""
        records = [make_record(f"c{i}") for i in range(3)]
        place.store(records)
        place.db.conversations.update_one({"_id": "test:c1"}, {"$set": {"record": b"rubbish"}})

        assert self.repaired(place, records) == (["c0", "c2"], [("test:c1",)], Counts(read=3, stored=1, unchanged=2))
        assert place.stored()["c1"].conversation == records[1].conversation
        assert place.db.versions.count_documents({}) == 0

    def test_reading_a_damaged_record_fails(self, place):
        """It is never passed over in silence, and an ordinary run does not merge with it."""
        place.store([make_record("c1")])
        place.db.conversations.update_one({"_id": "test:c1"}, {"$set": {"record": b"rubbish"}})

        with pytest.raises(InputError, match="`'conversations/test:c1'` is damaged; fill it from another copy"):
            place.stored()
        with pytest.raises(FatalError, match="what is stored as `'test:c1'` is damaged"):
            place.run([longer(make_record("c1"), "more")])

    def test_a_short_record_is_merged(self, place):
        """Also where its hash says that it is what came."""
        full = longer(make_record("c1"), "more")
        place.store([make_record("c1")])
        place.db.conversations.update_one({}, {"$set": {"source_hash": full.source_hash}})
        assert place.store([full]) == Counts(read=1, unchanged=1)

        with place.sink().open_target(Context(run="survey")) as target:
            target.forget([], ["test:c1"], [])
        place.db.checkpoints.delete_many({})
        assert place.store([full]) == Counts(read=1, stored=1)
        assert len(place.stored()["c1"].conversation.messages) == 3
