/**
 * A language's words, and which language a page gets.
 *
 * What lives here: the shape of a file of `locales/`, and the choice. A new language is one file
 * there. What never may: words, and anything but words in such a file.
 */

import type { ErrorCode, FieldErrorCode, Part } from "../messages.js";

export interface Words {
  readonly dir: "ltr" | "rtl";
  readonly card: string;
  readonly labels: Readonly<Record<Part, string>>;
  readonly placeholders: Readonly<Record<Part, string>>;
  readonly brand: string; // read to those who do not see the badge; {brand}
  readonly missing: Readonly<Record<Part, string>>;
  readonly fields: Readonly<Record<Exclude<FieldErrorCode, "incomplete">, string>>;
  readonly unfinished: Readonly<Record<Part, string>>;
  readonly failures: Readonly<Record<Exclude<ErrorCode, "usage">, string>>;
}

const LANGUAGE_OF_LAST_RESORT = "en";

/** Picks the first wanted language there is, `de` for `de-AT`. */
export function chooseLanguage(there: readonly string[], wanted: readonly string[]): string {
  for (const tag of wanted) {
    const lower = tag.toLowerCase();
    const found = there.find((each) => each === lower || each === lower.split("-")[0]);
    if (found !== undefined) return found;
  }
  return LANGUAGE_OF_LAST_RESORT;
}

/** Says what is wrong with a part. */
export function partMessage(
  words: Words,
  part: Part,
  code: FieldErrorCode,
  isEmpty: boolean,
): string {
  if (code !== "incomplete") return words.fields[code];
  return isEmpty ? words.missing[part] : words.unfinished[part];
}
