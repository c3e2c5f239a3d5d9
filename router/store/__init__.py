"""What survives: the journal, the segments behind it, the metadata, and how a broker comes back from them.

The core sees it through ``store.Store``: append, the committed position, read a page, settle, drop. No file
name leaves this package.
"""
