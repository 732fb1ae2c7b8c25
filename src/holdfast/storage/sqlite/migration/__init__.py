"""The schema, as steps forward. A step is never edited once released."""
