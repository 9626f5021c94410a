/**
 * An expiry date in its field: `MM / YY`, read from whatever people write, and judged. Pure.
 *
 * The rules are those of the gateway's `vault/card.py`. What never may live here: a clock.
 */

import type { FieldErrorCode } from "../messages.js";
import { type Text, digitsOf, indexAfter, withAsciiDigits } from "./digits.js";
import type { Verdict } from "./number.js";

export interface Expiry {
  readonly month: number;
  readonly year: number;
}

const SEPARATOR = " / ";
const CENTURY = 2000;
const MONTHS_AHEAD_MAX = 20 * 12;
const NO_EXPIRY: Expiry = { month: 12, year: 2049 }; // 12/49: a card that never ends
const UTC_MINUS_12_MS = 12 * 60 * 60 * 1000; // where a month ends last

const YEAR_FIRST = /^(20\d\d)\s*[-/.]\s*(\d{1,2})$/;
const YEAR_FIRST_UNSEPARATED = /^(20\d\d)(0[1-9]|1[0-2])$/;
const MONTH_FIRST = /^\s*(\d{0,2})(\s*[-/.\s]\s*)(\d*)/;
const TWO_MONTH_DIGITS_FROM = "1"; // a month that begins with 2 to 9 has one digit

interface Written {
  readonly month: string; // "", "0", "1", or two digits
  readonly year: string; // at most four digits
  readonly separated: boolean; // a separator was typed after the month
}

function read(text: string): Written {
  const iso = YEAR_FIRST.exec(text.trim()) ?? YEAR_FIRST_UNSEPARATED.exec(text.trim());
  if (iso?.[1] && iso[2]) return { month: iso[2].padStart(2, "0"), year: iso[1], separated: true };
  const split = MONTH_FIRST.exec(text);
  if (split) return separatedMonth(split[1] ?? "", split[2] ?? "", split[3] ?? "");
  const digits = digitsOf(text);
  const first = digits.charAt(0);
  const isOneDigit = first > TWO_MONTH_DIGITS_FROM || (digits.length === 2 && Number(digits) > 12);
  if (isOneDigit) return { month: `0${first}`, year: digits.slice(1), separated: false };
  return { month: digits.slice(0, 2), year: digits.slice(2), separated: false };
}

/** A lone `1` before our own separator is being corrected, so it waits; before a typed one, not. */
function separatedMonth(month: string, separator: string, year: string): Written {
  const waits = separator === SEPARATOR && month <= TWO_MONTH_DIGITS_FROM;
  const isOneDigit = month.length === 1 && month !== "0" && !waits;
  return { month: isOneDigit ? `0${month}` : month, year, separated: true };
}

/** A year of four digits is shown as two, once it is there: the field reads `MM / YY`. */
function shownYear(year: string): string {
  const four = year.slice(0, 4);
  if (!four.startsWith("20")) return four.slice(0, 2);
  return four.length === 4 ? four.slice(2) : four;
}

/** Rewrites what the field holds; `deleting` keeps a separator from coming back at once. */
export function formatExpiry(text: string, caret: number, deleting: boolean): Text {
  const ascii = withAsciiDigits(text);
  const { month, year, separated } = read(ascii);
  const shown = shownYear(year);
  const monthIsWhole = month.length === 2;
  const parted = shown !== "" || (!deleting && (monthIsWhole || (separated && month !== "")));
  const formatted = month + (parted ? SEPARATOR : "") + shown;
  if (caret >= text.length) return { text: formatted, caret: formatted.length };
  const before = digitsOf(ascii.slice(0, caret)).length;
  const put = digitsOf(ascii).startsWith("0") || !month.startsWith("0") ? 0 : 1;
  return { text: formatted, caret: indexAfter(formatted, before === 0 ? 0 : before + put) };
}

/** Completes a lone `1` to `01` when the field is left. */
export function leaveExpiry(text: string): string {
  const alone = /^([1-9])(?: \/ (\d*))?$/.exec(text);
  return alone ? `0${alone[1]}${SEPARATOR}${alone[2] ?? ""}` : text;
}

/** Gives month and year, if both are there. */
export function parseExpiry(text: string): Expiry | undefined {
  const { month, year } = read(withAsciiDigits(text));
  if (!/^(?:[1-9]|\d\d)$/.test(month) || (year.length !== 2 && year.length !== 4)) return undefined;
  return { month: Number(month), year: year.length === 2 ? CENTURY + Number(year) : Number(year) };
}

function monthsAfter(expiry: Expiry, atMs: number): number {
  const here = new Date(atMs - UTC_MINUS_12_MS);
  return (expiry.year - here.getUTCFullYear()) * 12 + expiry.month - 1 - here.getUTCMonth();
}

/** Says what is wrong with a date, as the gateway would. */
export function expiryError(expiry: Expiry, atMs: number): FieldErrorCode | undefined {
  if (expiry.month < 1 || expiry.month > 12) return "expiry_invalid";
  const isEndless = expiry.year === NO_EXPIRY.year && expiry.month === NO_EXPIRY.month;
  const ahead = monthsAfter(expiry, atMs);
  if (!isEndless && ahead > MONTHS_AHEAD_MAX) return "expiry_too_far";
  return ahead < 0 ? "expiry_past" : undefined;
}

/** Whether the field holds all that it can: one more digit would push another out. */
export function isExpiryFull(text: string): boolean {
  const { month, year } = read(withAsciiDigits(text));
  return month.length === 2 && year.length === 2 && year !== "20";
}

export function judgeExpiry(text: string, atMs: number): Verdict {
  const { month, year } = read(withAsciiDigits(text));
  if (month === "" && year === "") return { complete: false, reason: "incomplete" };
  const monthIsWrong = month.length === 2 && (Number(month) < 1 || Number(month) > 12);
  if (monthIsWrong) return { complete: false, error: "expiry_invalid", reason: "expiry_invalid" };
  const expiry = parseExpiry(text);
  if (!expiry) return { complete: false, reason: "incomplete" };
  const reason = expiryError(expiry, atMs);
  if (!reason) return { complete: true };
  // `20` may be how a year of four digits begins.
  return year === "20" ? { complete: false, reason } : { complete: false, error: reason, reason };
}
