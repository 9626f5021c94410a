/**
 * Which brand a number is of, from the table that the gateway itself uses. Pure.
 *
 * Here lives the look-up, and the guess while a number is being typed. What never may: a range
 * written by hand; `brands.json` is made by `python -m gateway.checkout.brand_table`.
 */

import table from "../brands.json";

export interface Brand {
  readonly name: string;
  readonly lengths: readonly number[];
  readonly cvcLengths: readonly number[]; // a 0 says that it may have no code
  readonly luhnRequired: boolean;
}

export const DIGITS_MIN = 12;
export const DIGITS_MAX = 19;
/** Up to here a longer prefix of another brand keeps the guess open: `6` is nobody's yet. */
const TELLING_DIGITS = 4;

const COUNTS = Array.from({ length: DIGITS_MAX - DIGITS_MIN + 1 }, (_, more) => DIGITS_MIN + more);

export const UNKNOWN: Brand = {
  name: "unknown",
  lengths: COUNTS,
  cvcLengths: [3],
  luhnRequired: true,
};

interface Rule {
  readonly brand: Brand;
  readonly counts: readonly number[];
}

function indexed(): ReadonlyMap<string, readonly Rule[]> {
  const rules = new Map<string, Rule[]>();
  for (const row of table) {
    const [name, lengths, cvcLengths, luhnRequired, counts, prefixes] = row as unknown as readonly [
      string,
      readonly number[],
      readonly number[],
      boolean,
      readonly number[],
      string,
    ];
    const brand = { name, lengths, cvcLengths, luhnRequired };
    const rule = { brand, counts: counts.length > 0 ? counts : COUNTS };
    for (const prefix of prefixes.split(" ")) {
      const found = rules.get(prefix);
      if (found) found.push(rule);
      else rules.set(prefix, [rule]);
    }
  }
  return rules;
}

const RULES = indexed();
const PREFIX_DIGITS_MAX = Math.max(...Array.from(RULES.keys(), (prefix) => prefix.length));

function longestMatch(digits: string, fits: (rule: Rule) => boolean): Brand | undefined {
  for (let width = Math.min(PREFIX_DIGITS_MAX, digits.length); width > 0; width -= 1) {
    const rule = RULES.get(digits.slice(0, width))?.find(fits);
    if (rule) return rule.brand;
  }
  return undefined;
}

function brandAt(digits: string, count: number): Brand {
  return longestMatch(digits, (rule) => rule.counts.includes(count)) ?? UNKNOWN;
}

/** Tells the brand of a whole number. */
export function brandOf(digits: string): Brand {
  return brandAt(digits, digits.length);
}

function isStillOpen(digits: string, brand: Brand): boolean {
  for (const [prefix, rules] of RULES) {
    const goesOn = prefix.length > digits.length && prefix.length <= TELLING_DIGITS;
    if (goesOn && prefix.startsWith(digits) && rules.some((rule) => rule.brand.name !== brand.name))
      return true;
  }
  return false;
}

/** Tells the brand of what is typed so far, if nothing that may follow is likely to change it. */
export function brandAsTyped(digits: string): Brand {
  if (digits.length >= DIGITS_MIN && lengthsFrom(digits).includes(digits.length))
    return brandOf(digits);
  const brand = longestMatch(digits, (rule) => rule.counts.some((each) => each >= digits.length));
  if (!brand || (digits.length < TELLING_DIGITS && isStillOpen(digits, brand))) return UNKNOWN;
  return brand;
}

/** Gives all digit counts that a number with this beginning may have, of whatever brand. */
export function lengthsFrom(digits: string): readonly number[] {
  return COUNTS.filter((count) => brandAt(digits, count).lengths.includes(count));
}

/** ISO/IEC 7812-1, annex B. */
export function passesLuhn(digits: string): boolean {
  let total = 0;
  for (let place = 0; place < digits.length; place += 1) {
    const digit = Number(digits.charAt(digits.length - 1 - place));
    const value = place % 2 === 1 ? digit * 2 : digit;
    total += value > 9 ? value - 9 : value;
  }
  return total % 10 === 0;
}
