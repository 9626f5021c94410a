/**
 * One input with its label, mark and error: number, expiry or code.
 *
 * Here lives what happens between a key and a verdict. The input is the only place where what is
 * typed stands: it is read when it is needed and kept nowhere. What never may live here: a
 * message, a request, and a value in an attribute.
 */

import type { FieldErrorCode, Part } from "../messages.js";
import { brandName, codeDrawing, frontDrawing } from "./badge.js";
import { DIGITS_MIN, UNKNOWN, brandAsTyped } from "./brands.js";
import { ANY_CODE_LENGTHS, codeLengthsOf, formatCvc, judgeCvc } from "./cvc.js";
import { type Text, digitsOf, stepOver } from "./digits.js";
import { formatExpiry, isExpiryFull, judgeExpiry, leaveExpiry } from "./expiry.js";
import { type Verdict, formatNumber, isNumberFull, judgeNumber } from "./number.js";
import { type Words, partMessage } from "./words.js";

const AUTOCOMPLETE: Readonly<Record<Part, AutoFill>> = {
  number: "cc-number",
  expiry: "cc-exp",
  cvc: "cc-csc",
};

/** Who is told what happens to a part. */
export interface PartListener {
  changed(view: PartView): void;
  focused(view: PartView): void;
  left(view: PartView): void;
  entered(): void;
}

export interface PartWords {
  readonly words: Words;
  readonly label: string | undefined; // "" hides it from sight, not from a screen reader
  readonly placeholder: string | undefined;
}

export type State = "empty" | "typing" | "complete" | "invalid";

function made<K extends keyof HTMLElementTagNameMap>(
  name: K,
  className: string,
): HTMLElementTagNameMap[K] {
  const element = document.createElement(name);
  element.className = className;
  return element;
}

export class PartView {
  readonly element = made("div", "part");
  readonly box = made("div", "box");
  readonly input = made("input", "input");
  private readonly label = made("label", "label");
  private readonly badge = made("span", "badge");
  private readonly note = made("p", "error");
  private words: Words;
  private blamed: FieldErrorCode | undefined; // said by the one who tokenizes, till the next key
  private wasLeft = false;
  /** By events: `activeElement` stays when the focus goes to another frame. */
  hasFocus = false;
  private codeLengths = ANY_CODE_LENGTHS;
  private drawn = "";

  constructor(
    readonly part: Part,
    words: Words,
    private readonly listener: PartListener,
  ) {
    this.words = words;
    this.label.htmlFor = part;
    this.badge.id = `${part}-badge`;
    this.note.id = `${part}-error`;
    this.note.setAttribute("role", "status"); // polite: a key pressed after it is not drowned out
    this.element.dataset["part"] = part;
    this.prepareInput();
    this.box.append(this.input);
    if (part !== "expiry") this.box.append(this.badge);
    this.element.append(this.label, this.box, this.note);
    this.listen();
    this.show();
  }

  private prepareInput(): void {
    const { input, part } = this;
    input.id = part;
    input.name = part;
    input.type = "text";
    input.inputMode = "numeric";
    input.autocomplete = AUTOCOMPLETE[part];
    input.spellcheck = false;
    input.dir = "ltr"; // digits and slashes run so in every language
    input.setAttribute("autocorrect", "off");
    input.setAttribute("autocapitalize", "off");
    input.setAttribute("aria-required", "true");
    const described = part === "expiry" ? this.note.id : `${this.badge.id} ${this.note.id}`;
    input.setAttribute("aria-describedby", described);
  }

