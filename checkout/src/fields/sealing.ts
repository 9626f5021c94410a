/**
 * The part of a frame that is loaded late: libsodium is larger than all the rest together.
 *
 * The entry of a script of its own; it hands its functions over by a property of the window.
 */

import { seal, sealCvc, verifyEdgeKey } from "../seal.js";

export interface Sealing {
  readonly seal: typeof seal;
  readonly sealCvc: typeof sealCvc;
  readonly verifyEdgeKey: typeof verifyEdgeKey;
}

declare global {
  interface Window {
    panwardSealing?: Sealing;
  }
}

window.panwardSealing = Object.freeze({ seal, sealCvc, verifyEdgeKey });
