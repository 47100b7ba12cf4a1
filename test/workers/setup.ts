// Gives each test file's own, empty D1 database its tables. Idempotent: applied migrations are remembered.
import { applyD1Migrations } from "cloudflare:test";
import { env } from "cloudflare:workers";

await applyD1Migrations(env.DB, env.TEST_MIGRATIONS);