  private listen(): void {
    const { input } = this;
    input.addEventListener("beforeinput", (event) => this.beforeInput(event));
    input.addEventListener("input", (event) => {
      if (event instanceof InputEvent && event.isComposing) this.judged();
      else this.typed(event);
    });
    input.addEventListener("compositionend", (event) => this.typed(event));
    input.addEventListener("focus", () => {
      this.hasFocus = true;
      this.show();
      this.listener.focused(this);
    });
    input.addEventListener("blur", () => this.leave());
    input.addEventListener("dragstart", (event) => event.preventDefault()); // onto the page, say
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      event.preventDefault();
      this.listener.entered();
    });
    this.box.addEventListener("pointerdown", (event) => {
      if (event.target === input) return;
      event.preventDefault();
      input.focus();
    });
  }

  private beforeInput(event: InputEvent): void {
    const { input } = this;
    const caret = input.selectionStart ?? 0;
    if (caret !== input.selectionEnd || event.isComposing) return;
    const over = stepOver(input.value, caret, event.inputType);
    if (over !== caret) input.setSelectionRange(over, over);
    const isWhole = this.part === "number" && digitsOf(event.data ?? "").length >= DIGITS_MIN;
    if (event.inputType === "insertFromPaste" && isWhole) input.select(); // it replaces the other
    if (event.inputType === "insertText" && this.isFull()) event.preventDefault();
  }

  private isFull(): boolean {
    const { value } = this.input;
    if (this.part === "number") return isNumberFull(value);
    if (this.part === "expiry") return isExpiryFull(value);
    return digitsOf(value).length >= Math.max(...this.codeLengths);
  }

  private typed(event: Event): void {
    const inputType = event instanceof InputEvent ? event.inputType : "";
    const { input } = this;
    const caret = input.selectionStart ?? input.value.length;
    this.write(this.formatted(input.value, caret, inputType.startsWith("delete")));
    this.judged();
  }

  /** Some keyboards compose till the field is left: what they compose counts, unformatted. */
  private judged(): void {
    this.blamed = undefined;
    this.wasLeft = !this.hasFocus; // autofill writes without a visit
    this.show();
    this.listener.changed(this);
  }

  private formatted(text: string, caret: number, deleting: boolean): Text {
    if (this.part === "number") return formatNumber(text, caret);
    if (this.part === "expiry") return formatExpiry(text, caret, deleting);
    return formatCvc(text, caret, this.codeLengths);
  }

  private write({ text, caret }: Text): void {
    const { input } = this;
    if (input.value === text) return;
    input.value = text;
    if (this.hasFocus) input.setSelectionRange(caret, caret);
  }

  private leave(): void {
    const { input } = this;
    if (this.part === "expiry") input.value = leaveExpiry(input.value);
    this.hasFocus = false;
    this.wasLeft = true;
    this.show();
    this.listener.left(this);
  }

  /** What is typed, at this moment. */
  read(): string {
    return this.input.value;
  }

  get isEmpty(): boolean {
    return this.input.value === "";
  }

  get brand(): string {
    const isNumber = this.part === "number";
    return (isNumber ? brandAsTyped(digitsOf(this.input.value)) : UNKNOWN).name;
  }

  get lengthsOfCode(): readonly number[] {
    return codeLengthsOf(digitsOf(this.input.value));
  }

  verdict(): Verdict {
    const { value } = this.input;
    if (this.part === "number") return judgeNumber(digitsOf(value));
    if (this.part === "expiry") return judgeExpiry(value, Date.now());
    return judgeCvc(digitsOf(value), this.codeLengths);
  }

  /** The error to show: at once if more typing cannot mend it, else when the field was left. */
  error(): FieldErrorCode | undefined {
    const verdict = this.verdict();
    if (verdict.complete) return undefined;
    const left = this.wasLeft && !this.isEmpty ? verdict.reason : undefined;
    return this.blamed ?? verdict.error ?? left;
  }

  errorMessage(): string {
    const code = this.error();
    return code === undefined ? "" : partMessage(this.words, this.part, code, this.isEmpty);
  }

  get state(): State {
    if (this.error() !== undefined) return "invalid";
    if (this.isEmpty) return "empty";
    return this.verdict().complete ? "complete" : "typing";
  }

  blame(reason: FieldErrorCode): void {
    this.blamed = reason;
    this.show();
    this.input.focus();
  }

  codeLengthsAre(lengths: readonly number[]): boolean {
    if (lengths.join() === this.codeLengths.join()) return false;
    this.codeLengths = lengths;
    this.show();
    return true;
  }

  clear(): void {
    this.input.value = "";
    this.blamed = undefined;
    this.wasLeft = false;
    this.show();
  }

  speak({ words, label, placeholder }: PartWords): void {
    this.words = words;
    this.label.textContent = label || words.labels[this.part];
    this.label.classList.toggle("unseen", label === "");
    this.input.placeholder = placeholder ?? words.placeholders[this.part];
    this.drawn = "";
    this.show();
  }

  /** Brings what is seen and what is announced up to what is typed. */
  show(): void {
    const { state } = this;
    this.element.dataset["state"] = state;
    this.input.setAttribute("aria-invalid", String(state === "invalid"));
    this.keepOffTheDisk();
    const message = this.errorMessage();
    if (this.note.textContent !== message) this.note.textContent = message;
    if (this.part === "number") this.showBrand();
    if (this.part === "cvc") this.showCode();
  }

  /**
   * Chromium writes what stands in a field to its session file, cards and codes too, unless the
   * field says `off`. An empty one still says what it is, and browsers fill in empty ones.
   */
  private keepOffTheDisk(): void {
    const { input, part } = this;
    const wanted = this.isEmpty ? AUTOCOMPLETE[part] : "off";
    if (input.autocomplete !== wanted) input.autocomplete = wanted;
  }

  private showBrand(): void {
    const { brand } = this;
    if (this.drawn === brand) return;
    this.drawn = brand;
    const isKnown = brand !== UNKNOWN.name;
    this.badge.classList.toggle("named", isKnown);
    this.badge.replaceChildren(isKnown ? brandName(brand) : frontDrawing());
    if (isKnown) {
      this.badge.setAttribute("role", "img");
      this.badge.setAttribute("aria-label", this.words.brand.replace("{brand}", brandName(brand)));
    } else {
      this.badge.removeAttribute("role");
      this.badge.removeAttribute("aria-label");
    }
  }

  private showCode(): void {
    const digits = Math.min(...this.codeLengths.filter((length) => length > 0));
    if (this.drawn === String(digits)) return;
    this.drawn = String(digits);
    this.badge.replaceChildren(codeDrawing(digits));
  }
}
