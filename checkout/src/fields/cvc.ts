/** A card's code in its field: as long as the brand's. Pure; a code is never kept here. */

import { DIGITS_MIN, UNKNOWN, brandAsTyped, brandOf } from "./brands.js";
import { type Text, digitsOf, indexAfter } from "./digits.js";
import { type Verdict, judgeNumber } from "./number.js";

/** What a code may be before a brand is known. */
export const ANY_CODE_LENGTHS: readonly number[] = [3, 4];

/** How long the code of a card with this number, or this beginning of one, may be; 0: none. */
export function codeLengthsOf(number: string): readonly number[] {
  if (number.length >= DIGITS_MIN && judgeNumber(number).complete)
    return brandOf(number).cvcLengths;
  const brand = brandAsTyped(number);
  return brand === UNKNOWN ? ANY_CODE_LENGTHS : brand.cvcLengths;
}

export function formatCvc(text: string, caret: number, lengths: readonly number[]): Text {
  const digits = digitsOf(text).slice(0, Math.max(...lengths));
  const before = Math.min(digitsOf(text.slice(0, caret)).length, digits.length);
  return { text: digits, caret: indexAfter(digits, before) };
}

/** An empty code is complete where the brand's cards may have none. */
export function judgeCvc(digits: string, lengths: readonly number[]): Verdict {
  if (lengths.includes(digits.length)) return { complete: true };
  if (digits === "") return { complete: false, reason: "incomplete" };
  const reason = "cvc_length";
  const isTooLong = digits.length > Math.max(...lengths);
  return isTooLong ? { complete: false, error: reason, reason } : { complete: false, reason };
}
