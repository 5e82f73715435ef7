"""Where documents come from: files, folders and the installed Python's documentation, read as one stream.

`inputs.open_inputs` is the way in; `rejects.Rejects` receives what no document can be made of.
"""
