"""The three bases that sinks inherit: an API, a database, a store of objects."""
