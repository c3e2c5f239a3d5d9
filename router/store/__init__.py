"""The store: journal, segments, stream files and metadata, and their recovery at a start.

The core uses it through ``store.Store``, the implementation of ``persistence.api``. No file name leaves this
package.
"""
