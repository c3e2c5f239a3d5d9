"""Commands that use the management API: one module for each kind of object."""
