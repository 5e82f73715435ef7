"""The datastore over gRPC: a server that puts a `Retriever` or a `Shard` on the wire, and clients that are one."""
