"""How is a server connected to, and what can it do?"""

import logging
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from attrs import frozen

from muniment import Context, FatalError
from muniment_plugins.sinks.mongodb.names import VERSION, Names, indexes
from muniment_plugins.sinks.mongodb.refusals import translated

if TYPE_CHECKING:
    from muniment_plugins.sinks.mongodb import MongoDB

_CONNECT_MILLISECONDS = 10_000
# Inside a transaction a collection cannot be made by every server; the others are made with their indexes.
_NEEDED_IN_TRANSACTIONS = ("checkpoints", "quarantine", "manifests")


@frozen(eq=False)
class Connection:
    """A client with the archive's database.  ``transactions``: whether the server has them."""

    client: Any
    database: Any
    names: Names
    place: str
    documents: str
    transactions: bool

    def collection(self, role: str) -> Any:
        return self.database[self.names.of(role)]

    def translated(self) -> Any:
        return translated(self.place, self.database.name)

    def together(self, work: Callable[[Any], None]) -> None:
        """Do ``work`` in a transaction of its own, which it is given; where the server has none, without."""
        from pymongo.read_concern import ReadConcern

        with self.translated():
            if not self.transactions:
                work(None)
                return
            with self.client.start_session() as session:
                session.with_transaction(
                    work, read_concern=ReadConcern("snapshot"), write_concern=self.database.write_concern
                )

    def close(self) -> None:
        self.client.close()


def place_of(sink: "MongoDB") -> str:
    """Return what names the database in messages: the address without user and options."""
    address = re.sub(r"//[^/?]*@", "//", sink.uri).partition("?")[0]
    scheme, _, hosts = address.partition("//")
    return f"{scheme}//{hosts.partition('/')[0]}/{sink.database}"


def connect(sink: "MongoDB", ctx: Context) -> Connection:
    """Return a connection to a server that answers.

    Raises:
        FatalError: it cannot be used; the message says why.
        TransientError: it does not answer.
    """
    from pymongo import MongoClient
    from pymongo.read_concern import ReadConcern
    from pymongo.write_concern import WriteConcern

    place = place_of(sink)
    # At this logger's DEBUG the driver would show the documents.
    logging.getLogger("pymongo.command").setLevel(logging.INFO)
    with translated(place, sink.database):
        client: Any = MongoClient(sink.uri, **_client_options(sink, ctx))
        try:
            hello = client.admin.command("hello")
            _check_writable(hello, place)
            database = client.get_database(
                sink.database,
                write_concern=WriteConcern(w=_concern(sink.write_concern), j=sink.journal),
                # What a majority does not have yet may be gone after a fail-over.
                read_concern=ReadConcern("majority"),
            )
            names = Names(sink.collection_prefix, dict(sink.collections))
            transactions = "setName" in hello or hello.get("msg") == "isdbgrid"
        except BaseException:
            client.close()
            raise
    return Connection(client, database, names, place, sink.documents, transactions)


def prepare(connection: Connection, sink: "MongoDB") -> None:
    """Create the collections and indexes that are missing, or name them where that is not wished.

    Raises:
        FatalError: the database holds something else, or lacks what must be there.
    """
    with connection.translated():
        check_meta(connection)
        existing = {c["name"]: c for c in connection.database.list_collections()}
        wanted = list(connection.names.collections(connection.documents))
        for name in wanted:
            _check_collection(existing.get(name), name, connection.place)
        for name in map(connection.names.of, _NEEDED_IN_TRANSACTIONS):
            if name not in existing:
                _create_collection(connection.database, name)
        lacking = list(_lacking(connection, sink, existing))
        if lacking and not sink.create_indexes:
            commands = "; ".join(f"`{command}`" for command in lacking)
            raise FatalError(
                f"`{connection.place}` lacks what `create_indexes: false` leaves to you; in mongosh: {commands}"
            )
        connection.collection("meta").update_one(
            {"_id": "archive"}, {"$set": {"version": VERSION, "documents": connection.documents}}, upsert=True
        )


def _lacking(connection: Connection, sink: "MongoDB", existing: dict[str, Any]) -> Iterator[str]:
    """Create the indexes that are missing, or yield the commands that would."""
    from pymongo import IndexModel

    wanted: dict[str, list[Any]] = {}
    for index in indexes(connection.names, documents=connection.documents, text=sink.text_index):
        wanted.setdefault(index.collection, []).append(index)
    for name, some in wanted.items():
        if sink.create_indexes:
            connection.database[name].create_indexes([IndexModel(i.keys, name=i.name, **i.options) for i in some])
            continue
        held = {i["name"] for i in connection.database[name].list_indexes()} if name in existing else set()
        yield from (i.command() for i in some if i.name not in held)


def check_meta(connection: Connection) -> bool:
    """Say whether there is an archive.

    Raises:
        FatalError: it is another one than the options say, or of a newer muniment.
    """
    meta = connection.collection("meta").find_one({"_id": "archive"})
    if meta is None:
        return False
    if meta["version"] > VERSION:
        raise FatalError(
            f"`{connection.place}` was written by a newer muniment (archive version {meta['version']}); update muniment"
        )
    if meta["documents"] != connection.documents:
        raise FatalError(
            f"`{connection.place}` holds an archive with `documents: {meta['documents']}`; say so, or choose another"
            " `collection_prefix`"
        )
    return True


def _check_collection(found: Any, name: str, place: str) -> None:
    if found is None:
        return
    if found["type"] != "collection" or found.get("options", {}).get("capped"):
        raise FatalError(f"`{place}`: `{name}` is a view or of a special kind; choose another `collection_prefix`")
    if found.get("options", {}).get("collation", {}).get("locale", "simple") != "simple":
        raise FatalError(
            f"`{place}`: `{name}` has a collation, under which different keys can be equal; choose another"
            " `collection_prefix`"
        )


def _create_collection(database: Any, name: str) -> None:
    from pymongo.errors import CollectionInvalid, OperationFailure

    try:
        database.create_collection(name, check_exists=False)
    except CollectionInvalid:
        pass
    except OperationFailure as error:
        if error.code != 48:  # NamespaceExists: somebody was faster
            raise


def _check_writable(hello: Any, place: str) -> None:
    if not hello.get("isWritablePrimary", False):
        raise FatalError(
            f"`{place}` is not the primary of its set, so it cannot be written; name the whole set in `uri`"
            " (`replicaSet=...`, no `directConnection`)"
        )


def _client_options(sink: "MongoDB", ctx: Context) -> dict[str, Any]:
    options: dict[str, Any] = {
        "appname": "muniment",
        "tz_aware": True,
        "serverSelectionTimeoutMS": int(sink.server_selection_timeout_seconds * 1000),
        "connectTimeoutMS": _CONNECT_MILLISECONDS,
    }
    if sink.password is not None:
        options["password"] = ctx.reveal(sink.password)
    if sink.tls_ca_file:
        options |= {"tls": True, "tlsCAFile": sink.tls_ca_file}
    if sink.tls_certificate_key_file:
        options |= {"tls": True, "tlsCertificateKeyFile": sink.tls_certificate_key_file}
    if sink.tls_certificate_key_password is not None:
        options["tlsCertificateKeyFilePassword"] = ctx.reveal(sink.tls_certificate_key_password)
    return options


def _concern(text: str) -> int | str:
    return int(text) if text.isdigit() else text
