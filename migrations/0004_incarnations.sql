-- incarnation: counts the lives of the run's coordinator. One that begins, and has to look here what an earlier one has
-- left, takes the next number; whatever an earlier one has sent, and comes later than that, is refused. It is no part of
-- what a coordinator records, and other writers leave it alone.
ALTER TABLE durable_runs ADD COLUMN incarnation INTEGER NOT NULL DEFAULT 0;

INSERT INTO durable_schema_info (version) VALUES (4);
