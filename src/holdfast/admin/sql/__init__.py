"""What is stored, as tables for SQL: `POST /query`. Needs the extra `sql`."""
