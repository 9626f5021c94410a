/**
 * Frames of one form reading each other: same origin, same group, same parent, same key. The page
 * knows its groups, so without the key it could have what was typed for one tenant sealed for
 * another, who can have it opened.
 *
 * The page that holds them relays nothing and can ask for nothing: what is on this window is
 * only for scripts of our own origin, of which there is this one. What never may live here: a
 * value kept past the call that asked for it.
 */

import type { FieldErrorCode, Part } from "../messages.js";

/** What one frame lets its peers ask. */
export interface PanwardField {
  readonly group: string;
  readonly keyId: string; // of the frame's own address: the gateway has looked it up
  readonly origin: string; // the page's, as the gateway said it to that frame
  readonly parts: readonly Part[];
  /** The text of a part, at this moment. */
  read(part: Part): string;
  /** Why a part is not complete, shown and focused: the first such of a form. */
  blame(part: Part, reason: FieldErrorCode): void;
  /** What is shown of that, in words; "" if nothing is. */
  message(part: Part): string;
  /** How long the code of the card in this frame may be; undefined without a number. */
  codeLengths(): readonly number[] | undefined;
  /** The number's frame says how long a code may be. */
  codeLengthsAre(lengths: readonly number[]): void;
}

declare global {
  interface Window {
    panwardField?: PanwardField;
  }
}

const FRAMES_MAX = 100;

function isOfOneForm(peer: PanwardField, own: PanwardField): boolean {
  return peer.group === own.group && peer.keyId === own.keyId && peer.origin === own.origin;
}

/** Gives the fields of this one's form, itself among them. */
export function peersOf(own: PanwardField): readonly PanwardField[] {
  const found: PanwardField[] = [];
  const frames = window.parent.frames;
  for (let index = 0; index < Math.min(frames.length, FRAMES_MAX); index += 1) {
    try {
      const peer = frames[index]?.panwardField;
      if (peer && isOfOneForm(peer, own)) found.push(peer);
    } catch {
      continue; // a frame of another origin
    }
  }
  return found;
}
