"""The five tasks: one table, one layout, one mixture."""
