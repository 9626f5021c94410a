/**
 * A card number in its field: grouped as on the card, and judged. Pure.
 *
 * What never may live here: the document, and a copy of what was typed.
 */

import type { FieldErrorCode } from "../messages.js";
import { DIGITS_MAX, brandAsTyped, brandOf, lengthsFrom, passesLuhn } from "./brands.js";
import { type Text, digitsOf, indexAfter } from "./digits.js";

const FOURS = [4, 4, 4, 4];
const SIX_IN_THE_MIDDLE = [4, 6];
const FIVE_IN_THE_MIDDLE = [4, 5];
const SHORT_DINERS_DIGITS = 14;

/** What a judged part is. `error` is set only if more typing at the end cannot mend it. */
export interface Verdict {
  readonly complete: boolean;
  readonly error?: FieldErrorCode; // wrong, whatever is typed after it
  readonly reason?: FieldErrorCode; // why it is not complete, said when the field is left
}

function groupsOf(brand: string, count: number): readonly number[] {
  if (brand === "amex") return SIX_IN_THE_MIDDLE;
  if (brand === "uatp") return FIVE_IN_THE_MIDDLE;
  return brand === "diners" && count <= SHORT_DINERS_DIGITS ? SIX_IN_THE_MIDDLE : FOURS;
}

/** How many digits fit, of a number with this beginning. */
export function digitsMax(digits: string): number {
  return Math.max(...lengthsFrom(digits), 0) || DIGITS_MAX;
}

export function grouped(digits: string): string {
  const parts: string[] = [];
  let from = 0;
  for (const size of groupsOf(brandAsTyped(digits).name, digits.length)) {
    if (from < digits.length) parts.push(digits.slice(from, from + size));
    from += size;
  }
  if (from < digits.length) parts.push(digits.slice(from));
  return parts.join(" ");
}

/** Rewrites what the field holds; the caret stays after the digit that it was after. */
export function formatNumber(text: string, caret: number): Text {
  const all = digitsOf(text).slice(0, DIGITS_MAX);
  const digits = all.slice(0, digitsMax(all));
  const before = Math.min(digitsOf(text.slice(0, caret)).length, digits.length);
  const formatted = grouped(digits);
  return { text: formatted, caret: indexAfter(formatted, before) };
}

/** Whether one more digit would push another out. */
export function isNumberFull(text: string): boolean {
  const digits = digitsOf(text);
  return digits.length >= digitsMax(digits);
}

export function judgeNumber(digits: string): Verdict {
  if (digits === "") return { complete: false, reason: "incomplete" };
  const lengths = lengthsFrom(digits);
  if (!lengths.includes(digits.length)) {
    const mayGrow = lengths.some((length) => length > digits.length);
    if (mayGrow) return { complete: false, reason: "incomplete" };
    return { complete: false, error: "number_length", reason: "number_length" };
  }
  if (!brandOf(digits).luhnRequired || passesLuhn(digits)) return { complete: true };
  const isLast = digits.length === lengths[lengths.length - 1];
  const reason = "number_luhn";
  return isLast ? { complete: false, error: reason, reason } : { complete: false, reason };
}
