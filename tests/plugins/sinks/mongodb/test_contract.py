"""The sink `mongodb` keeps the contract of sinks, on a real server."""

import uuid

import pytest

from muniment.testing import SinkContract
from muniment_plugins.sinks.mongodb import MongoDB


class MongoContract(SinkContract):
    locks = True
    documents = "conversation"

    @pytest.fixture
    def sink(self, mongodb):
        import pymongo

        name = f"contract_{uuid.uuid4().hex[:12]}"
        yield MongoDB(uri=mongodb.extra["url"], database=name, documents=self.documents)
        with pymongo.MongoClient(mongodb.extra["url"]) as client:
            client.drop_database(name)


class TestConversations(MongoContract):
    """One document for each conversation."""


@pytest.mark.slow
class TestMessages(MongoContract):
    """One document for each message."""

    documents = "message"
