/**
 * What a bundler imports. The assignment below holds the published types to the code.
 */

import { PanwardError } from "./errors.js";
import { loader } from "./loader.js";

const Panward = loader(undefined);

({ Panward, PanwardError }) satisfies typeof import("./panward.js");

export { Panward, PanwardError };
