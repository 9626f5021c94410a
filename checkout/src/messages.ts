/**
 * What the merchant's page and a field's frame say to each other, and how each side checks it.
 *
 * What lives here: the messages, their schema, and nothing that sends. What never may be in one: a
 * card number, a code, or any digit of either; a page learns brand and validity, and the masked
 * card when there is a token.
 *
 * Every message carries the nonce of its field, which the page drew and handed over in the
 * fragment of the frame's URL. Who receives one checks, in this order: `event.source`,
 * `event.origin`, `read(event.data)`, the nonce. Who sends one names the other's origin, never "*".
 */

import type { Failure, FieldErrorCode, Look, MaskedCard, Part } from "./panward.js";

/** Words that a merchant's page sees too are in `panward.d.ts`, which is published. */
export type {
  ErrorCode,
  Failure,
  FieldErrorCode,
  Look,
  MaskedCard,
  Part,
  Style,
  Styles,
} from "./panward.js";

export const PROTOCOL = 1;

export type FieldName = "card" | "number" | "expiry" | "cvc";
/** `card` is all three in one frame. */

export type ToFrame =
  | ({ readonly type: "init"; readonly key: string; readonly verifyKey?: string } & Look)
  | ({ readonly type: "update" } & Look)
  | { readonly type: "focus"; readonly part?: Part }
  | { readonly type: "clear" }
  | { readonly type: "tokenize"; readonly id: number; readonly milliseconds: number }
  | {
      readonly type: "attach_cvc";
      readonly id: number;
      readonly token: string;
      readonly milliseconds: number;
    };

export interface Change {
  readonly field: Part;
  readonly brand: string; // "unknown" until it can be told; of `number` and `card` frames
  readonly empty: boolean;
  readonly complete: boolean; // of this field alone
  readonly error?: FieldErrorCode;
  readonly message?: string; // the error in the frame's language
}

export type ToPage =
  | { readonly type: "loaded" } // the script runs and waits for `init`
  | { readonly type: "ready" }
  | ({ readonly type: "change" } & Change)
  | { readonly type: "focus"; readonly field: Part }
  | { readonly type: "blur"; readonly field: Part }
  | { readonly type: "submit" } // Enter was pressed
  | { readonly type: "height"; readonly pixels: number }
  | { readonly type: "result"; readonly id: number; readonly card: MaskedCard }
  | { readonly type: "done"; readonly id: number } // a code is attached
  | { readonly type: "failure"; readonly id: number; readonly error: Failure };

export type Enveloped<M> = M & { readonly panward: typeof PROTOCOL; readonly nonce: string };
