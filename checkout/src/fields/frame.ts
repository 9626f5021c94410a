/**
 * What a frame believes of a message, in this order: source, origin, schema, nonce.
 *
 * Here live hand-written readers: what they return is made anew of checked values, so nothing of
 * the sender's objects is used past this file. What never may: an action.
 */

import { type Look, PROTOCOL, type Part, type Style, type Styles, type ToFrame } from "../messages.js";

const TEXT_MAX = 200;
const STYLE_MAX = 40;
const MILLISECONDS_MIN = 1;
const MILLISECONDS_MAX = 120_000;
const PARTS: readonly Part[] = ["number", "expiry", "cvc"];
const SCHEMES = ["light", "dark", "auto"] as const;
const STYLE_KEYS = ["base", "focus", "invalid", "complete", "placeholder"] as const;

/** Who the page is, as the gateway (not the page) says it. */
export interface Page {
  readonly source: Window;
  readonly origin: string;
  readonly nonce: string;
}

class Refused extends Error {}

type Unread = Readonly<Record<string, unknown>>;

function object(value: unknown): Unread {
  const isPlain = typeof value === "object" && value !== null && !Array.isArray(value);
  if (!isPlain) throw new Refused();
  return value as Unread;
}

function own(from: Unread, name: string): unknown {
  return Object.prototype.hasOwnProperty.call(from, name) ? from[name] : undefined;
}

function text(value: unknown): string {
  if (typeof value !== "string" || value.length > TEXT_MAX) throw new Refused();
  return value;
}

function whole(value: unknown): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) throw new Refused();
  return value;
}

function oneOf<T extends string>(value: unknown, choices: readonly T[]): T {
  const found = choices.find((choice) => choice === value);
  if (found === undefined) throw new Refused();
  return found;
}

function optional<T>(value: unknown, read: (value: unknown) => T): T | undefined {
  return value === undefined ? undefined : read(value);
}

function style(value: unknown): Style {
  const entries = Object.entries(object(value));
  if (entries.length > STYLE_MAX) throw new Refused();
  return Object.fromEntries(entries.map(([name, each]) => [text(name), text(each)]));
}

function styles(value: unknown): Styles {
  const from = object(value);
  const read: Record<string, Style> = {};
  for (const key of STYLE_KEYS) {
    const found = optional(own(from, key), style);
    if (found) read[key] = found;
  }
  return read;
}

function byPart(value: unknown): Partial<Record<Part, string>> {
  const from = object(value);
  const read: Partial<Record<Part, string>> = {};
  for (const part of PARTS) {
    const found = optional(own(from, part), text);
    if (found !== undefined) read[part] = found;
  }
  return read;
}

function boolean(value: unknown): boolean {
  if (typeof value !== "boolean") throw new Refused();
  return value;
}

function without<T extends object>(value: T): T {
  const kept = Object.entries(value).filter(([, each]) => each !== undefined);
  return Object.fromEntries(kept) as T;
}

function look(from: Unread): Look {
  return without({
    locale: optional(own(from, "locale"), text),
    scheme: optional(own(from, "scheme"), (value) => oneOf(value, SCHEMES)),
    styles: optional(own(from, "styles"), styles),
    labels: optional(own(from, "labels"), byPart),
    placeholders: optional(own(from, "placeholders"), byPart),
    disabled: optional(own(from, "disabled"), boolean),
  } as Look);
}

function milliseconds(value: unknown): number {
  return Math.min(Math.max(whole(value), MILLISECONDS_MIN), MILLISECONDS_MAX);
}

const READERS: Readonly<Record<ToFrame["type"], (from: Unread) => ToFrame>> = {
  init: (from) => {
    const verifyKey = optional(own(from, "verifyKey"), text);
    const init = { type: "init", key: text(own(from, "key")), ...look(from) } as const;
    return verifyKey === undefined ? init : { ...init, verifyKey };
  },
  update: (from) => ({ type: "update", ...look(from) }),
  focus: (from) => {
    const part = optional(own(from, "part"), (value) => oneOf(value, PARTS));
    return part === undefined ? { type: "focus" } : { type: "focus", part };
  },
  clear: () => ({ type: "clear" }),
  tokenize: (from) => ({
    type: "tokenize",
    id: whole(own(from, "id")),
    milliseconds: milliseconds(own(from, "milliseconds")),
  }),
  attach_cvc: (from) => ({
    type: "attach_cvc",
    id: whole(own(from, "id")),
    token: text(own(from, "token")),
    milliseconds: milliseconds(own(from, "milliseconds")),
  }),
};

const TYPES = Object.keys(READERS) as readonly ToFrame["type"][];

interface Received {
  readonly message: ToFrame;
  readonly nonce: string;
}

function read(data: unknown): Received {
  const from = object(data);
  if (own(from, "panward") !== PROTOCOL) throw new Refused();
  const nonce = text(own(from, "nonce"));
  return { message: READERS[oneOf(own(from, "type"), TYPES)](from), nonce };
}

/** Gives the message if it is the page's own, and nothing at all otherwise. */
export function believed(event: MessageEvent<unknown>, page: Page): ToFrame | undefined {
  if (event.source !== page.source || event.origin !== page.origin) return undefined;
  try {
    const { message, nonce } = read(event.data);
    return nonce === page.nonce ? message : undefined;
  } catch (error) {
    if (error instanceof Refused) return undefined;
    throw error;
  }
}
