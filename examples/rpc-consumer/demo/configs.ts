/** Where the two Workers are configured, from the root of the repository. */
import { join } from "node:path";

/** The one that uses runs. */
export const CONSUMER = join("examples", "rpc-consumer", "wrangler.toml");
/** The one that has them. */
export const RUNS = "wrangler.toml";
