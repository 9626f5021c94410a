/**
 * Digits in text that a person typed or pasted, and where the caret belongs among them. Pure.
 *
 * Here lives what number, expiry and code share. What never may: the document, a brand, a date.
 */

export interface Text {
  readonly text: string;
  readonly caret: number; // an index into text, as `selectionStart` is
}

/** Zeros of the scripts whose digits a keyboard or a copied page may bring. */
const ZEROS = [0x30, 0x660, 0x6f0, 0x966, 0xff10];

function asciiDigit(character: string): string {
  const code = character.charCodeAt(0);
  for (const zero of ZEROS) if (code >= zero && code <= zero + 9) return String(code - zero);
  return "";
}

/** Gives the ASCII digits in it and drops all else: separators, spaces, line ends, letters. */
export function digitsOf(text: string): string {
  let digits = "";
  for (const character of text) digits += asciiDigit(character);
  return digits;
}

/** Writes digits of other scripts as ASCII and leaves all else as it is. */
export function withAsciiDigits(text: string): string {
  let written = "";
  for (const character of text) written += asciiDigit(character) || character;
  return written;
}

/** Gives the index just after the digit that is `count`-th in text; 0 for none. */
export function indexAfter(text: string, count: number): number {
  if (count <= 0) return 0;
  let seen = 0;
  for (let index = 0; index < text.length; index += 1) {
    if (asciiDigit(text.charAt(index)) !== "" && (seen += 1) === count) return index + 1;
  }
  return text.length;
}

/** Moves the caret past separators before a deletion, so that it takes a digit, not a space. */
export function stepOver(text: string, caret: number, inputType: string): number {
  let at = caret;
  if (inputType === "deleteContentBackward") {
    while (at > 0 && asciiDigit(text.charAt(at - 1)) === "") at -= 1;
  } else if (inputType === "deleteContentForward") {
    while (at < text.length && asciiDigit(text.charAt(at)) === "") at += 1;
  }
  return at;
}
