-- What operators have set for services, by service. NULL: nothing.

ALTER TABLE deployment ADD COLUMN settings BLOB;
