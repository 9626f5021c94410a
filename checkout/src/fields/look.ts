/**
 * How a frame looks and what it says: language, colors, the merchant's own styles and labels.
 *
 * Styles reach the document through CSSOM alone, after `styles.ts`: an attribute or a sheet made
 * of the page's text would be refused by the frame's policy, and rightly.
 */

import locales from "panward:locales";
import type { Look, Styles } from "../messages.js";
import type { PartView } from "./part.js";
import { ALLOWED_PROPERTIES, PLACEHOLDER_PROPERTIES, allowed } from "./styles.js";
import { type Words, chooseLanguage } from "./words.js";

interface Spoken {
  readonly language: string;
  readonly words: Words;
}

/** The wanted language, else the browser's, else English. */
export function spoken(locale: string | undefined): Spoken {
  const wanted = locale === undefined ? navigator.languages : [locale, ...navigator.languages];
  const language = chooseLanguage(Object.keys(locales), wanted);
  return { language, words: locales[language] as Words };
}

function speak(look: Look, parts: readonly PartView[]): void {
  const { language, words } = spoken(look.locale);
  const root = document.documentElement;
  root.lang = language;
  root.dir = words.dir;
  const [only, another] = parts;
  document.title = another || !only ? words.card : words.labels[only.part];
  document.querySelector("[role=group]")?.setAttribute("aria-label", words.card);
  for (const view of parts) {
    const { part } = view;
    view.speak({ words, label: look.labels?.[part], placeholder: look.placeholders?.[part] });
  }
}

/** Puts on a part what its state asks for, the later over the earlier. */
export function dress(view: PartView, styles: Styles | undefined): void {
  const { state, box, hasFocus } = view;
  const worn = [
    styles?.base,
    state === "complete" ? styles?.complete : undefined,
    state === "invalid" ? styles?.invalid : undefined,
    hasFocus ? styles?.focus : undefined,
  ];
  for (const property of ALLOWED_PROPERTIES) box.style.removeProperty(property);
  for (const style of worn)
    for (const [property, value] of allowed(style)) box.style.setProperty(property, value);
}

function dressPlaceholder(styles: Styles | undefined): void {
  const wanted = allowed(styles?.placeholder);
  const { style } = document.documentElement;
  for (const property of PLACEHOLDER_PROPERTIES) {
    const value = wanted.get(property);
    if (value === undefined) style.removeProperty(`--placeholder-${property}`);
    else style.setProperty(`--placeholder-${property}`, value);
  }
}

export function applyLook(look: Look, parts: readonly PartView[]): void {
  document.documentElement.dataset["scheme"] = look.scheme ?? "auto";
  dressPlaceholder(look.styles);
  speak(look, parts);
  for (const view of parts) {
    view.input.disabled = look.disabled === true;
    dress(view, look.styles);
  }
}
