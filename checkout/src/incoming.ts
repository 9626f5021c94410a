/**
 * Reads what a frame says: a message of the schema, copied member by member, or nothing.
 *
 * What lives here is pure. A member that the schema does not have is left behind, a value of
 * another type or form refuses the whole message. The forms are narrow on purpose: were a frame
 * ever to say a card number, there is no member of a result that it would fit in.
 */

import { PROTOCOL } from "./messages.js";
import type {
  Change,
  ErrorCode,
  Failure,
  FieldErrorCode,
  MaskedCard,
  Part,
  ToPage,
} from "./messages.js";

type Members = Readonly<Record<string, unknown>>;

const TEXT_CHARACTERS_MAX = 300;
const TOKEN = /^pwt_(test|live)_[0-9a-hjkmnp-tv-z]{28}$/;
const WORD = /^[a-z][a-z0-9_.]{0,39}$/;
const BRAND = /^[a-z_]{1,32}$/;
const LAST4 = /^[0-9]{4}$/;
const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)$/;
const REQUEST_ID = /^[0-9A-Za-z_-]{1,64}$/;

/** As tables, so that the compiler sees that none is missing. */
const PARTS: Readonly<Record<Part, 1>> = { number: 1, expiry: 1, cvc: 1 };
const FIELD_ERRORS: Readonly<Record<FieldErrorCode, 1>> = {
  incomplete: 1,
  number_luhn: 1,
  number_length: 1,
  expiry_past: 1,
  expiry_invalid: 1,
  expiry_too_far: 1,
  cvc_length: 1,
};
/** `usage` is this page's own to say. */
const ERRORS: Readonly<Record<Exclude<ErrorCode, "usage">, 1>> = {
  incomplete: 1,
  card_refused: 1,
  network: 1,
  timeout: 1,
  rate_limited: 1,
  key_refused: 1,
  origin_refused: 1,
  token_unknown: 1,
  tampered: 1,
  not_ready: 1,
  unavailable: 1,
};

/** Ends the reading of a message that is not one: never seen outside this file. */
class Refused extends Error {}

function must<T>(fits: boolean, value: unknown): T {
  if (!fits) throw new Refused();
  return value as T;
}

function members(value: unknown): Members {
  return must(typeof value === "object" && value !== null, value);
}

function yesNo(value: unknown): boolean {
  return must(typeof value === "boolean", value);
}

function whole(value: unknown, least: number, most: number): number {
  const number = must<number>(Number.isInteger(value), value);
  return must(number >= least && number <= most, number);
}

function form(value: unknown, pattern: RegExp): string {
  return must(typeof value === "string" && pattern.test(value), value);
}

function text(value: unknown): string {
  return must(typeof value === "string" && value.length <= TEXT_CHARACTERS_MAX, value);
}

function oneOf<T extends string>(value: unknown, table: Readonly<Record<T, 1>>): T {
  const word = must<string>(typeof value === "string", value);
  return must(Object.prototype.hasOwnProperty.call(table, word), word);
}

/** The member under its name if it is there, for a spread. */
function optional<N extends string, T>(
  from: Members,
  name: N,
  read: (value: unknown) => T,
): { readonly [name in N]?: T } {
  const there = from[name] === undefined ? {} : { [name]: read(from[name]) };
  return there as { readonly [name in N]?: T };
}

const part = (value: unknown): Part => oneOf(value, PARTS);

function change(from: Members): Change {
  return {
    field: part(from["field"]),
    brand: form(from["brand"], BRAND),
    empty: yesNo(from["empty"]),
    complete: yesNo(from["complete"]),
    ...optional(from, "error", (value) => oneOf(value, FIELD_ERRORS)),
    ...optional(from, "message", text),
  };
}

function card(from: Members): MaskedCard {
  return Object.freeze({
    id: form(from["id"], TOKEN),
    brand: form(from["brand"], BRAND),
    last4: form(from["last4"], LAST4),
    exp_month: whole(from["exp_month"], 1, 12),
    exp_year: whole(from["exp_year"], 2000, 2199),
    created_at: form(from["created_at"], INSTANT),
    expires_at: from["expires_at"] === null ? null : form(from["expires_at"], INSTANT),
    single_use: yesNo(from["single_use"]),
  });
}

function failure(from: Members): Failure {
  return {
    code: oneOf(from["code"], ERRORS),
    message: text(from["message"]),
    retryable: yesNo(from["retryable"]),
    ...optional(from, "field", part),
    ...optional(from, "reason", (value) => form(value, WORD)),
    ...optional(from, "requestId", (value) => form(value, REQUEST_ID)),
  };
}

function message(from: Members): ToPage {
  const id = (): number => whole(from["id"], 1, Number.MAX_SAFE_INTEGER);
  const type = from["type"];
  switch (type) {
    case "loaded":
    case "ready":
    case "submit":
      return { type };
    case "focus":
    case "blur":
      return { type, field: part(from["field"]) };
    case "change":
      return { type, ...change(from) };
    case "height":
      return { type, pixels: must(Number.isFinite(from["pixels"]), from["pixels"]) };
    case "result":
      return { type, id: id(), card: card(members(from["card"])) };
    case "done":
      return { type, id: id() };
    case "failure":
      return { type, id: id(), error: failure(members(from["error"])) };
    default:
      throw new Refused();
  }
}

export function read(data: unknown, nonce: string): ToPage | undefined {
  try {
    const from = members(data);
    must(from["panward"] === PROTOCOL && from["nonce"] === nonce, from);
    return message(from);
  } catch (refused) {
    if (refused instanceof Refused) return undefined;
    throw refused;
  }
}

export function isToken(value: unknown): value is string {
  return typeof value === "string" && TOKEN.test(value);
}
