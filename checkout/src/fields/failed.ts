/**
 * Why a card was not tokenized, as data; words are put to it where it is told to the page.
 *
 * Here live the error and the table from the gateway's problems to it. What never may be in one:
 * a foreign error, or anything typed.
 */

import type { ErrorCode, Failure, Part } from "../messages.js";

/** A frame is not called wrongly by a page's author; the loader is. */
export type FrameErrorCode = Exclude<ErrorCode, "usage">;

export interface Details {
  readonly field?: Part;
  readonly reason?: string;
  readonly requestId?: string;
}

export class Failed extends Error {
  constructor(
    readonly code: FrameErrorCode,
    readonly retryable: boolean,
    readonly details: Details = {},
  ) {
    super(code);
  }

  told(message: string): Failure {
    return { code: this.code, message, retryable: this.retryable, ...this.details };
  }
}

/** What the gateway answers when it refuses (RFC 9457). */
export interface Problem {
  readonly status: number;
  readonly code: string;
  readonly field: string;
  readonly reason: string;
  readonly requestId: string;
}

type Meaning = readonly [code: FrameErrorCode, retryable: boolean];

const ORIGIN_REFUSED: Meaning = ["origin_refused", false];
/** Maps, since a plain object would also find `constructor`. */
const CODES: ReadonlyMap<string, Meaning> = new Map([
  ["card_invalid", ["card_refused", false]],
  ["invalid_card", ["card_refused", false]],
  ["rate_limited", ["rate_limited", true]],
  ["not_authenticated", ["key_refused", false]],
  ["not_permitted", ["key_refused", false]],
  ["origin_not_allowed", ORIGIN_REFUSED],
  ["token_unknown", ["token_unknown", false]],
]);
const STATUSES: ReadonlyMap<number, Meaning> = new Map([
  [401, ["key_refused", false]],
  [403, ORIGIN_REFUSED],
  [429, ["rate_limited", true]],
]);
const PARTS: ReadonlyMap<string, Part> = new Map([
  ["number", "number"],
  ["exp_month", "expiry"],
  ["exp_year", "expiry"],
  ["cvc", "cvc"],
]);

/** `card.exp_year` and `exp_year` name the same part. */
function partOf(field: string): Part | undefined {
  return PARTS.get(field.replace(/^card\./, ""));
}

/** Says in the page's terms what a problem means. */
export function failedBy(problem: Problem): Failed {
  const isOrigin = problem.code === "sealed_refused" && problem.reason === "origin";
  const known = isOrigin ? ORIGIN_REFUSED : CODES.get(problem.code);
  const again = problem.status >= 500 || problem.status === 409;
  const [code, retryable] = known ?? STATUSES.get(problem.status) ?? ["unavailable", again];
  const field = partOf(problem.field);
  return new Failed(code, retryable, {
    ...(field === undefined ? {} : { field }),
    ...(problem.reason === "" ? {} : { reason: problem.reason }),
    ...(problem.requestId === "" ? {} : { requestId: problem.requestId }),
  });
}
