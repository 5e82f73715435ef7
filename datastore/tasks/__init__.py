"""A build in tasks: what each does, in which order, and where it notes that it is done.

`plan` cuts the input into tasks; `stages` knows what can be done to them; `executors` says where; `workspace` is the
folder `work/` of a store that is being built, where everything lies that a killed build goes on from.
"""
