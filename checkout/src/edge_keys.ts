/**
 * The gateway's sealing keys as it publishes them: read, and chosen. Pure.
 *
 * What never may live here: cryptography (that is `seal.ts`, which is large), and a request.
 */

export interface EdgeKey {
  readonly kid: string;
  readonly publicKey: string; // base64 of 32 bytes
  readonly notBefore: string; // RFC 3339, UTC, whole seconds
  readonly notAfter: string;
  readonly signature: string; // base64 of 64 bytes
}

export interface EdgeKeys {
  readonly tenant: string | undefined; // of the publishable key, if one was presented
  readonly origin: string; // of the deployment's ledger, part of what is signed
  readonly keys: readonly EdgeKey[]; // newest first
  readonly serverSeconds: number; // the gateway's clock when it answered, Unix seconds
}

const KEYS_MAX = 32;
const KID = /^ek_[0-9a-hjkmnp-tv-z]{26}$/;
const BYTES_32 = /^[A-Za-z0-9+/]{43}=$/;
const BYTES_64 = /^[A-Za-z0-9+/]{86}==$/;
const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/;
const TENANT = /^t_[0-9A-Za-z_-]{1,64}$/;
const ORIGIN = /^[A-Za-z0-9._/:-]{1,200}$/;

type Members = Readonly<Record<string, unknown>>;

function form(value: unknown, pattern: RegExp): string {
  if (typeof value !== "string" || !pattern.test(value)) throw new TypeError("not edge keys");
  return value;
}

function edgeKey(value: unknown): EdgeKey {
  if (typeof value !== "object" || value === null) throw new TypeError("not edge keys");
  const from = value as Members;
  return {
    kid: form(from["kid"], KID),
    publicKey: form(from["public_key"], BYTES_32),
    notBefore: form(from["not_before"], INSTANT),
    notAfter: form(from["not_after"], INSTANT),
    signature: form(from["signature"], BYTES_64),
  };
}

/** Reads the gateway's answer; `date` is its `Date` header. Throws TypeError for anything else. */
export function readEdgeKeys(answer: unknown, date: string | null, nowMs: number): EdgeKeys {
  if (typeof answer !== "object" || answer === null) throw new TypeError("not edge keys");
  const from = answer as Members;
  const keys = from["keys"];
  if (!Array.isArray(keys) || keys.length > KEYS_MAX) throw new TypeError("not edge keys");
  const answered = Date.parse(date ?? "");
  return {
    tenant: from["tenant"] === undefined ? undefined : form(from["tenant"], TENANT),
    origin: form(from["origin"], ORIGIN),
    keys: keys.map(edgeKey),
    serverSeconds: Math.floor((Number.isNaN(answered) ? nowMs : answered) / 1000),
  };
}

/** Gives the newest key whose time it is by the gateway's own clock. */
export function usableKey(published: EdgeKeys): EdgeKey | undefined {
  const nowMs = published.serverSeconds * 1000;
  return published.keys.find(
    (key) => Date.parse(key.notBefore) <= nowMs && nowMs < Date.parse(key.notAfter),
  );
}
