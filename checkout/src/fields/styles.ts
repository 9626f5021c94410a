/**
 * Which CSS a merchant's page may give a field, and in what form. Pure.
 *
 * Here lives the allow-list: properties by name, values by strict patterns. What never may pass:
 * a URL (it would tell a third party that a field is shown, or what is typed), an escape, a
 * second declaration, and a property that moves or covers something.
 */

import type { Style } from "../messages.js";

const NUMBER = "-?\\d{1,4}(?:\\.\\d{1,4})?";
const LENGTH = `(?:0|${NUMBER}(?:px|rem|em|%))`;
const COLOR =
  "(?:#[0-9a-fA-F]{3,8}|[a-zA-Z]{3,30}|(?:rgb|rgba|hsl|hsla|oklch|oklab)\\([0-9., %/deg-]{1,60}\\))";
const LINE = "(?:none|solid|dashed|dotted|double)";
const SHADOW = `(?:inset )?${LENGTH} ${LENGTH}(?: ${LENGTH}){0,2}(?: ${COLOR})?`;

const whole = (pattern: string): RegExp => new RegExp(`^(?:${pattern})$`);

const IS_COLOR = whole(COLOR);
const IS_LENGTHS = whole(`${LENGTH}(?: ${LENGTH}){0,3}`);
const IS_BORDER = whole(`${LINE}|${LENGTH} ${LINE}(?: ${COLOR})?`);
const IS_LINE = whole(`${LINE}(?: ${LINE}){0,3}`);

/** Each allowed property with what its value must look like. */
const ALLOWED: ReadonlyMap<string, RegExp> = new Map([
  ["color", IS_COLOR],
  ["background-color", IS_COLOR],
  ["caret-color", IS_COLOR],
  ["font-size", IS_LENGTHS],
  ["font-weight", whole("normal|bold|[1-9]00")],
  ["font-style", whole("normal|italic")],
  ["font-family", whole("[A-Za-z0-9 ,'\"-]{1,200}")],
  ["letter-spacing", whole(`normal|${LENGTH}`)],
  ["line-height", whole(`normal|\\d(?:\\.\\d{1,3})?|${LENGTH}`)],
  ["text-align", whole("start|end|left|right|center")],
  ["opacity", whole("0|1|0?\\.\\d{1,3}")],
  ["padding", IS_LENGTHS],
  ["padding-top", IS_LENGTHS],
  ["padding-right", IS_LENGTHS],
  ["padding-bottom", IS_LENGTHS],
  ["padding-left", IS_LENGTHS],
  ["border", IS_BORDER],
  ["border-top", IS_BORDER],
  ["border-right", IS_BORDER],
  ["border-bottom", IS_BORDER],
  ["border-left", IS_BORDER],
  ["border-color", IS_COLOR],
  ["border-style", IS_LINE],
  ["border-width", IS_LENGTHS],
  ["border-radius", IS_LENGTHS],
  ["box-shadow", whole(`none|${SHADOW}(?:, ?${SHADOW}){0,3}`)],
]);

/** What a placeholder may differ in; each reaches it through a custom property. */
export const PLACEHOLDER_PROPERTIES: readonly string[] = ["color", "opacity", "font-style"];

export const ALLOWED_PROPERTIES: readonly string[] = Array.from(ALLOWED.keys());

const VALUE_LENGTH_MAX = 200;

/** Writes `backgroundColor` as CSS does. */
function cssName(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** Keeps what is allowed, under CSS's own names, and drops the rest. */
export function allowed(style: Style | undefined): ReadonlyMap<string, string> {
  const kept = new Map<string, string>();
  for (const [name, value] of Object.entries(style ?? {})) {
    const property = cssName(name);
    const isKept = value.length <= VALUE_LENGTH_MAX && ALLOWED.get(property)?.test(value);
    if (isKept === true) kept.set(property, value);
  }
  return kept;
}
