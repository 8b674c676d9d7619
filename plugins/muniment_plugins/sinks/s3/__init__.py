"""Keep conversations in a bucket of Amazon S3, or of a store that speaks its protocol."""

from muniment_plugins.sinks.s3.sink import S3

__all__ = ["S3"]
