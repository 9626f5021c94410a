/**
 * The error that a merchant's page gets, and the words of those that arise in the page itself.
 *
 * What never may be in one: anything that was typed into a field, or a key.
 */

import type * as published from "./panward.js";
import type { ErrorCode, Failure, Part } from "./messages.js";

export class PanwardError extends Error implements published.PanwardError {
  readonly code: ErrorCode;
  readonly retryable: boolean;
  declare readonly field?: Part;
  declare readonly reason?: string;
  declare readonly requestId?: string;

  constructor(failure: Failure) {
    super(failure.message);
    this.name = "PanwardError";
    this.code = failure.code;
    this.retryable = failure.retryable;
    if (failure.field !== undefined) this.field = failure.field;
    if (failure.reason !== undefined) this.reason = failure.reason;
    if (failure.requestId !== undefined) this.requestId = failure.requestId;
  }
}

/** For whoever writes the page: it calls us wrongly. */
export function usage(message: string): PanwardError {
  return new PanwardError({ code: "usage", message, retryable: false });
}

export function notReady(message: string): PanwardError {
  return new PanwardError({ code: "not_ready", message, retryable: true });
}

export function tooSlow(): PanwardError {
  return new PanwardError({
    code: "timeout",
    message: "The card fields did not answer in time.",
    retryable: true,
  });
}
