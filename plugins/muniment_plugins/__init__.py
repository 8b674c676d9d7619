"""The first-party plugins, registered exactly as a stranger's are."""

from muniment.hookspecs import hookimpl


@hookimpl
def muniment_sources() -> dict[str, str]:
    return {
        "archive": "muniment_plugins.sources.archive:ArchiveSource",
        "chatgpt_export": "muniment_plugins.sources.chatgpt_export:ChatGPTExport",
    }


@hookimpl
def muniment_transforms() -> dict[str, str]:
    return {
        "filter": "muniment_plugins.transforms.filter:Filter",
        "map": "muniment_plugins.transforms.map:Map",
        "select_branch": "muniment_plugins.transforms.select_branch:SelectBranch",
    }


@hookimpl
def muniment_sinks() -> dict[str, str]:
    return {
        "azure_blob": "muniment_plugins.sinks.azure_blob:AzureBlob",
        "files": "muniment_plugins.sinks.files:Files",
        "gcs": "muniment_plugins.sinks.gcs:GCS",
        "mongodb": "muniment_plugins.sinks.mongodb:MongoDB",
        "s3": "muniment_plugins.sinks.s3:S3",
        "sql": "muniment_plugins.sinks.sql:SQL",
        "sqlite": "muniment_plugins.sinks.sqlite:SQLite",
    }


@hookimpl
def muniment_formats() -> dict[str, str]:
    return {
        "avro": "muniment_plugins.formats.avro:Avro",
        "csv": "muniment_plugins.formats.csv:CSV",
        "html": "muniment_plugins.formats.html:HTML",
        "json": "muniment_plugins.formats.json:JSONArray",
        "jsonl": "muniment_plugins.formats.jsonl:JSONLines",
        "markdown": "muniment_plugins.formats.markdown:Markdown",
        "parquet": "muniment_plugins.formats.parquet:Parquet",
        "txt": "muniment_plugins.formats.txt:PlainText",
    }


@hookimpl
def muniment_secrets() -> dict[str, str]:
    return {"keyring": "muniment_plugins.secrets.keyring:read_secret"}


@hookimpl
def muniment_commands() -> dict[str, str]:
    return {
        "archive": "muniment_plugins.sinks.sqlite.upkeep_cli:archive",
        "search": "muniment_plugins.sinks.sqlite.cli:search",
        "sql-schema": "muniment_plugins.sinks.sql.cli:sql_schema",
    }
