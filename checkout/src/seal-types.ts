/** Holds the published types of `seal.ts` to the code; compiled, never built. */

import type * as published from "./panward-seal.js";
import * as made from "./seal.js";

made satisfies typeof published;
