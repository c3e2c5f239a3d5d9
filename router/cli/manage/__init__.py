"""Commands over the management API: one module for each kind of object that they show and change."""
