"""The one place where protobuf messages and the project's dataclasses become each other, a file for each proto package.

`x_to_message` writes, `x_from_message` reads. Reading a request raises InvalidArgument, with the field, for what its
bytes should not hold; writing one does so for what the wire cannot carry. Timeouts are in no message: they are the
call's gRPC deadline.
"""
