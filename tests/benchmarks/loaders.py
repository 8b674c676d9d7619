"""The plain loaders of some stores, and what they load: what a person would write without muniment.

    python loaders.py dump STORE SETTINGS.json      # what muniment has stored, as the files that a loader takes
    python loaders.py load STORE SETTINGS.json      # load them into an empty place, with the same indexes

``SETTINGS.json`` holds where the store is and the folder of the files; see `stores.py`.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

BATCH = 1000


# --- PostgreSQL: COPY -----------------------------------------------------------------------


def dump_postgresql(s: dict[str, Any]) -> None:
    import psycopg

    with psycopg.connect(s["url"], autocommit=True) as connection:
        select = "SELECT relname FROM pg_stat_user_tables WHERE schemaname='public' ORDER BY relname"
        names = [n for (n,) in connection.execute(select)]
        for name in names:
            with (
                connection.cursor().copy(f'COPY "{name}" TO STDOUT') as copy,
                (Path(s["folder"]) / f"{name}.copy").open("wb") as file,
            ):
                for data in copy:
                    file.write(data)
    for section in ("pre-data", "post-data"):
        with (Path(s["folder"]) / f"{section}.sql").open("wb") as file:
            command = [s["pg_dump"], f"--section={section}", "--no-owner", "--dbname", s["url"]]
            subprocess.run(command, stdout=file, check=True)


def load_postgresql(s: dict[str, Any]) -> None:
    import psycopg

    folder = Path(s["folder"])
    with psycopg.connect(s["empty_url"], autocommit=True) as connection:
        _run_sql(s, folder / "pre-data.sql")
        for file in sorted(folder.glob("*.copy")):
            with connection.cursor().copy(f'COPY "{file.stem}" FROM STDIN') as copy, file.open("rb") as stream:
                while data := stream.read(2**20):
                    copy.write(data)
        _run_sql(s, folder / "post-data.sql")


def _run_sql(s: dict[str, Any], file: Path) -> None:
    command = [s["psql"], "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", s["empty_url"], "--file", str(file)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


# --- MongoDB: insert_many, unordered --------------------------------------------------------


def dump_mongodb(s: dict[str, Any]) -> None:
    from bson.raw_bson import RawBSONDocument
    from pymongo import MongoClient

    database = MongoClient(s["uri"], document_class=RawBSONDocument)[s["database"]]
    indexes = {}
    for name in database.list_collection_names():
        with (Path(s["folder"]) / f"{name}.bson").open("wb") as file:
            for document in database[name].find():
                file.write(document.raw)
        plain = MongoClient(s["uri"])[s["database"]][name].index_information()
        indexes[name] = [
            [i["key"], {k: v for k, v in i.items() if k in ("unique", "sparse", "partialFilterExpression")}]
            for key, i in plain.items()
            if key != "_id_"
        ]
    (Path(s["folder"]) / "indexes.json").write_text(json.dumps(indexes))


def load_mongodb(s: dict[str, Any]) -> None:
    from bson import decode_file_iter
    from bson.codec_options import CodecOptions
    from bson.raw_bson import RawBSONDocument
    from pymongo import MongoClient

    database = MongoClient(s["uri"], w="majority", journal=True)[s["empty_database"]]
    indexes = json.loads((Path(s["folder"]) / "indexes.json").read_text())
    for file in sorted(Path(s["folder"]).glob("*.bson")):
        with file.open("rb") as stream:
            batch: list[Any] = []
            size = 0
            for document in decode_file_iter(stream, CodecOptions(document_class=RawBSONDocument)):
                batch.append(document)
                size += len(document.raw)
                if len(batch) >= BATCH or size > 16 * 2**20:
                    database[file.stem].insert_many(batch, ordered=False)
                    batch, size = [], 0
            if batch:
                database[file.stem].insert_many(batch, ordered=False)
        for keys, options in indexes.get(file.stem, ()):
            database[file.stem].create_index([tuple(k) for k in keys], **options)


# --- S3 and GCS: one upload -----------------------------------------------------------------


def dump_s3(s: dict[str, Any]) -> None:
    client = _s3(s)
    with (Path(s["folder"]) / "objects").open("wb") as file:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=s["bucket"]):
            for found in page.get("Contents", ()):
                shutil.copyfileobj(client.get_object(Bucket=s["bucket"], Key=found["Key"])["Body"], file)


def load_s3(s: dict[str, Any]) -> None:
    _s3(s).upload_file(str(Path(s["folder"]) / "objects"), s["bucket"], "one-upload")


def _s3(s: dict[str, Any]) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3", endpoint_url=s["endpoint"], aws_access_key_id=s["user"], aws_secret_access_key=s["password"],
        region_name="us-east-1", config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip


def dump_gcs(s: dict[str, Any]) -> None:
    with (Path(s["folder"]) / "objects").open("wb") as file:
        for blob in _gcs(s).list_blobs(s["bucket"]):
            blob.download_to_file(file)


def load_gcs(s: dict[str, Any]) -> None:
    blob = _gcs(s).bucket(s["bucket"]).blob("one-upload", chunk_size=8 * 2**20)
    blob.upload_from_filename(str(Path(s["folder"]) / "objects"))


def _gcs(s: dict[str, Any]) -> Any:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    options = {"api_endpoint": s["endpoint"]}
    return storage.Client(project="test", credentials=AnonymousCredentials(), client_options=options)


# --- Parquet: pyarrow -----------------------------------------------------------------------


def dump_parquet(s: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for table in ("conversations", "messages"):
        files = sorted(Path(s["stored"]).rglob(f"{table}/**/*.parquet"))
        with pa.OSFile(str(Path(s["folder"]) / f"{table}.arrow"), "wb") as sink:
            writer = None
            for file in files:
                for batch in pq.ParquetFile(file).iter_batches(batch_size=2000):
                    writer = writer or pa.ipc.new_stream(sink, batch.schema)
                    writer.write_batch(batch)
            if writer:
                writer.close()


def load_parquet(s: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = Path(s["folder"]) / "loaded"
    out.mkdir(exist_ok=True)
    for file in sorted(Path(s["folder"]).glob("*.arrow")):
        with pa.OSFile(str(file), "rb") as source, pa.ipc.open_stream(source) as batches:
            writer = pq.ParquetWriter(out / f"{file.stem}.parquet", batches.schema, compression="zstd")
            with writer:
                for batch in batches:
                    writer.write_batch(batch)


if __name__ == "__main__":
    do, store, settings = sys.argv[1:]
    globals()[f"{do}_{store}"](json.loads(Path(settings).read_text()))
